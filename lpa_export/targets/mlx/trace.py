"""The program: a function per bucket, and one more of each that gives all taps; weights once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes.mlx.file import CPU, GPU, placed, primitives

__all__ = ["TAPS", "trace"]

TAPS = "taps"
"""The scalar that asks for all taps."""

_DEVICES = {"cpu": CPU, "gpu": GPU}


class Tapped(Protocol):
    """A model of any task."""

    def taps(self, waveform: mx.array, lengths: mx.array | None = None) -> dict[str, mx.array]:
        """Every point at which it is compared with its reference; the last is what it gives."""
        ...


def trace(
    model: Tapped,
    buckets: Sequence[Bucket],
    taps: Sequence[str],
    words: Mapping[str, str],
    device: str,
    place: Path,
) -> dict[str, int]:
    """Write the program into `place`; how often each primitive stands in it.

    taps: names of what a function gives when it is asked for all, the last of them what it gives
    otherwise; words: metadata.
    """

    def function(waveform: mx.array, lengths: mx.array, **asked: mx.array) -> list[mx.array]:
        found = model.taps(waveform, lengths)
        return [found[name] for name in taps] if asked else [found[taps[-1]]]

    with mx.exporter(str(place), function, metadata=json.dumps(words, sort_keys=True)) as exporter:
        for bucket in buckets:
            given: tuple[Any, ...] = (mx.zeros((1, bucket.samples)), mx.array([bucket.samples]))
            exporter(*given)
            exporter(*given, **{TAPS: mx.array(1)})
    data = placed(place.read_bytes(), _DEVICES[device])
    place.write_bytes(data)
    return dict(sorted(primitives(data).items()))
