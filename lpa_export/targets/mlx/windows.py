"""Windows that depend on the length alone, as integer tables: numpy in float64, no edge moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["periodic_windows", "positional_windows"]

Ints = npt.NDArray[np.int32]


def periodic_windows(teeth: Sequence[Any], frames: int) -> tuple[Ints, Ints]:
    """The tooth of each frame's own period: starts and ends (frames, H, K), not yet clipped.

    teeth: period, phase and width, each (H, K) in frames.
    """
    period, phase, width = (np.asarray(part, np.float64) for part in teeth)
    centre = np.arange(frames)[:, None, None] + 0.5
    lower = phase + np.floor((centre - phase) / period) * period
    return _ceil(lower - 0.5), _ceil(lower + width - 0.5)


def positional_windows(shares: Sequence[Any], frames: int) -> tuple[Ints, Ints]:
    """Starts and ends (frames, H, K) of utterances of 1, 2, ... `frames` frames, clipped.

    shares: lower and upper edge, each (H, K), of the utterance.
    """
    lower, upper = (np.asarray(part, np.float64) for part in shares)
    length = np.arange(1, frames + 1)[:, None, None]
    starts = np.clip(_ceil(lower * length - 0.5), 0, length - 1)
    ends = np.clip(_ceil(upper * length - 0.5), starts + 1, length)
    return starts.astype(np.int32), ends.astype(np.int32)


def _ceil(edges: npt.NDArray[np.float64]) -> Ints:
    return np.ceil(edges).astype(np.int32)
