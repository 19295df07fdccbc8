"""Artifact and reference over the mixtures, once, for every check that needs their audio."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from lpa_export.formats.audio import require_within
from lpa_export.formats.manifest import Source
from lpa_export.formats.mixtures import Mixture, MixturePlace
from lpa_export.formats.separation_bundle import SeparatorBundle, read_golden_mixtures
from lpa_export.formats.separation_gates import SeparationGates
from lpa_export.measures.separation import (
    is_silenced,
    level_difference_db,
    si_snr_db,
    snr_db,
)
from lpa_export.runtimes import Array, ArtifactError, Label, Runner, pad
from lpa_validate.progress import progress
from lpa_validate.separation.reference import SeparatorModel

__all__ = ["Compared", "Separated", "SeparationValidation", "compared"]


@dataclass(frozen=True)
class Compared:
    """An artifact's output (samples, sources) beside the reference's, the worst source.

    NaN where the shapes differ or a value is not finite.
    """

    id: str
    snr_db: float
    level_difference_db: float
    non_finite: int
    shape: tuple[int, ...]
    expected_shape: tuple[int, ...]


@dataclass(frozen=True)
class Separated:
    """One mixture through the artifact and, where there is one, the reference.

    SI-SNR over that of the mixture, in dB, the mean over the sources; `silenced`: outputs of the
    artifact far below their mixture. `digest`: SHA-256 of what was heard.
    """

    place: MixturePlace
    samples: int
    si_snri_db: float
    silenced: int
    reference_si_snri_db: float | None
    against: Compared | None
    digest: str


@dataclass(frozen=True)
class SeparationValidation:
    """All that a check of a separator may need; see `Opened`. What is missing is None, with the
    reason beside it.
    """

    bundle: SeparatorBundle
    runner: Runner | None
    runner_problem: str
    open_runner: Callable[[int], Runner]
    reference: SeparatorModel | None
    reference_problem: str
    places: Sequence[MixturePlace]

    @property
    def gates(self) -> SeparationGates:
        """What the bundle has to reach."""
        return self.bundle.manifest.gates

    @property
    def made_from(self) -> Source:
        """The checkpoint of the bundle."""
        return self.bundle.manifest.checkpoint

    @property
    def label(self) -> Label:
        """See `Opened`."""
        return self.artifact.label

    @property
    def artifact(self) -> Runner:
        """See `Opened`."""
        if self.runner is None:
            raise ArtifactError(self.runner_problem)
        return self.runner

    def first_waveforms(self, count: int) -> list[Array]:
        """See `Opened`."""
        return [self._read(place).waveform for place in self.places[:count]]

    def separate(self, waveform: Array) -> Array:
        """(samples, sources) that the artifact makes of one mixture (samples,)."""
        found = self.artifact.run(*pad([waveform]))[0]
        wanted = (len(waveform), self.bundle.manifest.sources)
        if found.shape != wanted:
            raise ArtifactError(f"expected waveforms {wanted}, found {found.shape}")
        return found

    @cached_property
    def separated(self) -> list[Separated]:
        """Every mixture, alone and unpadded."""
        _ = self.artifact  # one that did not open is no fault of a mixture
        return [self._separated(place) for place in progress(self.places, "separating")]

    @cached_property
    def golden(self) -> list[Compared]:
        """The golden clips of the bundle. Raises LpaError where they cannot be read."""
        return [
            compared(clip.id, clip.taps["sources"], self.separate(clip.waveform))
            for clip in read_golden_mixtures(self.bundle)
        ]

    def _separated(self, place: MixturePlace) -> Separated:
        mixture = self._read(place)
        found = self.separate(mixture.waveform)
        expected = None if self.reference is None else self.reference.sources(mixture.waveform)
        digest = hashlib.sha256(place.id.encode())
        for part in (mixture.waveform, *mixture.clean):
            digest.update(np.ascontiguousarray(part, np.float32).tobytes())
        return Separated(
            place=place,
            samples=len(mixture.waveform),
            si_snri_db=_improvement(mixture, found),
            silenced=sum(is_silenced(mixture.waveform, output) for output in found.T),
            reference_si_snri_db=None if expected is None else _improvement(mixture, expected),
            against=None if expected is None else compared(place.id, expected, found),
            digest=digest.hexdigest(),
        )

    def _read(self, place: MixturePlace) -> Mixture:
        mixture = place.read()
        if self.runner is not None and self.runner.max_samples is not None:
            require_within(
                mixture.waveform,
                self.runner.max_samples,
                place.id,
                sample_rate=self.bundle.manifest.sample_rate,
            )
        return mixture


def compared(identity: str, expected: Array, found: Array) -> Compared:
    """Both (samples, sources): plain SNR and level, where scale and sign count."""
    snr = level = float("nan")
    bad = int(np.size(found) - np.isfinite(found).sum())
    if expected.shape == found.shape and not bad:
        pairs = list(zip(expected.T, found.T, strict=True))
        snr = min(snr_db(one, other) for one, other in pairs)
        level = max(abs(level_difference_db(one, other)) for one, other in pairs)
    return Compared(identity, snr, level, bad, found.shape, expected.shape)


def _improvement(mixture: Mixture, outputs: Array) -> float:
    """SI-SNRi of (samples, sources), in the order of sources that is best for them."""
    if not np.isfinite(outputs).all():
        return float("nan")
    gained = [
        np.mean(
            [
                si_snr_db(source, outputs[:, column]) - si_snr_db(source, mixture.waveform)
                for source, column in zip(mixture.clean, order, strict=True)
            ]
        )
        for order in permutations(range(outputs.shape[1]))
    ]
    return float(max(gained))
