"""Golden clips: a few recordings with what the reference model gives at every tap.

They lie in the bundle so that anyone can check it without the original model: ``golden/`` holds
the audio, an array per tap, and ``index.json``, a list of :class:`GoldenEntry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio, write_flac
from lpa_export.formats.manifest import as_json, as_type, read_json

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = [
    "GOLDEN",
    "INDEX",
    "GoldenClip",
    "GoldenEntry",
    "read_array",
    "read_golden",
    "write_golden",
]

GOLDEN = "golden"
INDEX = f"{GOLDEN}/index.json"


class GoldenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A clip in ``index.json``: paths in the bundle, one per tap; texts as said and as heard.

    ``transcript`` is the reference model's. Arrays are .npy files of (frames, width) float32.
    """

    id: str
    audio: str
    text: str
    transcript: str
    taps: dict[str, str]

    def __post_init__(self) -> None:
        if "logits" not in self.taps:
            raise ValueError(f"no logits for {self.id!r}")


@dataclass(frozen=True)
class GoldenClip:
    """One recording (samples,); `taps` are (frames, width), `transcript` the reference's."""

    id: str
    text: str
    waveform: Waveform
    taps: Mapping[str, np.ndarray]
    transcript: str

    @property
    def bucket_size(self) -> int:
        """Frames that a bucket has to hold."""
        return len(self.taps["projection"])


def write_golden(folder: Path, clips: Sequence[GoldenClip]) -> None:
    """Write `golden/` below `folder`: audio, a .npy per tap, and the index."""
    (folder / GOLDEN).mkdir()
    index = []
    for clip in clips:
        taps = {name: f"{GOLDEN}/{clip.id}.{name}.npy" for name in clip.taps}
        for name, values in clip.taps.items():
            np.save(folder / taps[name], np.ascontiguousarray(values, dtype=np.float32))
        entry = GoldenEntry(
            id=clip.id,
            audio=f"{GOLDEN}/{clip.id}.flac",
            text=clip.text,
            transcript=clip.transcript,
            taps=taps,
        )
        write_flac(folder / entry.audio, clip.waveform)
        index.append(entry)
    (folder / INDEX).write_text(as_json(index), "utf-8", newline="\n")


def read_golden(bundle: Bundle) -> tuple[GoldenClip, ...]:
    """The clips of a bundle. Raises LpaError when there is none, or one that cannot be read."""
    place = bundle.file(INDEX)
    entries = as_type(read_json(place, "list of clips"), tuple[GoldenEntry, ...], str(place))
    if not entries:
        raise LpaError(f"{place}: no clip in it; export the bundle again")
    return tuple(_clip(entry, bundle) for entry in entries)


def _clip(entry: GoldenEntry, bundle: Bundle) -> GoldenClip:
    waveform = load_audio(bundle.file(entry.audio), sample_rate=bundle.manifest.sample_rate)
    taps = {name: read_array(bundle.file(path)) for name, path in entry.taps.items()}
    return GoldenClip(entry.id, entry.text, waveform, taps, entry.transcript)


def read_array(path: Path) -> np.ndarray:
    """A tap, (frames, width) float32. Raises LpaError for anything else."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LpaError(f"{GOLDEN}/{path.name}: expected an array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float32:
        raise LpaError(f"{GOLDEN}/{path.name}: expected (frames, width) in float32")
    return array
