"""Speech of the Hugging Face hub, streamed once into a folder with a manifest.

A source `hf:<dataset>/<configuration>/<split>`, for example `hf:librispeech_asr/clean/train.100`,
is read by the `datasets` package row by row: nothing but one row is in memory, and no copy of the
set goes through its cache. Each recording's bytes are written as they came and decoded later by
`lpa_export.formats.audio`, as any other file; nothing of a dataset is ever executed or unpickled.
Training needs every length to form its batches and reads the speech many times: hence the folder.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from lpa_export.errors import LpaError

__all__ = ["FOLDER", "PREFIX", "hub_source", "stream"]

PREFIX = "hf:"
FOLDER = Path("build") / "datasets"
MANIFEST = "manifest.jsonl"
TEXTS = ("text", "sentence", "transcription", "transcript")
SUFFIXES = frozenset((".flac", ".wav", ".mp3", ".ogg", ".opus"))

_PARTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def hub_source(source: Path | str) -> str | None:
    """The `hf:` part of a recipe's entry or of --data, None where there is none.

    A recipe's paths start at its own folder, so that the entry may stand behind that.
    """
    parts = PurePath(source).parts
    for place, part in enumerate(parts):
        if part.startswith(PREFIX):
            return "/".join(parts[place:])
    return None


def stream(source: str, folder: Path = FOLDER) -> Path:
    """Stream what `source` names into a subfolder of `folder`; returns its manifest.

    Rows that an earlier, killed call wrote are kept, and a finished set is not asked for again.
    Raises LpaError, in one line, for a source, a set or a row that cannot be used, without the
    `datasets` package, and when the disk is full.
    """
    parts = source.removeprefix(PREFIX).split("/")
    if len(parts) not in (3, 4) or not all(map(_PARTS.fullmatch, parts)):
        raise LpaError(
            f"{source}: expected hf:<dataset>/<configuration>/<split>, for example "
            "hf:librispeech_asr/clean/train.100 (the configuration may be 'default')"
        )
    out = folder / "--".join(parts)
    manifest = out / MANIFEST
    while os.environ.get("RANK", "0") != "0" and not manifest.is_file():
        time.sleep(1)  # the main process of a launched group writes it
    if not manifest.is_file():
        rows = _rows("/".join(parts[:-2]), parts[-2], parts[-1], source)
        try:
            _write(rows, out, source)
        except LpaError:
            raise
        except Exception as error:  # of the disk, the network or the set's format
            raise LpaError(
                f"{out}: streaming {source} broke off ({_first_line(error)}); what was written is "
                "kept: give the same command again"
            ) from error
    return manifest


def _rows(dataset: str, configuration: str, split: str, source: str) -> Any:
    """The set's rows, streamed, their audio not decoded."""
    try:
        import datasets
    except ImportError as error:
        raise LpaError(f"{source}: needs the datasets package: pip install datasets") from error
    try:
        rows = datasets.load_dataset(dataset, configuration, split=split, streaming=True)
        return rows.cast_column("audio", datasets.Audio(decode=False))
    except Exception as error:  # the package raises many kinds; all mean that it cannot be read
        raise LpaError(f"{source}: cannot be read from the hub ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _write(rows: Any, folder: Path, source: str) -> None:
    """Write recordings and manifest; the manifest has its name only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{MANIFEST}.partial"
    lines = partial.read_text(encoding="utf-8").splitlines() if partial.is_file() else []
    whole = [line for line in lines if line.endswith("}")]
    partial.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    with partial.open("a", encoding="utf-8") as manifest:
        rest = rows.skip(len(whole)) if whole else rows
        bar = tqdm(rest, desc=source, initial=len(whole), disable=None, leave=False)
        for number, row in enumerate(bar, start=len(whole)):
            line = _store(row, folder, number, f"{source}, row {number + 1}")
            manifest.write(json.dumps(line) + "\n")
            manifest.flush()
    partial.replace(folder / MANIFEST)


def _store(row: Mapping[str, Any], folder: Path, number: int, place: str) -> dict[str, str]:
    """Write one recording; the line of the manifest that names it."""
    text = next((row[name] for name in TEXTS if isinstance(row.get(name), str)), None)
    if text is None:
        raise LpaError(f"{place}: no transcript; expected a column {' or '.join(TEXTS)}")
    audio = row.get("audio")
    name = audio.get("path") if isinstance(audio, Mapping) else None
    data = audio.get("bytes") if isinstance(audio, Mapping) else None
    if not isinstance(data, bytes):
        data = _fetched(name, place)
    suffix = PurePath(name).suffix.lower() if isinstance(name, str) else ""
    file = f"{number:07d}{suffix if suffix in SUFFIXES else '.audio'}"
    (folder / file).write_bytes(data)
    return {"audio_filepath": file, "text": text} | dict(_labels(row))


def _fetched(name: object, place: str) -> bytes:
    """The bytes of a recording that the hub keeps as a file of its own."""
    if not isinstance(name, str) or not name.startswith("hf://"):
        raise LpaError(f"{place}: no audio; expected a column 'audio' with the recording's bytes")
    import fsspec

    with fsspec.open(name, "rb") as file:
        content: bytes = file.read()
    return content


def _labels(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and speaker, where the set has them and they can serve."""
    if isinstance(row.get("id"), str) and _PARTS.fullmatch(row["id"]):
        yield "id", row["id"]
    for name in ("speaker_id", "speaker"):
        if isinstance(row.get(name), str | int):
            yield "speaker", str(row[name])
            return
