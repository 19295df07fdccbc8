"""Does a clip sound the same to the artifact whatever follows it in the batch?

Each clip alone is the truth; then beside a longer clip, with silence behind it, and with noise
behind it (what a reused buffer holds). Only the valid frames are compared.

An artifact that takes waveforms of exact length has no padding to hear. What it heard before, in
buffers that it uses again, must leave as little behind.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lpa_export.runtimes import Array, Bucketed, Exact, pad
from lpa_validate.checks.buckets import check_buckets
from lpa_validate.checks.clips import spread_clips, worst_agreement
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, gated, judged, labelled

__all__ = ["PADDINGS", "Padded", "check_padding"]

_SEED = 7
# Loud beside speech in [-1, 1], and off zero: what leaks in must show.
_NOISE_LEVEL = 3.0
_NOISE_MEAN = 1.0

Padded = Callable[[Array, Array, int], Array]


def _beside_longer(clip: Array, longer: Array, rate: int) -> Array:
    return pad([clip, longer], extra=max(0, len(clip) - len(longer) + 1))[0]


def _silence(seconds: float) -> Padded:
    return lambda clip, longer, rate: pad([clip], extra=round(seconds * rate))[0]


def _noise(seconds: float) -> Padded:
    def padded(clip: Array, longer: Array, rate: int) -> Array:
        batch = _silence(seconds)(clip, longer, rate)
        tail = batch[:, len(clip) :]
        tail[:] = np.random.default_rng(_SEED).normal(_NOISE_MEAN, _NOISE_LEVEL, tail.shape)
        return batch

    return padded


PADDINGS: dict[str, Padded] = {
    "beside a longer clip": _beside_longer,
    "0.5 s of silence": _silence(0.5),
    "3 s of silence": _silence(3.0),
    "0.5 s of noise": _noise(0.5),
    "3 s of noise": _noise(3.0),
}
"""How a clip is padded -> the batch (rows, samples) whose first row it is."""

_BEFORE: dict[str, Padded] = {
    "after a longer clip": lambda clip, longer, rate: longer[None],
    "after itself and 3 s of noise": _noise(3.0),
}
"""What an artifact of exact lengths hears before a clip, (1, samples)."""


def check_padding(validation: Validation) -> list[Check]:
    """Argmax and PSNR on valid frames, per way of padding, the worst over a few clips."""
    if isinstance(validation.artifact, Bucketed) and validation.artifact.buckets:
        return check_buckets(validation, validation.artifact)
    exact = isinstance(validation.artifact, Exact) and validation.artifact.exact
    ways, heard = (_BEFORE, _afterwards) if exact else (PADDINGS, _first)
    clips = spread_clips(validation)
    longer = clips[-1]
    rate = validation.bundle.manifest.sample_rate
    gate = validation.gates.padding_psnr_db
    alone = [validation.artifact.run(*pad([clip]))[0] for clip in clips]
    figures, tables = [], []
    for name, padded in ways.items():
        found = [heard(validation, padded(clip, longer, rate), clip, longer) for clip in clips]
        agreement, psnr, problem = worst_agreement(alone, found)
        # Where the scheme has no gate here, padding moves the quantisation range: remark it.
        figures += [
            Figure(f"argmax, {name}", agreement, gate=1.0, comparison=">=", flag=gate is None),
            gated(f"PSNR, {name}", psnr, gate, ">=", unit="dB"),
        ]
        tables.append({"padding": name, "argmax": agreement, "psnr_db": psnr, "problem": problem})
    problems = "; ".join(f"{row['padding']}: {row['problem']}" for row in tables if row["problem"])
    details: dict[str, Any] = {"clips": len(clips), "paddings": tables}
    figures = labelled(validation.label, figures)
    return [judged("padding", figures, reason=problems, details=details)]


def _first(validation: Validation, batch: Array, clip: Array, longer: Array) -> Array:
    """Logits of the clip in the first row of ``batch``; a second row is ``longer``."""
    lengths = [len(clip), len(longer)][: len(batch)]
    return validation.artifact.run(batch, lengths)[0]


def _afterwards(validation: Validation, batch: Array, clip: Array, longer: Array) -> Array:
    """Logits of the clip behind ``batch`` (1, samples), of which as much is heard as may be."""
    heard = batch[:, : validation.artifact.max_samples]
    validation.artifact.run(heard, [heard.shape[1]])
    return validation.artifact.run(*pad([clip]))[0]
