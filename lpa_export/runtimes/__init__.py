"""Runtimes behind one small protocol: padded waveforms in, logits of the valid frames out."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["THREADS", "Array", "ArtifactError", "Bucketed", "Exact", "Label", "Runner", "pad"]

Array = npt.NDArray[np.float32]

Label = Literal["measured", "predicted", "emulated", "stated"]
"""How a figure came about: run here, derived from rules, run by an emulator, or taken on trust."""

THREADS = 2
"""The same on every machine: sums are split by threads, and a report must be repeatable."""


class ArtifactError(Exception):
    """The artifact itself is at fault: it does not open, or breaks while it runs."""


class Runner(Protocol):
    """An artifact in its runtime.

    ``label`` says whether that is the runtime itself or an emulation. ``metadata`` is what the
    artifact says about itself, ``values`` the names of the tensors that can be read out of it.
    It takes waveforms of ``min_samples`` to ``max_samples`` (None: of any length). Every method
    raises ArtifactError when the artifact breaks.
    """

    @property
    def label(self) -> Label: ...

    @property
    def min_samples(self) -> int: ...

    @property
    def max_samples(self) -> int | None: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def values(self) -> frozenset[str]: ...

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        ...

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width)."""
        ...


@runtime_checkable
class Bucketed(Protocol):
    """A runner whose artifact takes fixed shapes only; ``buckets`` are their frames, ascending."""

    @property
    def buckets(self) -> tuple[int, ...]: ...

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Logits (valid frames, vocabulary) of one waveform (samples,) in that bucket.

        What the caller pads is filled with ``garbage``.
        """
        ...


@runtime_checkable
class Exact(Protocol):
    """A runner that says whether its artifact hears waveforms one by one, with nothing behind."""

    @property
    def exact(self) -> bool: ...


def pad(waveforms: Sequence[Array], *, extra: int = 0) -> tuple[Array, list[int]]:
    """Waveforms (samples,) in one zero-padded (batch, longest + extra) array, and their lengths."""
    lengths = [len(waveform) for waveform in waveforms]
    padded = np.zeros((len(waveforms), max(lengths) + extra), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded, lengths
