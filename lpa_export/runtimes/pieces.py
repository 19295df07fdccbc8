"""Long recordings in pieces: where to cut, so that no word is lost or doubled at a seam.

One pure function of whole numbers, so that another implementation (the app's) finds the same
seams to the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform
from lpa_export.formats.manifest import Frames

__all__ = ["OVERLAP", "QUIET", "Piece", "cut_pieces", "logits_in_pieces"]

OVERLAP = 25
"""Frames on either side that a piece hears and does not speak for: half a second at 50 a second."""

QUIET = 20
"""Frames around a seam whose energy is its loudness."""


@dataclass(frozen=True)
class Piece:
    """Samples that a model hears, and the frames of the whole recording that are kept of it.

    Both ranges are (first, end), ends exclusive.
    """

    samples: tuple[int, int]
    frames: tuple[int, int]


def cut_pieces(
    waveform: Waveform,
    *,
    longest: int,
    frames: Frames,
    overlap: int = OVERLAP,
    quiet: int = QUIET,
) -> tuple[Piece, ...]:
    """Cut a waveform (samples,) into pieces of at most ``longest`` samples at its quietest moments.

    Pieces begin at whole frames, so that their frames are those of the whole recording; each
    frame belongs to exactly one piece. A seam lies in the later half of what its piece may hold,
    at the frame with the least energy of 16-bit samples in ``quiet`` frames around it. Of equally
    quiet frames the last run counts, and the seam lies in its middle: a model speaks a little
    before or after the sound.

    Raises LpaError for a waveform without a frame, and where ``longest`` leaves no room for the
    overlap.
    """
    total = frames.count(len(waveform))
    if total < 1:
        raise LpaError(f"{len(waveform)} samples give no frame; one takes {frames.receptive_field}")
    if len(waveform) <= longest:
        return (Piece((0, len(waveform)), (0, total)),)
    most = frames.count(longest)
    if most <= 4 * overlap:
        raise LpaError(
            f"pieces of {longest} samples are too short to be cut with an overlap of {overlap} "
            "frames"
        )
    loudness = _loudness(waveform, frames.hop, total, quiet)
    seams = [0]
    while total - (heard := max(seams[-1] - overlap, 0)) > most:
        latest = heard + most - overlap
        earliest = seams[-1] + (latest - seams[-1]) // 2 + 1
        seams.append(earliest + _middle_of_last_minimum(loudness[earliest : latest + 1]))
    return tuple(
        _piece(first, end, total, len(waveform), frames, overlap)
        for first, end in zip(seams, [*seams[1:], total], strict=True)
    )


def logits_in_pieces(
    waveform: Waveform,
    pieces: Iterable[Piece],
    *,
    hop: int,
    logits: Callable[[Waveform], np.ndarray],
) -> np.ndarray:
    """Logits (frames, vocabulary) of the whole recording, a pass for each piece.

    What a piece hears beyond the frames that it speaks for is left out, so a word that goes across
    a seam is spelled by both sides, each its part. Raises LpaError when a pass gives fewer frames
    than the piece has.
    """
    found = []
    for piece in pieces:
        start, end = piece.samples
        heard = logits(waveform[start:end])
        first = piece.frames[0] - start // hop
        count = piece.frames[1] - piece.frames[0]
        if len(heard) < first + count:
            raise LpaError(f"the model gave {len(heard)} frames for {end - start} samples")
        found.append(heard[first : first + count])
    return np.concatenate(found)


def _piece(first: int, end: int, total: int, samples: int, frames: Frames, overlap: int) -> Piece:
    heard, until = max(first - overlap, 0), min(end + overlap, total)
    last = (until - 1) * frames.hop + frames.receptive_field
    return Piece((heard * frames.hop, min(last, samples)), (first, end))


def _middle_of_last_minimum(values: np.ndarray) -> int:
    quietest = np.flatnonzero(values == values.min())
    jumps = np.flatnonzero(np.diff(quietest) > 1)
    first = quietest[jumps[-1] + 1] if len(jumps) else quietest[0]
    return int(first + quietest[-1]) // 2


def _loudness(waveform: Waveform, hop: int, frames: int, quiet: int) -> np.ndarray:
    """Energy around the beginning of each frame, (frames + 1,) int64.

    Whole numbers, so that equally quiet frames are equal in every implementation.
    """
    blocks = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    levels = np.rint(blocks.astype(np.float64) * 32767).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum((levels**2).sum(axis=1))])
    at = np.arange(frames + 1)
    upper = np.minimum(at + quiet // 2, len(sums) - 1)
    loudness: np.ndarray = sums[upper] - sums[np.maximum(at - quiet // 2, 0)]
    return loudness
