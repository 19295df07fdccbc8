"""Decoded speech within a bound of memory: small sets are read once, large ones as they are used.

What a set holds never depends on whether it fits: a clip that was dropped and decoded again is
the same to the bit, and its length is known from the file's header before it is decoded. Sets of
one run share their `Recordings`, so that no recording is decoded twice for two of them.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from lpa_export.formats.audio import SAMPLE_RATE, Waveform, load_audio, require_frames

__all__ = ["MEMORY_BYTES", "Clips", "Recordings", "Versions"]

MEMORY_BYTES = 4 * 2**30
"""Decoded audio that is kept: 4 GiB hold 18 hours at one speed."""

Key = tuple[Path, int, float]
"""A file, samples a second, and the speed."""


class Recordings:
    """Decoded audio by `Key`; beyond `memory_bytes` the least recently used is dropped."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.memory_bytes = memory_bytes
        self.held_bytes = 0
        self._held: OrderedDict[Key, Waveform] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def get(self, key: Key, decode: Callable[[], Waveform]) -> Waveform:
        """What is held under `key`, or what `decode` gives, which is held from then on."""
        if key not in self._held:
            return self.put(key, decode())
        self._held.move_to_end(key)
        return self._held[key]

    def put(self, key: Key, clip: Waveform) -> Waveform:
        """Hold `clip`; the newest stays even when it alone is beyond the bound."""
        if key not in self._held:
            self.held_bytes += clip.nbytes
        self._held[key] = clip
        while self.held_bytes > self.memory_bytes and len(self._held) > 1:
            self.held_bytes -= self._held.popitem(last=False)[1].nbytes
        return clip

    def __getstate__(self) -> dict[str, Any]:
        """A process that is started afresh decodes for itself."""
        return {"memory_bytes": self.memory_bytes, "held_bytes": 0, "_held": OrderedDict()}


class Clips:
    """`clips[i][s]` is recording i at speed s, float32 (samples,) at `rate` samples a second.

    `lengths[i][s]` are its samples. A set that fits the memory of `recordings` is decoded at once,
    on all cores.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        speeds: Sequence[float],
        *,
        receptive_field: int,
        recordings: Recordings | None = None,
        rate: int = SAMPLE_RATE,
    ) -> None:
        """Read every header, and a set that fits whole. LpaError for audio no model can take."""
        self.recordings = recordings or Recordings()
        self._paths = list(paths)
        self._speeds = tuple(speeds)
        self._field = receptive_field
        self._rate = rate
        self.lengths = [self._lengths(path) for path in self._paths]
        self.in_memory = 4 * sum(map(sum, self.lengths)) <= self.recordings.memory_bytes
        if self.in_memory:
            self._decode_all()

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Versions:
        return Versions(self, range(len(self))[index], len(self._speeds))

    def __iter__(self) -> Iterator[Versions]:
        return (self[index] for index in range(len(self)))

    def version(self, index: int, speed: int) -> Waveform:
        """Recording `index` at `speed` (both counted from 0)."""
        path, factor = self._paths[index], self._speeds[speed]

        def decode() -> Waveform:
            return self._usable(index, self._at_speed(self._load(path), factor))

        return self.recordings.get((path, self._rate, factor), decode)

    def _decode_all(self) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            decoded = threads.map(self._versions, range(len(self)))
            bar = tqdm(decoded, desc="reading speech", total=len(self), disable=None, leave=False)
            for index, versions in enumerate(bar):
                # Headers of some formats only estimate the length.
                self.lengths[index] = [len(clip) for clip in versions]
                for speed, clip in zip(self._speeds, versions, strict=True):
                    self.recordings.put((self._paths[index], self._rate, speed), clip)

    def _versions(self, index: int) -> list[Waveform]:
        """Recording `index` at every speed, decoded where another set has not."""
        path = self._paths[index]
        if all((path, self._rate, speed) in self.recordings for speed in self._speeds):
            return [self.version(index, speed) for speed in range(len(self._speeds))]
        waveform = self._load(path)
        return [self._usable(index, self._at_speed(waveform, speed)) for speed in self._speeds]

    def _usable(self, index: int, clip: Waveform) -> Waveform:
        require_frames(clip, self._field, str(self._paths[index]))
        return clip

    def _lengths(self, path: Path) -> list[int]:
        samples, rate = self._samples(path), self._rate
        lengths = [_resampled(samples, rate * speed, rate) for speed in self._speeds]
        # Only the shape is looked at: nothing is allocated.
        require_frames(np.broadcast_to(np.float32(0), min(lengths)), self._field, str(path))
        return lengths

    def _samples(self, path: Path) -> int:
        """How many `path` gives, from its header."""
        try:
            header = soundfile.info(path)
        except (soundfile.LibsndfileError, OSError, TypeError):
            return len(self._load(path))  # which says what is wrong with it
        return _resampled(header.frames, header.samplerate, self._rate)

    def _load(self, path: Path) -> Waveform:
        return load_audio(path, sample_rate=self._rate)

    def _at_speed(self, waveform: Waveform, speed: float) -> Waveform:
        """Tempo and pitch together, as sox's `speed` effect: resample and keep the nominal rate."""
        if speed == 1.0:
            return waveform
        resampled: Waveform = soxr.resample(waveform, self._rate * speed, self._rate, quality="HQ")
        return resampled


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


def _resampled(samples: int, source_rate: float, target_rate: float) -> int:
    """Samples that soxr gives: it rounds to the nearest, halves up."""
    if source_rate == target_rate:
        return samples
    return math.floor(samples * target_rate / source_rate + 0.5)
