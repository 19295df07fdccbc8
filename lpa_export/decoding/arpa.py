"""The words of an ARPA file; its probabilities are KenLM's to read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lpa_export.errors import LpaError

__all__ = ["read_words"]

_GZIP = b"\x1f\x8b"
_KENLM = b"mmap lm http"
_DATA, _WORDS = b"\\data\\", b"\\1-grams:"
_LONGEST_LINE = 65536


def read_words(path: Path) -> list[str]:
    """What stands in the list of single words, marks of sentences too, plain or gzipped.

    Raises LpaError for a file that cannot be read or is no ARPA file.
    """
    try:
        with path.open("rb") as stream:
            first = stream.read(len(_KENLM))
            stream.seek(0)
            if first == _KENLM:
                raise LpaError(
                    f"{path}: a KenLM binary, whose words cannot be listed; give the ARPA file "
                    "that it was made from"
                )
            if not first.startswith(_GZIP):
                return list(_words(stream, path))
            with gzip.open(stream) as unpacked:
                return list(_words(unpacked, path))
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise LpaError(f"{path}: the language model cannot be read ({said})") from error


def _words(stream: IO[bytes] | gzip.GzipFile, path: Path) -> Iterator[str]:
    lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
    start = next((line for line in lines if line.strip()), b"")
    if start.strip() != _DATA or not any(line.strip() == _WORDS for line in lines):
        raise LpaError(f"{path}: expected an ARPA file (text, plain or .gz), found something else")
    for line in lines:
        fields = line.split()
        if line.startswith(b"\\"):
            return
        if len(fields) > 1:
            try:
                yield fields[1].decode()
            except UnicodeDecodeError as error:
                raise LpaError(f"{path}: expected words in UTF-8, found {fields[1]!r}") from error
