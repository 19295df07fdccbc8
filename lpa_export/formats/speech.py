"""Speech with transcripts: NeMo manifests, LibriSpeech folders, the hub and the shipped demo set.

A manifest is read before any audio is decoded, so that a mistake in line 4,000 is named at once
and not after an hour of work. Files come from users and are not trusted.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE, Waveform, write_flac
from lpa_export.formats.bundle import new_folder
from lpa_export.formats.hub_speech import hub_source, stream
from lpa_export.formats.paths import is_file

__all__ = [
    "MANIFEST",
    "Utterance",
    "data_hash",
    "demo_manifest",
    "load_utterances",
    "write_utterances",
]

MANIFEST = "manifest.jsonl"


_LIBRISPEECH_PATTERN = "*.trans.txt"


@dataclass(frozen=True)
class Utterance:
    """One recording and what was said in it; ``duration`` in seconds, None where not known."""

    id: str
    audio: Path
    text: str
    speaker: str | None
    duration: float | None


def load_utterances(
    source: Path | None, *, limit: int | None = None, transcribed: bool = True
) -> list[Utterance]:
    """The utterances of a NeMo JSONL manifest, a LibriSpeech folder, or (None) the demo set.

    A source `hf:<dataset>/<configuration>/<split>` is streamed from the Hugging Face hub first.

    A manifest's lines are objects with ``audio_filepath`` (absolute, or relative to the
    manifest) and ``text``, and may have ``id``, ``speaker`` and ``duration``; other keys are
    ignored, as NeMo does, but ``offset`` (a part of a longer file) is refused. Without ``id``
    the audio's file name serves, numbered from its second use on: an id is always fit to name
    a file. ``limit`` keeps the first so many. Recordings that are not ``transcribed`` (noise) need
    no ``text``: it is empty.

    Raises LpaError, by file and line, for a line that is not JSON, a missing key or audio file,
    a repeated id, and for a source without any utterance.
    """
    if limit is not None and limit < 1:
        raise LpaError(f"the limit of utterances must be at least 1, found {limit}")
    source = demo_manifest() if source is None else Path(source)
    hub = hub_source(source)
    source = source if hub is None else stream(hub)
    if not source.exists():
        raise LpaError(f"{source}: no such manifest or LibriSpeech folder; check the path")
    read = _read_librispeech if source.is_dir() else partial(_read_manifest, transcribed)
    utterances: list[Utterance] = []
    seen: set[str] = set()
    for place, utterance in read(source):
        if utterance.id in seen:
            raise LpaError(f"{place}: id {utterance.id!r} is there twice; ids must differ")
        if not is_file(utterance.audio):
            raise LpaError(
                f"{place}: no audio file {utterance.audio}; relative paths start at the "
                "manifest's own folder"
            )
        seen.add(utterance.id)
        utterances.append(utterance)
        if len(utterances) == limit:
            break
    if not utterances:
        raise LpaError(
            f"{source}: no utterance found; expected a JSONL manifest with lines, or a folder "
            f"with {_LIBRISPEECH_PATTERN} files"
        )
    return utterances


def demo_manifest() -> Path:
    """The manifest of the synthetic demo speech that ships inside the package."""
    return Path(str(resources.files("lpa_export") / "assets" / "demo" / "manifest.jsonl"))


def write_utterances(
    out: Path, spoken: Iterable[tuple[str, Waveform, str, str]], *, overwrite: bool = False
) -> Path:
    """Write (id, waveform, text, speaker) as FLAC files and a manifest into a new folder `out`.

    Returns the manifest, which lists them in their order. LpaError where `out` exists, or holds
    something else than `overwrite` may replace.
    """
    with new_folder(out, overwrite=overwrite, proof=MANIFEST) as folder:
        lines = []
        for identity, waveform, text, speaker in spoken:
            name = f"{identity}.flac"
            write_flac(folder / name, waveform)
            duration = round(len(waveform) / SAMPLE_RATE, 3)
            row = {"audio_filepath": name, "duration": duration, "text": text, "speaker": speaker}
            lines.append(json.dumps(row) + "\n")
        (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")
    return out / MANIFEST


def data_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 (hex) over ids, transcripts and audio bytes, whatever folder they lie in.

    Raises LpaError when an audio file cannot be read.
    """
    digest = hashlib.sha256()
    for utterance in utterances:
        try:
            audio = hashlib.sha256(utterance.audio.read_bytes()).hexdigest()
        except OSError as error:
            raise LpaError(f"{utterance.audio}: cannot read the audio file ({error})") from error
        # JSON keeps the fields apart: no id can pass for the start of a text.
        digest.update(json.dumps([utterance.id, utterance.text, audio]).encode() + b"\n")
    return digest.hexdigest()


