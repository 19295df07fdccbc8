"""What every runner of separators of fixed lengths does alike: the bucket, the padding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lpa_export.formats.audio import require_frames, require_within
from lpa_export.runtimes import Array, ArtifactError, Label

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Bucket
    from lpa_export.formats.separation_bundle import SeparationManifest

__all__ = ["BucketedSeparatorRunner"]


class BucketedSeparatorRunner(ABC):
    """Rows one by one, each in the smallest bucket that fits; a runtime fills in `call`.

    Buckets are counted in samples.
    """

    label: Label = "measured"

    def __init__(self, manifest: SeparationManifest) -> None:
        self.manifest = manifest
        self._buckets = manifest.buckets or ()
        if not self._buckets:
            raise ArtifactError("a program of fixed lengths has buckets; export the bundle again")
        self.min_samples = manifest.frames.receptive_field
        self.max_samples = self._buckets[-1].samples

    @abstractmethod
    def call(
        self, bucket: Bucket, padded: Array, samples: int, *, taps: bool
    ) -> Mapping[str, Array]:
        """The program of a bucket: `sources` (1, sources, samples) by that name, with `taps` every
        other tap by its tensor.

        `padded` (1, bucket.samples) has `samples` of the mixture. Raises ArtifactError in one line
        where it breaks.
        """

    def tapped(self, waveform: Array) -> Bucket:
        """The bucket that gives the taps of a mixture: the smallest that fits."""
        return self._fitting(waveform)

    @property
    def buckets(self) -> tuple[int, ...]:
        """Samples of each bucket, ascending."""
        return tuple(bucket.samples for bucket in self._buckets)

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Waveforms (valid samples, sources) of each row of ``padded`` (batch, samples)."""
        rows = [row[:length] for row, length in zip(padded, lengths, strict=True)]
        return [self._sources(row, self._fitting(row), 0.0) for row in rows]

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Waveforms (samples, sources) of one mixture in the bucket of so many samples, what is
        padded filled with ``garbage``."""
        chosen = next(item for item in self._buckets if item.samples == bucket)
        return self._sources(waveform, chosen, garbage)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one mixture (samples,): name to (frames, width)."""
        found = self._called(waveform, self.tapped(waveform), 0.0, taps=True)
        manifest = self.manifest
        frames = manifest.frames.count(len(waveform))
        # As `lpa_export.hosts.sepformer.chunks` counts them.
        inside = 2 * ((frames + manifest.chunk // 2) // manifest.chunk + 1) * manifest.chunk
        values: dict[str, Array] = {}
        for tap in manifest.taps:
            if tap.tensor not in found:
                continue
            array = found[tap.tensor][0]
            if tap.name == "sources":
                values[tap.name] = array[:, : len(waveform)].T
            else:
                flat = array.reshape(-1, array.shape[-1])
                values[tap.name] = flat[: frames if tap.name == "encoder" else inside]
        return values

    def _fitting(self, waveform: Array) -> Bucket:
        rate = self.manifest.sample_rate
        require_frames(waveform, self.min_samples, "this waveform", sample_rate=rate)
        require_within(waveform, self.max_samples, "this waveform", sample_rate=rate)
        return next(item for item in self._buckets if len(waveform) <= item.samples)

    def _sources(self, waveform: Array, bucket: Bucket, garbage: float) -> Array:
        made = self._called(waveform, bucket, garbage, taps=False)["sources"][0]
        return made[:, : len(waveform)].T

    def _called(
        self, waveform: Array, bucket: Bucket, garbage: float, *, taps: bool
    ) -> Mapping[str, Array]:
        padded = np.full((1, bucket.samples), garbage, np.float32)
        padded[0, : len(waveform)] = waveform
        try:
            found = self.call(bucket, padded, len(waveform), taps=taps)
        except ArtifactError as error:
            raise ArtifactError(f"the program broke while running: {error}") from error
        wanted = (1, self.manifest.sources, bucket.samples)
        if "sources" not in found or found["sources"].shape != wanted:
            raise ArtifactError(f"the program gives no sources {wanted}")
        return found
