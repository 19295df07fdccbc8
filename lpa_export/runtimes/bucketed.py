"""What every runner of fixed lengths does alike: the bucket, the padding, the valid frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.formats.audio import require_frames, require_within
from lpa_export.runtimes import Array, ArtifactError, Label

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Bucket, Manifest

__all__ = ["BucketedRunner"]

_THIS = "this waveform"


class BucketedRunner(ABC):
    """Rows one by one, each in the smallest bucket that fits; a runtime fills in `call`.

    Programs take waveforms (1, samples) float32 and lengths (1,) int32, and give (1, frames, width)
    each.
    """

    label: Label = "measured"

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._buckets = manifest.buckets or ()
        self.min_samples = manifest.frames.receptive_field
        self.max_samples = self._buckets[-1].samples

    @abstractmethod
    def call(self, bucket: Bucket, waveform: Array, lengths: Any, *, taps: bool) -> list[Array]:
        """The program of a bucket: logits, or all taps in the manifest's order.

        Raises ArtifactError in one line where it breaks.
        """

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(tap.tensor for tap in self.manifest.taps)

    @property
    def buckets(self) -> tuple[int, ...]:
        """Frames of each bucket, ascending."""
        return tuple(bucket.frames for bucket in self._buckets)

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        rows = [row[:length] for row, length in zip(padded, lengths, strict=True)]
        return [self._logits(row, self._fitting(row), 0.0) for row in rows]

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Logits (valid frames, vocabulary) of one waveform (samples,) in the bucket of so many
        frames, what is padded filled with ``garbage``."""
        chosen = next(item for item in self._buckets if item.frames == bucket)
        return self._logits(waveform, chosen, garbage)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width)."""
        found = self._called(waveform, self._fitting(waveform), 0.0, taps=True)
        names = [tap.name for tap in self.manifest.taps]
        if len(found) != len(names):
            raise ArtifactError(f"the program gives {len(found)} taps, of {len(names)}")
        frames, samples = self.manifest.frames, len(waveform)
        return {
            name: values[: frames.count(samples, inside=name != "logits")]
            for name, values in zip(names, found, strict=True)
        }

    def _fitting(self, waveform: Array) -> Bucket:
        require_frames(waveform, self.min_samples, _THIS)
        require_within(waveform, self.max_samples, _THIS)
        return next(item for item in self._buckets if len(waveform) <= item.samples)

    def _logits(self, waveform: Array, bucket: Bucket, garbage: float) -> Array:
        logits = self._called(waveform, bucket, garbage, taps=False)[0]
        return logits[: self.manifest.frames.count(len(waveform))]

    def _called(
        self, waveform: Array, bucket: Bucket, garbage: float, *, taps: bool
    ) -> list[Array]:
        padded = np.full((1, bucket.samples), garbage, np.float32)
        padded[0, : len(waveform)] = waveform
        lengths = np.array([len(waveform)], np.int32)
        try:
            found = self.call(bucket, padded, lengths, taps=taps)
        except ArtifactError as error:
            raise ArtifactError(f"the program broke while running: {error}") from error
        if not found or any(values.ndim != 3 or values.shape[0] != 1 for values in found):
            raise ArtifactError("the program gives no outputs (1, frames, width)")
        return [values[0] for values in found]