def _read_manifest(transcribed: bool, path: Path) -> Iterator[tuple[str, Utterance]]:
    """(file:line, utterance) of each line of a NeMo manifest; blank lines are skipped."""
    uses: Counter[str] = Counter()
    for number, line in _numbered_lines(path):
        place = f"{path}:{number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LpaError(
                f"{place}: expected a JSON object per line, found {line[:40]!r} ({error})"
            ) from error
        if not isinstance(entry, dict):
            raise LpaError(f"{place}: expected a JSON object, found {type(entry).__name__}")
        if not transcribed:
            entry.setdefault("text", "")
        yield place, _utterance(entry, path.parent, uses, place)


def _utterance(entry: dict[str, Any], folder: Path, uses: Counter[str], place: str) -> Utterance:
    audio = _text_of(entry, "audio_filepath", place)
    if not Path(audio).stem or "\0" in audio:
        raise LpaError(f"{place}: 'audio_filepath' must be a path, found {audio!r}")
    if entry.get("offset"):
        raise LpaError(
            f"{place}: a part of a longer file ('offset') cannot be read; cut the audio into "
            "one file per utterance"
        )
    stem = Path(audio).stem
    uses[stem] += 1
    numbered = stem if uses[stem] == 1 else f"{stem}-{uses[stem]}"
    return Utterance(
        id=_file_name(_text_of(entry, "id", place, default=numbered), place),
        audio=folder / audio,
        text=_text_of(entry, "text", place),
        speaker=_text_of(entry, "speaker", place, default="") or None,
        duration=_duration_of(entry, place),
    )


def _text_of(entry: dict[str, Any], key: str, place: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if value is None:
        raise LpaError(f"{place}: no {key!r}; a line needs 'audio_filepath' and 'text'")
    if not isinstance(value, str):
        raise LpaError(f"{place}: {key!r} must be a string, found {json.dumps(value)[:40]}")
    return value


def _file_name(identity: str, place: str) -> str:
    """``identity`` if a file in one folder can be named by it: golden clips are."""
    if not identity or identity.startswith(".") or set(identity) & set('/\\\0:*?"<>|\n\r'):
        raise LpaError(f"{place}: 'id' must be usable as a file name, found {identity!r}")
    return identity


def _duration_of(entry: dict[str, Any], place: str) -> float | None:
    value = entry.get("duration")
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise LpaError(f"{place}: 'duration' must be seconds above 0, found {value!r}")
    return float(value)


def _read_librispeech(folder: Path) -> Iterator[tuple[str, Utterance]]:
    """(file:line, utterance) of each transcript line ``<id> <TEXT>`` beside ``<id>.flac``."""
    for path in sorted(folder.rglob(_LIBRISPEECH_PATTERN)):
        for number, line in _numbered_lines(path):
            name, _, text = line.strip().partition(" ")
            place = f"{path}:{number}"
            if not text:
                raise LpaError(f"{place}: expected '<id> <transcript>', found {line[:40]!r}")
            name, speaker = _file_name(name, place), name.partition("-")[0]
            yield place, Utterance(name, path.parent / f"{name}.flac", text, speaker, None)


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of each line of a UTF-8 file that is not blank."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LpaError(
            f"{path}: expected a JSONL manifest (text in UTF-8), found other bytes; an audio "
            f"file is no manifest"
        ) from error
    except OSError as error:
        raise LpaError(f"{path}: cannot be read ({error})") from error
    # JSON may hold line separators of Unicode unescaped, so only real line ends count.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line
