"""Bundles of models that separate or enhance speech: their manifest and their golden clips.

A golden clip is a mixture, what it was mixed of, and what the reference model makes of it: audio
goes in and audio comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio, write_flac
from lpa_export.formats.bundle import Bundle, OpenedBundle, manifest_place, open_bundle
from lpa_export.formats.golden import GOLDEN, INDEX, read_array
from lpa_export.formats.manifest import (
    BundleManifest,
    as_json,
    as_type,
    manifest_as,
    manifest_content,
    read_json,
)
from lpa_export.formats.separation_gates import SeparationGates
from lpa_export.formats.task import RECOGNITION, SEPARATION, TASKS

__all__ = [
    "GoldenMixture",
    "GoldenMixtureEntry",
    "SeparationManifest",
    "SeparatorBundle",
    "open_any_bundle",
    "open_separator_bundle",
    "read_golden_mixtures",
    "task_of_bundle",
    "write_golden_mixtures",
]


class SeparationManifest(BundleManifest, frozen=True, kw_only=True):
    """All that the bundle of a separator says of itself.

    A mixture (samples,) at ``sample_rate`` goes in as it is, ``sources`` waveforms as long come
    out. ``frames`` is the encoder's arithmetic, ``chunk`` its frames in a chunk: chunks overlap by
    half.
    """

    task: Literal["separation"]
    sources: Annotated[int, Meta(ge=1, le=3)]
    chunk: Annotated[int, Meta(ge=2)]
    gates: SeparationGates


SeparatorBundle = OpenedBundle[SeparationManifest]


def task_of_bundle(path: Path | str) -> str:
    """What the bundle in a folder is for. Raises LpaError where there is none, or of no task."""
    place = manifest_place(Path(path))
    task = manifest_content(place).get("task", RECOGNITION)
    if task not in TASKS:
        raise LpaError(f"{place}: 'task' is {task!r}; known: {', '.join(TASKS)}")
    return str(task)


def open_separator_bundle(path: Path | str) -> SeparatorBundle:
    """Open a separator's bundle; its manifest's form is checked, not files.

    Raises LpaError as `open_bundle` does, and for a bundle that recognises speech.
    """
    if task_of_bundle(path) != SEPARATION:
        raise LpaError(
            f"{path}: this bundle recognises speech, expected one that separates it; "
            "lpa-transcribe runs it"
        )
    path = Path(path)
    place = manifest_place(path)
    return SeparatorBundle(path, manifest_as(manifest_content(place), SeparationManifest, place))


def open_any_bundle(path: Path | str) -> Bundle | SeparatorBundle:
    """Open a bundle of any task."""
    return open_separator_bundle(path) if task_of_bundle(path) == SEPARATION else open_bundle(path)


class GoldenMixtureEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A clip in ``index.json``: paths in the bundle. ``clean``: audio of each source.

    Arrays are .npy files of (frames, width) float32, one per tap; that of ``sources`` is what the
    reference gives, (samples, sources).
    """

    id: str
    audio: str
    clean: tuple[str, ...]
    taps: dict[str, str]

    def __post_init__(self) -> None:
        if "sources" not in self.taps:
            raise ValueError(f"no sources for {self.id!r}")


@dataclass(frozen=True)
class GoldenMixture:
    """A mixture (samples,), its sources (samples,) each, and the reference's taps."""

    id: str
    waveform: Waveform
    clean: tuple[Waveform, ...]
    taps: Mapping[str, np.ndarray]

    @property
    def bucket_size(self) -> int:
        """Samples that a bucket has to hold."""
        return len(self.waveform)


def write_golden_mixtures(
    folder: Path, clips: Sequence[GoldenMixture], *, sample_rate: int
) -> None:
    """Write `golden/` below `folder`: audio, a .npy per tap, and the index."""
    (folder / GOLDEN).mkdir()
    index = []
    for clip in clips:
        place = f"{GOLDEN}/{clip.id}"
        entry = GoldenMixtureEntry(
            id=clip.id,
            audio=f"{place}.flac",
            clean=tuple(f"{place}.clean-{number}.flac" for number in range(len(clip.clean))),
            taps={name: f"{place}.{name}.npy" for name in clip.taps},
        )
        for name, values in clip.taps.items():
            np.save(folder / entry.taps[name], np.ascontiguousarray(values, dtype=np.float32))
        for name, waveform in zip(
            (entry.audio, *entry.clean), (clip.waveform, *clip.clean), strict=True
        ):
            write_flac(folder / name, waveform, sample_rate=sample_rate)
        index.append(entry)
    (folder / INDEX).write_text(as_json(index), "utf-8", newline="\n")


def read_golden_mixtures(bundle: SeparatorBundle) -> tuple[GoldenMixture, ...]:
    """The clips of a bundle. Raises LpaError when there is none, or one that cannot be read."""
    place = bundle.file(INDEX)
    content: Any = read_json(place, "list of clips")
    entries = as_type(content, tuple[GoldenMixtureEntry, ...], str(place))
    if not entries:
        raise LpaError(f"{place}: no clip in it; export the bundle again")
    return tuple(_clip(entry, bundle) for entry in entries)


def _clip(entry: GoldenMixtureEntry, bundle: SeparatorBundle) -> GoldenMixture:
    rate = bundle.manifest.sample_rate
    mixture, *clean = (
        load_audio(bundle.file(name), sample_rate=rate) for name in (entry.audio, *entry.clean)
    )
    taps = {name: read_array(bundle.file(path)) for name, path in entry.taps.items()}
    if {len(part) for part in (*clean, taps["sources"])} != {len(mixture)}:
        raise LpaError(f"{GOLDEN}: the parts of {entry.id!r} differ in length; export it again")
    return GoldenMixture(entry.id, mixture, tuple(clean), taps)
