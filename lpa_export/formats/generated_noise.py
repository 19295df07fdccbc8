"""Noise that no recording holds, so that a separator does not learn a few recordings by heart.

Coloured noise whose loudness wanders, as of wind, water and crowds; in half of the draws with the
harmonics of something that turns or hums, as engines, saws and fans have, and half of these let the
noise itself come in bursts, one a turn. Or a recording at another speed and in another colour:
another engine, another rain.
"""

from __future__ import annotations

import numpy as np

from lpa_export.formats.audio import Waveform
from lpa_export.formats.mixing import cut_out

__all__ = ["generated_noise", "varied_noise"]

_LOWEST_HZ = 50.0
_OCTAVE_KNOTS = 8
_TILT_DB = (-9.0, 3.0)
"""Of the spectrum, an octave."""
_ROUGHNESS_DB = 6.0
"""Deviation of the spectrum from its tilt, at each of the knots."""
_SWELL_DB = (0.0, 12.0)
_SWELL_HZ = (0.1, 8.0)
"""How far, and how often a second, the loudness wanders."""
_TONAL_SHARE = 0.5
_BURST_SHARE = 0.5
_BURST_POWER = (0.5, 8.0)
"""Of a raised cosine: how short the bursts are."""
_PITCH_HZ = (30.0, 800.0)
_HARMONICS = 40
_HARMONIC_TILT_DB = (-12.0, 0.0)
_WAVER = 0.1
"""Deviation of the pitch, in octaves."""
_TONE_TO_NOISE_DB = (-10.0, 10.0)
_SPEED_OCTAVES = (-0.7, 0.7)


def generated_noise(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """A draw of `samples` at `rate` Hz, float32 of root mean square 1."""
    noise = _unit(_coloured(rng, samples, rate))
    if rng.random() < _TONAL_SHARE:
        phase = _turning(rng, samples, rate)
        if rng.random() < _BURST_SHARE:
            noise = _unit(noise * (0.5 + 0.5 * np.cos(phase)) ** rng.uniform(*_BURST_POWER))
        gain = 10 ** (rng.uniform(*_TONE_TO_NOISE_DB) / 20)
        noise = noise + gain * _unit(_harmonics(rng, phase, rate))
    loudness = rng.uniform(*_SWELL_DB) * _wandering(rng, samples, rate)
    return _unit(noise * 10 ** (loudness / 20)).astype(np.float32)


def varied_noise(
    rng: np.random.Generator, noise: Waveform, start: int, samples: int, rate: int
) -> Waveform:
    """`samples` of a recording from `start` on, faster or slower and filtered; float32.

    It begins again where it ends. Its pitch goes with its speed.
    """
    import soxr

    speed = float(np.exp2(rng.uniform(*_SPEED_OCTAVES)))
    # Some more than are played: a resampler rounds.
    heard = cut_out(noise, start, int(samples * speed) + 64, wrapped=True)
    played = cut_out(soxr.resample(heard, speed, 1.0, quality="LQ"), 0, samples, wrapped=True)
    return _filtered(rng, played, rate, tilt_db=(-3.0, 3.0)).astype(np.float32)


def _coloured(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    return _filtered(rng, rng.standard_normal(samples), rate, tilt_db=_TILT_DB)


def _filtered(
    rng: np.random.Generator, noise: np.ndarray, rate: int, *, tilt_db: tuple[float, float]
) -> np.ndarray:
    """(samples,) with another spectrum: a tilt of so many dB an octave, and hills and valleys."""
    octaves = np.linspace(0.0, np.log2(rate / 2 / _LOWEST_HZ), _OCTAVE_KNOTS)
    decibels = rng.uniform(*tilt_db) * octaves + _ROUGHNESS_DB * rng.standard_normal(_OCTAVE_KNOTS)
    frequency = np.fft.rfftfreq(len(noise), 1 / rate)
    place = np.log2(np.maximum(frequency, _LOWEST_HZ) / _LOWEST_HZ)
    gain = 10 ** (np.interp(place, octaves, decibels) / 20)
    gain[0] = 0.0
    return np.fft.irfft(np.fft.rfft(noise) * gain, len(noise))


def _turning(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """(samples,): the phase, in radians, of something whose pitch wanders."""
    lowest, highest = np.log2(_PITCH_HZ)
    octave = rng.uniform(lowest, highest) + _WAVER * _wandering(rng, samples, rate)
    phase: np.ndarray = 2 * np.pi * np.cumsum(np.exp2(octave)) / rate
    return phase


def _harmonics(rng: np.random.Generator, phase: np.ndarray, rate: int) -> np.ndarray:
    """(samples,): tones at its multiples."""
    tilt, total = rng.uniform(*_HARMONIC_TILT_DB), np.zeros(len(phase))
    highest = np.diff(phase).max(initial=0.0) / (2 * np.pi) * rate
    # No harmonic comes near half the rate, where it would be heard as another tone.
    for number in range(1, min(_HARMONICS, int(0.45 * rate / max(highest, 1.0))) + 1):
        level = tilt * np.log2(number) + 3.0 * rng.standard_normal()
        total += 10 ** (level / 20) * np.cos(number * phase + rng.uniform(0, 2 * np.pi))
    return total


def _wandering(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """(samples,): a line through values of deviation 1, some times a second."""
    low, high = np.log(_SWELL_HZ)
    step = rate / np.exp(rng.uniform(low, high))
    knots = np.arange(int(samples / step) + 2) * step
    return np.interp(np.arange(samples), knots, rng.standard_normal(len(knots)))


def _unit(noise: np.ndarray) -> np.ndarray:
    unit: np.ndarray = noise / (np.sqrt(np.mean(np.square(noise))) or 1.0)
    return unit
