"""A few mixtures to listen to: as they were mixed, and what original and artifact make of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.mixtures import MixturePlace
from lpa_export.measures.separation import si_snr_db
from lpa_export.runtimes import Array, ArtifactError
from lpa_validate.separation.evaluation import SeparationValidation
from lpa_validate.separation.run import open_separation

__all__ = ["CLIPS", "Clip", "Listening", "Track", "listen"]

CLIPS = 3

_FULL_SCALE = 0.999


@dataclass(frozen=True)
class Track:
    """One waveform (samples,) of a clip. `si_snr_db`: of the clean source that it is nearest to."""

    name: str
    waveform: Array
    si_snr_db: float | None = None


@dataclass(frozen=True)
class Clip:
    """One mixture. `gain_db`: by how much all of its tracks were turned down, so that none clips;
    `snr_db` of the mixture, where it is known.
    """

    id: str
    snr_db: float | None
    gain_db: float
    tracks: tuple[Track, ...]


@dataclass(frozen=True)
class Listening:
    """The clips of a page. `missing`: why there is no original beside the artifact, else empty."""

    title: str
    sample_rate: int
    missing: str
    clips: tuple[Clip, ...]


def listen(
    folder: Path,
    *,
    data: Path | None = None,
    checkpoint: str | Path | None = None,
    count: int = CLIPS,
) -> Listening:
    """The first mixtures of `data`, the demo speech by default, through a bundle and its original.

    Raises LpaError for what cannot be opened, and for an artifact that does not run.
    """
    validation = open_separation(
        folder, data=data, checkpoint=checkpoint, limit=count, names=("parity",)
    )
    manifest = validation.bundle.manifest
    try:
        clips = tuple(_clip(validation, place) for place in validation.places)
    except ArtifactError as error:
        raise LpaError(f"{folder}: nothing to listen to: {error}") from error
    return Listening(
        title=f"{manifest.checkpoint.name} for {manifest.target}, {manifest.scheme.name}",
        sample_rate=manifest.sample_rate,
        missing=validation.reference_problem,
        clips=clips,
    )


def _clip(validation: SeparationValidation, place: MixturePlace) -> Clip:
    mixture = place.read()
    tracks = [_measured(Track("noisy", mixture.waveform), mixture.clean)]
    tracks += _numbered("clean", mixture.clean)
    made = {"artifact": validation.separate(mixture.waveform)}
    if validation.reference is not None:
        made = {"original": validation.reference.sources(mixture.waveform)} | made
    for name, sources in made.items():
        tracks += [_measured(track, mixture.clean) for track in _numbered(name, tuple(sources.T))]
    peak = max(float(np.abs(np.nan_to_num(track.waveform)).max()) for track in tracks)
    gain = min(1.0, _FULL_SCALE / peak) if peak else 1.0
    turned = (replace(track, waveform=gain * track.waveform) for track in tracks)
    return Clip(place.id, place.snr_db, 20 * float(np.log10(gain)), tuple(turned))


def _numbered(name: str, waveforms: tuple[Array, ...]) -> Iterator[Track]:
    for number, waveform in enumerate(waveforms, start=1):
        yield Track(name if len(waveforms) == 1 else f"{name}, source {number}", waveform)


def _measured(track: Track, clean: tuple[Array, ...]) -> Track:
    nearest = max(si_snr_db(source, track.waveform) for source in clean)
    return replace(track, si_snr_db=float(nearest))
