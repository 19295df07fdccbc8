"""Frames into chunks that overlap by half, and back: arithmetic of SpeechBrain's dual-path masker.

The frames get half a chunk of zeros in front, and behind them as many as make the chunks come out
even, one chunk more where they did already, and half a chunk again. Chunk j begins at frame
j * (K // 2) of that, or where K is odd at the sums of its halves: at the same place whatever the
length. So the first chunks of a clip in a padded batch are those that the clip has alone.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["chunk_count", "merge", "segment"]

Count = TypeVar("Count", int, Tensor)


def chunk_count(frames: Count, chunk: int) -> Count:
    """How many chunks so many frames make: of a number, or of each of a tensor of lengths."""
    covered = frames + chunk // 2
    return 2 * (covered // chunk + 1)


def segment(frames: Tensor, chunk: int) -> Tensor:
    """(B, L, D) -> (B, S, K, D)."""
    length, half = frames.shape[1], chunk // 2
    behind = chunk_count(length, chunk) // 2 * chunk - length
    padded = nn.functional.pad(frames, (0, 0, half, behind))
    first = padded[:, : padded.shape[1] - half].unflatten(1, (-1, chunk))
    second = padded[:, half:].unflatten(1, (-1, chunk))
    return _interleaved(first, second)


def merge(chunks: Tensor, frames: int) -> Tensor:
    """(B, S, K, D) -> (B, L, D): the sum of the two chunks that hold each frame."""
    half = chunks.shape[2] // 2
    first, second = (chunks[:, which::2].flatten(1, 2) for which in (0, 1))
    return first[:, half : half + frames] + second[:, :frames]


def _interleaved(first: Tensor, second: Tensor) -> Tensor:
    """Chunks 0, 2, 4, ... and 1, 3, 5, ... in one row."""
    return torch.stack([first, second], dim=2).flatten(1, 2)
