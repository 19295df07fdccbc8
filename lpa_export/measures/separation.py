"""Figures of separated and enhanced speech, in dB but for STOI and PESQ; one waveform each.

Against the clean source they say how good a model is, and count no scale: SI-SNR and SDR of an
estimate, how much they are above those of the mixture, STOI (Taal et al. 2011, 0 to 1) and PESQ
(ITU-T P.862, 1 to 4.5). Against the output of another runtime they say whether an artifact computes
the same, and scale and sign count: plain SNR, difference of level. SDR, STOI and PESQ are those of
torchmetrics, pystoi and pesq (`pip install -e '.[separation]'`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lpa_export.errors import LpaError

__all__ = [
    "QUIET_DB",
    "Quality",
    "is_silenced",
    "level_difference_db",
    "quality",
    "sdr_db",
    "si_snr_db",
    "snr_db",
]

Audio = npt.NDArray[np.float32]

QUIET_DB = 30.0
"""An output so far below the level of its input has been silenced."""

# PESQ is defined at these rates, narrow band and wide band.
_PESQ_MODES = {8000: "nb", 16000: "wb"}


@dataclass(frozen=True)
class Quality:
    """One estimate beside its source; improvements are over the mixture.

    STOI is None for clips with less than some 0.4 s of sound, PESQ where it finds no speech and at
    other rates than 8 and 16 kHz.
    """

    si_snr_db: float
    si_snri_db: float
    sdr_db: float
    sdri_db: float
    stoi: float | None
    pesq: float | None
    silenced: bool


def quality(mixture: Audio, source: Audio, estimate: Audio, sampling_rate: int) -> Quality:
    """All figures of an estimate (samples,). LpaError where a package for them is missing."""
    si_snr, sdr = si_snr_db(source, estimate), sdr_db(source, estimate)
    return Quality(
        si_snr_db=si_snr,
        si_snri_db=si_snr - si_snr_db(source, mixture),
        sdr_db=sdr,
        sdri_db=sdr - sdr_db(source, mixture),
        stoi=_stoi(source, estimate, sampling_rate),
        pesq=_pesq(source, estimate, sampling_rate),
        silenced=is_silenced(mixture, estimate),
    )


def si_snr_db(source: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Of the estimate what is the source, over what is not, both without their mean.

    -inf for an estimate that holds nothing of the source, silence among them.
    """
    reference, other = (
        part - part.mean()
        for part in (np.asarray(source, np.float64), np.asarray(estimate, np.float64))
    )
    power = reference @ reference
    target = (other @ reference / power if power else 0.0) * reference
    return _ratio_db(target @ target, np.square(other - target).sum())


def snr_db(reference: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """What one runtime gives over how far the other is from it; inf where both are equal, silence
    too.
    """
    expected = np.asarray(reference, np.float64)
    error = np.square(expected - np.asarray(other, np.float64)).sum()
    return _ratio_db(np.square(expected).sum(), error) if error else np.inf


def level_difference_db(reference: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """How much louder the second is; -inf where it alone is silent, 0 where both are."""
    powers = [float(np.square(np.asarray(part, np.float64)).sum()) for part in (other, reference)]
    return 0.0 if not any(powers) else _ratio_db(*powers)


def is_silenced(mixture: npt.ArrayLike, output: npt.ArrayLike) -> bool:
    """Whether the output is more than `QUIET_DB` below its input; a silent input is no loss."""
    return level_difference_db(mixture, output) < -QUIET_DB


def sdr_db(source: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Signal-to-distortion ratio: a filter of 512 taps is allowed for (Vincent et al. 2006)."""
    import torch

    audio = _imported("torchmetrics.functional.audio")
    parts = (torch.from_numpy(np.asarray(part, np.float64)) for part in (estimate, source))
    return float(audio.signal_distortion_ratio(*parts))


def _ratio_db(wanted: float, unwanted: float) -> float:
    if not wanted:
        return -np.inf
    if not unwanted:
        return np.inf
    return float(10 * np.log10(wanted / unwanted))


def _pesq(source: Audio, estimate: Audio, sampling_rate: int) -> float | None:
    if sampling_rate not in _PESQ_MODES:
        return None
    package = _imported("pesq")
    try:
        return float(package.pesq(sampling_rate, source, estimate, _PESQ_MODES[sampling_rate]))
    except (package.PesqError, ValueError):  # too short, no speech found, or nothing but silence
        return None


def _stoi(source: Audio, estimate: Audio, sampling_rate: int) -> float | None:
    package = _imported("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(source, estimate, sampling_rate))
        except RuntimeWarning:  # it would be 1e-5, as of noise
            return None


def _imported(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise LpaError(
            f"{name.partition('.')[0]} is not installed, which measures separated speech; "
            "pip install 'lpa-export[separation]'"
        ) from error
