"""Speech and noise mixed, and the stored lists that say how: a JSON line for each mixture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform

__all__ = ["DRAWN", "RATE", "Draw", "cut_out", "mixed", "read_draws", "rms"]

DRAWN = ("speech", "noise")
"""Keys of a stored list that name a recording by its id."""

RATE = "rate"
"""Key of a stored list: samples a second, in which places are counted."""

_LOUDEST = 0.99


@dataclass(frozen=True)
class Draw:
    """One mixture in numbers: which recordings, from which sample on, how loud.

    `speech_start` is negative where the recording is shorter than the clip: so many samples of
    noise alone come first. Noise begins again where it ends. `snr_db` of the clip as a whole,
    `level_dbfs` of its speech.
    """

    speech: int
    speech_start: int
    noise: int
    noise_start: int
    snr_db: float
    level_dbfs: float


def mixed(speech: Waveform, noise: Waveform, draw: Draw, samples: int) -> tuple[Waveform, Waveform]:
    """A mixture of two recordings and its speech, (samples,) each; quieter where it would clip."""
    speech = cut_out(speech, draw.speech_start, samples, False)
    noise = cut_out(noise, draw.noise_start, samples, True)
    speech = speech * (_gain(draw.level_dbfs) / rms(speech))
    noise = noise * (_gain(draw.level_dbfs - draw.snr_db) / rms(noise))
    mixture = speech + noise
    scale = np.float32(min(1.0, _LOUDEST / max(np.abs(mixture).max(), 1e-9)))
    return (mixture * scale).astype(np.float32), (speech * scale).astype(np.float32)


def read_draws(path: Path, speech: Sequence[str], noise: Sequence[str], rate: int) -> list[Draw]:
    """Mixtures of recordings with these ids, cut at samples of this rate.

    LpaError, by file and line, for a recording that is not there and for another rate.
    """
    places = {
        name: {identity: place for place, identity in enumerate(ids)}
        for name, ids in zip(DRAWN, (speech, noise), strict=True)
    }
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LpaError(f"{path}: expected a stored list of mixtures ({error})") from error
    draws = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if (drawn := row.pop(RATE)) != rate:
                raise ValueError(f"cut at {drawn} Hz, the recipe has {rate} Hz")
            draw = Draw(**row | {name: places[name][row[name]] for name in DRAWN})
            if not (math.isfinite(draw.snr_db) and math.isfinite(draw.level_dbfs)):
                raise ValueError("levels are finite numbers")
            draws.append(msgspec.convert(vars(draw), Draw))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise LpaError(
                f"{path}:{number}: no mixture of the recipe's test speech and noise "
                f"({type(error).__name__}: {error})"
            ) from error
    if not draws:
        raise LpaError(f"{path}: lists no mixture; delete it, and it is drawn again")
    return draws


def cut_out(clip: Waveform, start: int, samples: int, wrapped: bool) -> Waveform:
    """`samples` of a recording from `start` on; beyond its ends it is zero, or begins again."""
    if wrapped:
        return np.take(clip, np.arange(start, start + samples), mode="wrap")
    cut = np.zeros(samples, dtype=np.float32)
    held = clip[max(start, 0) : max(start, 0) + samples - max(-start, 0)]
    cut[max(-start, 0) : max(-start, 0) + len(held)] = held
    return cut


def rms(waveform: Waveform) -> float:
    """Root mean square, never 0."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) or 1e-9


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))
