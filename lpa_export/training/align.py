"""Where each word of a known transcript lies: CTC forced alignment.

The most likely path through the transcript's labels and the blanks between them (Viterbi over the
2 L + 1 states of Graves et al. 2006), then cuts between words at the quietest point of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpa_export.errors import LpaError

__all__ = ["Alignment", "align", "cuts"]

SILENCE = 0.02
"""Power, as a share of the utterance's mean, under which a cut is heard by nobody: -17 dB."""

_QUIET = 160  # samples over which loudness is measured: 10 ms


@dataclass(frozen=True)
class Alignment:
    """First and last frame of each label, (L, 2), and the path's mean log probability a frame."""

    frames: npt.NDArray[np.int64]
    score: float


def align(log_probs: npt.NDArray[np.floating], labels: list[int], *, blank: int) -> Alignment:
    """Align `labels` (L) to `log_probs` (T, V). LpaError when T frames cannot hold them."""
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    # A blank may be skipped between labels that differ.
    skips = np.zeros(len(states), dtype=bool)
    skips[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    emitted = log_probs[:, states].astype(np.float64)
    best = np.full(len(states), -np.inf)
    best[:2] = emitted[0, :2]
    came_from = np.zeros(emitted.shape, dtype=np.int64)
    for time in range(1, len(emitted)):
        stay, step, skip = best, np.roll(best, 1), np.roll(best, 2)
        step[:1] = -np.inf
        skip = np.where(skips, skip, -np.inf)
        choices = np.stack([stay, step, skip])
        came_from[time] = choices.argmax(0)
        best = choices.max(0) + emitted[time]
    state = len(states) - 1 - int(best[-1] < best[-2]) if labels else 0
    score = float(best[state])
    if not np.isfinite(score):
        raise LpaError(f"{len(labels)} labels do not fit into {len(emitted)} frames")
    path = np.empty(len(emitted), dtype=np.int64)
    for time in range(len(emitted) - 1, -1, -1):
        path[time] = state
        state -= int(came_from[time, state])
    places = [np.flatnonzero(path == 2 * label + 1) for label in range(len(labels))]
    frames = np.array([(place[0], place[-1]) for place in places], dtype=np.int64).reshape(-1, 2)
    return Alignment(frames, score / len(emitted))


def cuts(
    waveform: npt.NDArray[np.float32],
    alignment: Alignment,
    labels: list[int],
    *,
    delimiter: int,
    stride: int,
) -> list[int | None]:
    """Samples at which `waveform` falls apart into words, both ends included: words + 1 numbers.

    `stride` is in samples a frame. None between words that run into each other: a cut is made
    in silence only.
    """
    power = np.convolve(waveform.astype(np.float64) ** 2, np.ones(_QUIET) / _QUIET, mode="same")
    silence = SILENCE * np.mean(power)
    places: list[int | None] = [0]
    for gap in (i for i, label in enumerate(labels) if label == delimiter):
        low = int(alignment.frames[gap - 1, 1]) * stride + stride // 2
        high = max(low + 1, int(alignment.frames[gap + 1, 0]) * stride + stride // 2)
        quietest = low + int(power[low:high].argmin())
        places.append(quietest if power[quietest] < silence else None)
    return [*places, len(waveform)]
