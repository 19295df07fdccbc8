"""Decoded speech within a bound of memory: small sets are read once, large ones as they are used.

What a set holds never depends on whether it fits: a clip that was dropped and decoded again is
the same to the bit, and its length is known from the file's header before it is decoded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from lpa_export.formats.audio import SAMPLE_RATE, Waveform, load_audio, require_frames

__all__ = ["MEMORY_BYTES", "Clips", "Versions"]

MEMORY_BYTES = 4 * 2**30
"""Decoded audio that is kept: 4 GiB hold 18 hours at one speed."""


class Clips:
    """`clips[i][s]` is recording i at speed s, float32 (samples,) at 16 kHz.

    `lengths[i][s]` are its samples. A set that fits `memory_bytes` is decoded at once and stays;
    of a larger one the least recently used clips are dropped.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        speeds: Sequence[float],
        *,
        receptive_field: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Read every header, and a set that fits whole. LpaError for audio no model can take."""
        self._paths = list(paths)
        self._speeds = tuple(speeds)
        self._field = receptive_field
        self._memory = memory_bytes
        self._held: OrderedDict[tuple[int, int], Waveform] = OrderedDict()
        self._bytes = 0
        self.lengths = [self._lengths(path) for path in self._paths]
        self.in_memory = 4 * sum(map(sum, self.lengths)) <= memory_bytes
        if self.in_memory:
            for index in tqdm(range(len(self)), desc="reading speech", disable=None, leave=False):
                # Headers of some formats only estimate the length.
                self.lengths[index] = [len(clip) for clip in self._decode_all(index)]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Versions:
        return Versions(self, range(len(self))[index], len(self._speeds))

    def __iter__(self) -> Iterator[Versions]:
        return (self[index] for index in range(len(self)))

    def version(self, index: int, speed: int) -> Waveform:
        """Recording `index` at `speed` (both counted from 0)."""
        key = index, speed
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        clip = _at_speed(load_audio(self._paths[index]), self._speeds[speed])
        return self._hold(key, clip)

    def _decode_all(self, index: int) -> list[Waveform]:
        waveform = load_audio(self._paths[index])
        return [
            self._hold((index, number), _at_speed(waveform, speed))
            for number, speed in enumerate(self._speeds)
        ]

    def _hold(self, key: tuple[int, int], clip: Waveform) -> Waveform:
        require_frames(clip, self._field, str(self._paths[key[0]]))
        self._held[key] = clip
        self._bytes += clip.nbytes
        while self._bytes > self._memory and len(self._held) > 1 and not self.in_memory:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return clip

    def _lengths(self, path: Path) -> list[int]:
        samples = _samples(path)
        lengths = [_resampled(samples, SAMPLE_RATE * speed, SAMPLE_RATE) for speed in self._speeds]
        # Only the shape is looked at: nothing is allocated.
        require_frames(np.broadcast_to(np.float32(0), min(lengths)), self._field, str(path))
        return lengths


class Versions:
    """One recording at every speed, each decoded when it is asked for."""

    def __init__(self, clips: Clips, index: int, count: int) -> None:
        self._clips = clips
        self._index = index
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, speed: int) -> Waveform:
        return self._clips.version(self._index, range(self._count)[speed])

    def __iter__(self) -> Iterator[Waveform]:
        return (self[speed] for speed in range(self._count))


def _samples(path: Path) -> int:
    """Samples that `path` gives at 16 kHz, from its header."""
    try:
        header = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, TypeError):
        return len(load_audio(path))  # which says what is wrong with it
    return _resampled(header.frames, header.samplerate, SAMPLE_RATE)


def _resampled(samples: int, source_rate: float, target_rate: float) -> int:
    """Samples that soxr gives: it rounds to the nearest, halves up."""
    if source_rate == target_rate:
        return samples
    return math.floor(samples * target_rate / source_rate + 0.5)


def _at_speed(waveform: Waveform, speed: float) -> Waveform:
    """Tempo and pitch together, as sox's `speed` effect: resample and keep the nominal rate."""
    if speed == 1.0:
        return waveform
    resampled: Waveform = soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ")
    return resampled
