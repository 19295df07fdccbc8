"""The golden clips of a bundle: audio, reference logits at every stage, transcript.

They lie in the bundle so that anyone can check it without the original model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.runtimes import Array

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["GoldenClip", "golden_clips"]


@dataclass(frozen=True)
class GoldenClip:
    """One clip; ``transcript`` is the reference model's, ``files`` maps a stage to its .npy."""

    id: str
    audio: Path
    transcript: str
    files: dict[str, Path]
    sample_rate: int

    def waveform(self) -> Array:
        """(samples,) at the bundle's rate. Raises LpaError when it cannot be read."""
        return load_audio(self.audio, sample_rate=self.sample_rate)

    def stages(self) -> dict[str, Array]:
        """Stage name to (frames, width). Raises LpaError for a file that holds no such array."""
        return {name: _array(path) for name, path in self.files.items()}


def golden_clips(bundle: "Bundle") -> list[GoldenClip]:
    """The clips that ``golden/index.json`` lists.

    Raises LpaError when there is none, or the index is not what an export writes.
    """
    index = bundle.path / "golden" / "index.json"
    try:
        entries = json.loads(index.read_text("utf-8"))
        clips = [_clip(entry, bundle) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LpaError(
            f"golden/index.json: expected the clips of an export, found other content "
            f"({type(error).__name__}: {error}); export the bundle again"
        ) from error
    if not clips:
        raise LpaError("golden/index.json lists no clip; export the bundle again")
    return clips


def _clip(entry: dict[str, object], bundle: "Bundle") -> GoldenClip:
    stages = entry["stages"]
    if not isinstance(stages, dict) or "logits" not in stages:
        raise ValueError(f"no logits for {entry['id']!r}")
    return GoldenClip(
        str(entry["id"]),
        bundle.file(str(entry["audio"])),
        str(entry["transcript"]),
        {name: bundle.file(str(path)) for name, path in stages.items()},
        bundle.manifest["sample_rate"],
    )


def _array(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LpaError(f"golden/{path.name}: expected an array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float32:
        raise LpaError(f"golden/{path.name}: expected (frames, width) in float32")
    return array
