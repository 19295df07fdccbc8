"""Core ML packages through the evaluator of this package: emulated, on any machine.

The caller's part of the work is done here as an app does it: the front end takes exactly the
valid samples, its frames are padded to the smallest bucket that holds them, and a mask says which
of them are speech.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import MANIFEST
from lpa_export.runtimes import THREADS, Array, ArtifactError, Label

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle
    from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package
    from lpa_export.runtimes.coreml.monitor import Monitor

__all__ = [
    "CoremlRunner",
    "CoremlRuntime",
    "Place",
    "ShareEntry",
    "Step",
    "ToothEntry",
    "WindowsEntry",
    "coreml_steps",
    "torch_threads",
]


@dataclass(frozen=True)
class Step:
    """A function of a package; ``frames`` is its bucket, None for a front end of any length."""

    package: str
    function: str
    max_samples: int
    frames: int | None = None

    @property
    def place(self) -> str:
        """As reports name it."""
        return f"{self.package}/{self.function}"


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A function of a package of the bundle."""

    package: str
    function: str


class ToothEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A periodic window of a head: [phase + j period, ... + width) in frames."""

    head: int
    period: float
    phase: float
    width: float


class ShareEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A positional window of a head: its edges as shares of the utterance."""

    head: int
    lower: float
    upper: float


class WindowsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The windows of an LPA layer: what an app needs to show which frames it averages.

    ``edges``: the output of the ``taps`` program with the edges of the ``aperiodic`` windows of
    each head, in frames relative to each frame, (1, 2 H K, 1, T): lower ones of all heads pulse by
    pulse, then upper ones. None where there are none.
    """

    layer: int
    heads: int
    aperiodic: int
    edges: str | None
    teeth: tuple[ToothEntry, ...]
    shares: tuple[ShareEntry, ...]


class CoremlRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest's ``runtime``: the programs, an encoder per bucket.

    Without a ``frontend`` the encoders take waveforms of exactly their bucket's samples. ``taps``:
    a program like the shortest bucket's, with every tap behind the front end as an output.
    """

    deployment_target: str
    layout: str
    frontend: Place | None
    encoders: tuple[Place, ...]
    taps: Place | None = None
    windows: tuple[WindowsEntry, ...] = ()


def coreml_steps(bundle: Bundle) -> tuple[Step | None, tuple[Step, ...]]:
    """Front end (None: the encoders take waveforms) and encoders by ascending bucket.

    Raises LpaError when the manifest does not say what a runner needs.
    """
    runtime, buckets = bundle.runtime_as(CoremlRuntime), bundle.manifest.buckets or ()
    frames = [bucket.frames for bucket in buckets]
    if not frames or frames != sorted(set(frames)) or len(frames) != len(runtime.encoders):
        raise LpaError(
            f"{bundle.path / MANIFEST}: 'runtime' needs an encoder per bucket, and buckets that "
            "ascend; export the bundle again"
        )
    encoders = tuple(
        _step(bundle, place, bucket.samples, bucket.frames)
        for place, bucket in zip(runtime.encoders, buckets, strict=True)
    )
    if runtime.frontend is None:
        return None, encoders
    return _step(bundle, runtime.frontend, buckets[-1].samples, None), encoders


def _step(bundle: Bundle, place: Place, max_samples: int, frames: int | None) -> Step:
    if place.package not in bundle.manifest.artifacts:
        raise LpaError(
            f"{bundle.path / MANIFEST}: 'runtime' names {place.package!r}, which is no artifact; "
            "export the bundle again"
        )
    return Step(place.package, place.function, max_samples, frames)


