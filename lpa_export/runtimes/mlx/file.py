"""A ``.mlxfn`` as it lies on disk: who wrote it, what its primitives are, and where they run.

Layout (``mlx/export.cpp`` of MLX 0.32): texts are a length of eight bytes and their bytes; the file
begins with the version of MLX, the number of functions, a byte and the metadata. Each primitive is
its stream (index, kind of device, device; four bytes each) and its name. A function runs where it
was traced: a file that was written on a machine without a GPU keeps an app's GPU idle, so the kind
of device is set here.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lpa_export.runtimes import ArtifactError

__all__ = ["CPU", "GPU", "Header", "placed", "primitives", "read_header", "require_readable"]

CPU, GPU = 0, 1
"""Kinds of devices, as MLX counts them."""

_LONGEST_TEXT = 16 * 1024 * 1024
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# A stream of index 0 on device 0 of either kind, then the name of a primitive with its length.
_PRIMITIVE = re.compile(
    rb"\x00{4}([\x00\x01]\x00{3})\x00{4}([\x03-\x20])\x00{7}([A-Z][A-Za-z0-9]{2,31})", re.DOTALL
)


@dataclass(frozen=True)
class Header:
    """``version`` of MLX that wrote the file, how many ``functions`` it holds, its ``metadata``."""

    version: str
    functions: int
    metadata: str


def read_header(data: bytes) -> Header:
    """The beginning of the file. Raises ArtifactError in one line when it is no such file."""
    version, at = _text(data, 0)
    if not _VERSION.match(version) or len(data) < at + 5:
        raise ArtifactError("it is no MLX function")
    (functions,) = struct.unpack_from("<i", data, at)
    metadata, _ = _text(data, at + 5)
    if functions < 1:
        raise ArtifactError("it holds no function")
    return Header(version, functions, metadata)


def require_readable(header: Header, installed: str) -> None:
    """Raise ArtifactError for a file of a newer MLX than the one that is installed.

    Its format may have changed, and it is read without any check of what comes.
    """
    if _numbers(header.version) > _numbers(installed):
        raise ArtifactError(
            f"it was written by MLX {header.version}, which is newer than {installed}; "
            "pip install --upgrade mlx"
        )


def primitives(data: bytes) -> Counter[str]:
    """How often each primitive stands in the file, over all its functions."""
    return Counter(match[3][: match[2][0]].decode() for match in _found(data))


def _found(data: bytes) -> Iterator[re.Match[bytes]]:
    """Every primitive: what follows a name may look like more of it, but it is never shorter."""
    return (match for match in _PRIMITIVE.finditer(data) if len(match[3]) >= match[2][0])


def placed(data: bytes, kind: int) -> bytes:
    """The same functions on the first device of that kind."""
    wanted = struct.pack("<i", kind)
    made = bytearray(data)
    for match in _found(data):
        made[match.start(1) : match.end(1)] = wanted
    return bytes(made)


def _text(data: bytes, at: int) -> tuple[str, int]:
    """A text and where it ends."""
    if len(data) < at + 8:
        raise ArtifactError("it is truncated, or no MLX function")
    (length,) = struct.unpack_from("<Q", data, at)
    if length > _LONGEST_TEXT or len(data) < at + 8 + length:
        raise ArtifactError("it is truncated, or no MLX function")
    try:
        return data[at + 8 : at + 8 + length].decode("utf-8"), at + 8 + length
    except UnicodeDecodeError:
        raise ArtifactError("it is no MLX function") from None


def _numbers(version: str) -> tuple[int, ...]:
    found = _VERSION.match(version)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)
