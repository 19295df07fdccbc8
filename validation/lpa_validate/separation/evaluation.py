"""Artifact and reference over the mixtures, once, for every check that needs their audio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from lpa_export.formats.audio import require_frames, require_within
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

    SI-SNR over that of the mixture, in dB, the mean over the sources; None for a mixture that has
    none of its own to be over, as of a silent source or of nothing but the source. `silenced`:
    outputs of the artifact far below their mixture, where the reference's are not.
    """

    place: MixturePlace
    si_snri_db: float | None
    silenced: int
    reference_si_snri_db: float | None
    against: Compared | None


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
        if self.reference is None:
            gained, silenced = _improvement(mixture, found), _silenced(mixture, found)
            return Separated(place, gained, len(silenced), None, None)
        expected = self.reference.sources(mixture.waveform)
        return Separated(
            place=place,
            si_snri_db=_improvement(mixture, found),
            silenced=len(_silenced(mixture, found) - _silenced(mixture, expected)),
            reference_si_snri_db=_improvement(mixture, expected),
            against=compared(place.id, expected, found),
        )

    def _read(self, place: MixturePlace) -> Mixture:
        mixture, rate = place.read(), self.bundle.manifest.sample_rate
        if self.runner is not None:
            shortest, longest = self.runner.min_samples, self.runner.max_samples
            require_frames(mixture.waveform, shortest, place.id, sample_rate=rate)
            if longest is not None:
                require_within(mixture.waveform, longest, place.id, sample_rate=rate)
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


def _silenced(mixture: Mixture, outputs: Array) -> set[int]:
    """Which of (samples, sources) are."""
    pairs = enumerate(outputs.T)
    return {source for source, output in pairs if is_silenced(mixture.waveform, output)}


def _improvement(mixture: Mixture, outputs: Array) -> float | None:
    """SI-SNRi of (samples, sources), in the order of sources that is best for them."""
    before = [si_snr_db(source, mixture.waveform) for source in mixture.clean]
    if not np.isfinite(before).all():
        return None
    if not np.isfinite(outputs).all():
        return float("nan")
    gained = [
        np.mean([si_snr_db(source, outputs[:, column]) for source, column in pairs])
        for pairs in (
            list(zip(mixture.clean, order, strict=True))
            for order in permutations(range(outputs.shape[1]))
        )
    ]
    return float(max(gained) - np.mean(before))