class CoremlRunner:
    """The packages of a bundle, evaluated in float16 as the bundle's scheme asks, or float32.

    ``arithmetic`` takes the place of the one that belongs to the scheme. Raises ArtifactError
    for packages that do not open or do not hold the functions of the manifest.
    """

    label: Label = "emulated"

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = THREADS,
        arithmetic: Arithmetic | None = None,
        packages: Mapping[str, Package] | None = None,
    ) -> None:
        from lpa_export.runtimes.coreml import Arithmetic, load_package

        self._manifest = bundle.manifest
        self._bundle = bundle
        self._threads = threads
        self._frontend, self._encoders = coreml_steps(bundle)
        self._packages = packages or {
            name: load_package(bundle.path / name) for name in bundle.manifest.artifacts
        }
        exact = bundle.manifest.scheme.compute == "fp32"
        self._arithmetic = arithmetic or (Arithmetic.FP32 if exact else Arithmetic.FP16)
        self._evaluators = {step.place: self._evaluator(step) for step in self.steps}

    @property
    def arithmetic(self) -> Arithmetic:
        """What the values of the programs are kept in."""
        return self._arithmetic

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every function that takes part, the front end first."""
        return (*([self._frontend] if self._frontend else []), *self._encoders)

    @property
    def packages(self) -> Mapping[str, Package]:
        """The opened packages by name."""
        return self._packages

    @property
    def buckets(self) -> tuple[int, ...]:
        """Frames of each encoder."""
        return tuple(encoder.frames or 0 for encoder in self._encoders)

    @property
    def min_samples(self) -> int:
        """Those of one frame."""
        return self._manifest.frames.receptive_field

    @property
    def max_samples(self) -> int:
        """The longest waveform that the largest bucket holds."""
        return self._encoders[-1].max_samples

    @property
    def metadata(self) -> Mapping[str, str]:
        """What all packages say alike. A key on which they differ is left out."""
        every = [package.metadata for package in self._packages.values()]
        return {
            key: value
            for key, value in every[0].items()
            if all(other.get(key) == value for other in every)
        }

    @property
    def values(self) -> frozenset[str]:
        """Values of the front end, and those that every bucket's encoder has."""
        frontend = self._evaluators[self._frontend.place].values if self._frontend else frozenset()
        encoders = [self._evaluators[step.place].values for step in self._encoders]
        return frontend | frozenset.intersection(*encoders)

    def computing(self, arithmetic: Arithmetic) -> CoremlRunner:
        """The same packages, not read again, in another arithmetic."""
        return CoremlRunner(
            self._bundle, threads=self._threads, arithmetic=arithmetic, packages=self._packages
        )

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        return [self._logits(row[:length]) for row, length in zip(padded, lengths, strict=True)]

    def run_in(self, waveform: Array, bucket: int, *, garbage: float = 0.0) -> Array:
        """Logits of one waveform in the encoder of so many frames, padding full of ``garbage``."""
        return self._logits(waveform, bucket=bucket, garbage=garbage)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """The manifest's taps of one waveform (samples,): name to (frames, width)."""
        wanted = {tap.name: tap.tensor for tap in self._manifest.taps}
        present = self.values
        found: dict[str, Array] = {}
        taps = frozenset(wanted.values()) & present
        frames, values = self._run(waveform, taps=taps)
        for name, tensor in wanted.items():
            if tensor in values:
                valid = self._manifest.frames.count(len(waveform)) if name == "logits" else frames
                found[name] = _frames_first(values[tensor], valid)
        return found

    def watch(self, waveform: Array, monitors: Mapping[str, Monitor]) -> None:
        """Run one waveform; ``monitors`` (by a step's place) see every value on the way."""
        self._run(waveform, monitors=monitors)

    def evaluator(self, step: Step) -> Evaluator:
        """What computes that function."""
        return self._evaluators[step.place]

    def given(self, waveform: Array) -> tuple[tuple[Step, dict[str, Array]], ...]:
        """The functions that one waveform (samples,) goes through, each with its inputs."""
        if self._frontend is None:
            frames = self._manifest.frames.count(len(waveform), inside=True)
            encoder = self._encoder(frames, None)
            return ((encoder, _padded(waveform, encoder.max_samples, 0.0)),)
        first = {"waveform": waveform[None]}
        projected = self._step(self._frontend, first, frozenset(), None)["projected"]
        encoder = self._encoder(projected.shape[-1], None)
        return ((self._frontend, first), (encoder, _in_bucket(projected, encoder.frames or 0, 0.0)))

    def _evaluator(self, step: Step) -> Evaluator:
        from lpa_export.runtimes.coreml import Evaluator

        return Evaluator(
            self._packages[step.package], function=step.function, arithmetic=self._arithmetic
        )

    def _logits(self, waveform: Array, *, bucket: int | None = None, garbage: float = 0.0) -> Array:
        _, values = self._run(waveform, bucket=bucket, garbage=garbage)
        if "logits" not in values or values["logits"].ndim != 4:
            raise ArtifactError("the encoder gives no logits (1, vocabulary, 1, frames)")
        # A length adapter behind the encoder makes fewer frames than there are inside.
        return _frames_first(values["logits"], self._manifest.frames.count(len(waveform)))

    def _run(
        self,
        waveform: Array,
        *,
        bucket: int | None = None,
        garbage: float = 0.0,
        taps: frozenset[str] = frozenset(),
        monitors: Mapping[str, Monitor] | None = None,
    ) -> tuple[int, dict[str, Array]]:
        """Valid frames inside the encoder, and outputs and taps by name."""
        given: dict[str, Array]
        values: dict[str, Array] = {}
        if self._frontend is not None:
            values = self._step(self._frontend, {"waveform": waveform[None]}, taps, monitors)
            projected = values["projected"]
            frames = projected.shape[-1]
            encoder = self._encoder(frames, bucket)
            given = _in_bucket(projected, encoder.frames or 0, garbage)
        else:
            frames = self._manifest.frames.count(len(waveform), inside=True)
            encoder = self._encoder(frames, bucket)
            given = _padded(waveform, encoder.max_samples, garbage)
        return frames, values | self._step(encoder, given, taps, monitors)

    def _step(
        self,
        step: Step,
        given: Mapping[str, Array],
        taps: frozenset[str],
        monitors: Mapping[str, Monitor] | None,
    ) -> dict[str, Array]:
        evaluator = self._evaluators[step.place]
        with torch_threads(self._threads):
            return evaluator.run(
                given,
                taps=sorted(taps & evaluator.values),
                monitor=(monitors or {}).get(step.place),
            )

    def _encoder(self, frames: int, bucket: int | None) -> Step:
        """The named bucket's encoder, or the smallest that holds so many frames."""
        for encoder in self._encoders:
            if encoder.frames == bucket or (bucket is None and (encoder.frames or 0) >= frames):
                return encoder
        raise ArtifactError(f"no bucket for {frames} frames, the largest has {self.buckets[-1]}")


def _padded(waveform: Array, samples: int, garbage: float) -> dict[str, Array]:
    """The whole model's inputs: a waveform (1, samples) and how many of them are valid."""
    row = np.full((1, samples), garbage, np.float32)
    row[0, : len(waveform)] = waveform
    return {"waveform": row, "samples": np.array([len(waveform)], np.float32)}


def _in_bucket(projected: Array, bucket: int, garbage: float) -> dict[str, Array]:
    """The encoder's inputs: (1, D, 1, bucket) features and (1, 1, 1, bucket) mask."""
    frames = projected.shape[-1]
    padded = np.full((*projected.shape[:-1], bucket), garbage, projected.dtype)
    padded[..., :frames] = projected
    mask = np.zeros((1, 1, 1, bucket), projected.dtype)
    mask[..., :frames] = 1
    return {"projected": padded, "mask": mask}


def _frames_first(values: Array, frames: int) -> Array:
    """(1, C, 1, T) as (frames, C) float32."""
    return np.ascontiguousarray(values[0, :, 0, :frames].T, np.float32)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """So many threads of torch while the block runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
