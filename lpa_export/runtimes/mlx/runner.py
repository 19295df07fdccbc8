"""MLX's own runtime, in a process of its own, as an app would run the bundle.

A program that is written for the GPU runs on the CPU where there is none: the same file but for the
field that says where.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import require_frames, require_within
from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes import THREADS, Array, ArtifactError, Label
from lpa_export.runtimes.mlx.file import CPU, placed, primitives, read_header, require_readable
from lpa_export.runtimes.mlx.section import runtime_of
from lpa_export.runtimes.process import Worker

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["WORKER", "MlxRunner"]

WORKER = Path(__file__).with_name("worker.py")
"""What the process runs."""

_THIS = "this waveform"


class MlxRunner:
    """The program of a bundle: rows one by one, in the smallest bucket that fits.

    Raises ArtifactError when the file does not open, and LpaError when it is not in the bundle.
    """

    label: Label = "measured"

    def __init__(self, bundle: "Bundle", *, threads: int = THREADS) -> None:
        self._manifest = bundle.manifest
        self.runtime = runtime_of(bundle)
        self._buckets = bundle.manifest.buckets or ()
        self.min_samples = bundle.manifest.frames.receptive_field
        self.max_samples = self._buckets[-1].samples
        try:
            data = bundle.file(self.runtime.program).read_bytes()
        except (OSError, LpaError) as error:
            raise ArtifactError(f"{self.runtime.program} cannot be read ({error})") from error
        self._worker = Worker(WORKER, environment={"OMP_NUM_THREADS": str(threads)})
        self.metadata: Mapping[str, str] = self._open(data)

    def _open(self, data: bytes) -> dict[str, str]:
        """Load the program into the process; what it says of itself."""
        try:
            header = read_header(data)
            about, _ = self._worker.ask("about")
            require_readable(header, about["version"])
            if dict(primitives(data)) != self.runtime.primitives:
                raise ArtifactError("its primitives are not those that were written")
            if not about["gpu"]:
                data = placed(data, CPU)
            # Weights are read when they are used: the file stays as long as the runner.
            self._folder = tempfile.TemporaryDirectory(prefix="lpa-mlx-")
            place = Path(self._folder.name, "model.mlxfn")
            place.write_bytes(data)
            self._worker.ask("open", path=str(place))
            words: Any = json.loads(header.metadata)
            return {str(name): str(value) for name, value in dict(words).items()}
        except (ArtifactError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())
            raise ArtifactError(f"{self.runtime.program} does not open: {said}") from error

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(tap.tensor for tap in self._manifest.taps)

    @property
    def buckets(self) -> tuple[int, ...]:
        """Frames of each bucket, ascending."""
        return tuple(bucket.frames for bucket in self._buckets)

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        return [
            self._logits(row[:length], self._fitting(row[:length]), 0.0)
            for row, length in zip(padded, lengths, strict=True)
        ]

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Logits (valid frames, vocabulary) of one waveform (samples,) in the bucket of so many
        frames, what is padded filled with ``garbage``."""
        chosen = next(item for item in self._buckets if item.frames == bucket)
        return self._logits(waveform, chosen, garbage)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width)."""
        found = self._call(waveform, self._fitting(waveform), 0.0, taps=True)
        names = [tap.name for tap in self._manifest.taps]
        if len(found) != len(names):
            raise ArtifactError(f"the program gives {len(found)} taps, of {len(names)}")
        frames = self._manifest.frames
        counts = [frames.count(len(waveform), inside=name != "logits") for name in names]
        return {
            name: values[:count] for name, values, count in zip(names, found, counts, strict=True)
        }

    def _fitting(self, waveform: Array) -> Bucket:
        require_frames(waveform, self.min_samples, _THIS)
        require_within(waveform, self.max_samples, _THIS)
        return next(item for item in self._buckets if len(waveform) <= item.samples)

    def _logits(self, waveform: Array, bucket: Bucket, garbage: float) -> Array:
        logits = self._call(waveform, bucket, garbage, taps=False)[0]
        return logits[: self._manifest.frames.count(len(waveform))]

    def _call(self, waveform: Array, bucket: Bucket, garbage: float, *, taps: bool) -> list[Array]:
        padded = np.full((1, bucket.samples), garbage, np.float32)
        padded[0, : len(waveform)] = waveform
        lengths = np.array([len(waveform)], np.int32)
        try:
            found = self._worker.ask("run", [padded, lengths], taps=taps)[1]
        except ArtifactError as error:
            raise ArtifactError(f"the program broke while running: {error}") from error
        if not found or any(values.ndim != 3 or values.shape[0] != 1 for values in found):
            raise ArtifactError("the program gives no outputs (1, frames, width)")
        return [values[0] for values in found]
