"""A recogniser in ExecuTorch's own runtime, as an app would run the bundle."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.formats.audio import require_frames, require_within
from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.executorch.opened import OpenProgram

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["ExecutorchRunner"]

_THIS = "this waveform"


class ExecutorchRunner(OpenProgram):
    """The ``.pte`` of a bundle: rows one by one, exact lengths or the smallest bucket that fits.

    Raises ArtifactError when the file does not open as a program with the manifest's methods, and
    LpaError when ExecuTorch is not installed.
    """

    def __init__(self, bundle: "Bundle", *, threads: int = THREADS) -> None:
        self._manifest = bundle.manifest
        self._buckets = bundle.manifest.buckets or ()
        super().__init__(bundle, threads=threads)

    @property
    def min_samples(self) -> int:
        """The shortest waveform the program takes: two frames, where it takes any length."""
        return self.runtime.min_samples

    @property
    def max_samples(self) -> int:
        """The longest waveform the program takes."""
        return self.runtime.max_samples

    @property
    def buckets(self) -> tuple[int, ...]:
        """Frames of each bucket, ascending; none for a program that takes exact lengths."""
        return tuple(bucket.frames for bucket in self._buckets)

    @property
    def exact(self) -> bool:
        """Whether the program takes exact lengths: rows of a batch never lie in one tensor."""
        return not self._buckets

    @cached_property
    def values(self) -> frozenset[str]:
        """Names of the tap tensors that the program can put out."""
        tensors = [tap.tensor for tap in self._manifest.taps]
        method = self.runtime.taps_method
        if method is None:
            return frozenset({"logits"})
        found = len(self.program.method(method).outputs)
        return frozenset(tensors) if found == len(tensors) else frozenset()

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples).

        A row is cut to its valid samples: the program takes one waveform at a time. Raises
        LpaError for one that is longer or shorter than it takes.
        """
        return [self._logits(row[:n]) for row, n in zip(padded, lengths, strict=True)]

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Logits (valid frames, vocabulary) of one waveform (samples,) in the bucket of so many
        frames, what is padded filled with ``garbage``."""
        chosen = next(item for item in self._buckets if item.frames == bucket)
        return self._in_bucket(waveform, chosen, garbage)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width).

        Logits alone where the program has no method that puts out the others.
        """
        names = [tap.name for tap in self._manifest.taps]
        method = self.runtime.taps_method
        if method is None:
            return {"logits": self._logits(waveform)} if "logits" in names else {}
        self._require_length(waveform)
        found = self._call(method, [waveform[None]])
        if len(found) != len(names):
            raise ArtifactError(f"{method} gives {len(found)} taps, the manifest has {len(names)}")
        return {name: _first(values) for name, values in zip(names, found, strict=True)}

    def _logits(self, waveform: Array) -> Array:
        self._require_length(waveform)
        for bucket in self._buckets:
            if len(waveform) <= bucket.samples:
                return self._in_bucket(waveform, bucket, 0.0)
        return _first(self._call(self.runtime.methods[0], [waveform[None]])[0])

    def _in_bucket(self, waveform: Array, bucket: Bucket, garbage: float) -> Array:
        self._require_length(waveform)
        valid = self._manifest.frames.count(len(waveform))
        padded = np.full((1, bucket.samples), garbage, np.float32)
        padded[0, : len(waveform)] = waveform
        lengths = np.array([len(waveform)], self._manifest.inputs[1].dtype)
        method = self.runtime.methods[self._buckets.index(bucket)]
        logits = _first(self._call(method, [padded, lengths])[0])
        if len(logits) < valid:
            raise ArtifactError(f"{method} gives {len(logits)} frames of {valid}")
        return logits[:valid]

    def _call(self, method: str, inputs: Sequence["np.ndarray[Any, Any]"]) -> list[Any]:
        try:
            return self.compute(method, inputs)
        except ArtifactError as error:
            raise ArtifactError(f"the program broke while running: {error}") from error

    def _require_length(self, waveform: Array) -> None:
        require_frames(waveform, self.min_samples, _THIS)
        require_within(waveform, self.max_samples, _THIS)


def _first(values: "np.ndarray[Any, Any]") -> Array:
    """(frames, width) of a batch of one. Raises ArtifactError for another shape."""
    if values.ndim != 3 or values.shape[0] != 1:
        raise ArtifactError(f"expected an output (1, frames, width), found {values.shape}")
    return np.asarray(values[0], np.float32)
