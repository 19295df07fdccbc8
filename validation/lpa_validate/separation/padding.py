"""Does a mixture sound the same whatever follows it, and at every length of its last chunk?

Each clip alone is the truth for what is padded; for lengths it is the reference, unpadded. They are
spread over a chunk's hop, since how many zeros fill the last chunk depends on the length.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lpa_export.runtimes import Array, Bucketed, Runner
from lpa_validate.checks.buckets import fillings
from lpa_validate.checks.clips import spread_clips
from lpa_validate.checks.padding import PADDINGS, Padded
from lpa_validate.report import Check, Figure, judged, labelled
from lpa_validate.separation.evaluation import SeparationValidation, compared

__all__ = ["check_padding"]

_LENGTHS = 8
_SECONDS = 1.5


@dataclass(frozen=True)
class _Way:
    """A way of padding: what comes out of a clip's own samples, of clips that are not too long."""

    sounds: Callable[[Array], Array]
    most: int | None = None

    def holds(self, clip: Array) -> bool:
        return self.most is None or len(clip) <= self.most


def check_padding(validation: SeparationValidation) -> list[Check]:
    """SNR of valid samples, per way of padding, the worst over a few clips; lengths of one."""
    manifest = validation.bundle.manifest
    longest = round(_SECONDS * manifest.sample_rate)
    spread = spread_clips(validation)
    clips = [clip[:longest] for clip in spread]
    gate = validation.gates.snr_db
    figures = []
    alone = [validation.separate(clip) for clip in clips]
    for name, way in _ways(validation, spread[-1][: 2 * longest]):
        fitting = [pair for pair in zip(clips, alone, strict=True) if way.holds(pair[0])]
        if not fitting:
            continue
        found = [compared(name, expected, way.sounds(clip)).snr_db for clip, expected in fitting]
        figures.append(Figure(f"SNR, {name}", _lowest(found), "dB", gate, ">="))
    details: dict[str, Any] = {"clips": len(clips)}
    figures = labelled(validation.label, figures)
    if validation.reference is not None:
        hop = manifest.chunk // 2 * manifest.frames.hop
        clip = min(clips, key=len)
        lengths = [len(clip) - hop * step // _LENGTHS - step % 2 for step in range(_LENGTHS)]
        lengths = [length for length in lengths if length >= validation.artifact.min_samples]
        found = [
            compared(
                str(length),
                validation.reference.sources(clip[:length]),
                validation.separate(clip[:length]),
            ).snr_db
            for length in lengths
        ]
        name = f"SNR, {len(lengths)} lengths within the hop of a chunk"
        figures += labelled(validation.label, [Figure(name, _lowest(found), "dB", gate, ">=")])
        details |= {"hop": hop, "lengths": dict(zip(map(str, lengths), found, strict=True))}
    return [judged("padding", figures, details=details)]


def _ways(validation: SeparationValidation, longer: Array) -> Iterator[tuple[str, _Way]]:
    """What surrounds a clip: buckets where there are some, else a batch."""
    runner, rate = validation.artifact, validation.bundle.manifest.sample_rate
    if isinstance(runner, Bucketed):
        for filling, bucket, garbage, most in fillings(runner.buckets):
            sounds = partial(runner.run_in, bucket=bucket, garbage=garbage)
            yield f"bucket of {bucket} samples, {filling}", _Way(sounds, most)
        return
    for name, padded in PADDINGS.items():
        yield name, _Way(partial(_in_batch, runner, padded, longer, rate))


def _in_batch(runner: Runner, padded: Padded, longer: Array, rate: int, clip: Array) -> Array:
    batch = padded(clip, longer, rate)
    return runner.run(batch, [len(clip), len(longer)][: len(batch)])[0]


def _lowest(values: list[float]) -> float:
    """NaN before all."""
    return min(values, key=lambda value: -math.inf if math.isnan(value) else value)
