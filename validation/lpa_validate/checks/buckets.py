"""Does a clip sound the same in every bucket that holds it, whatever lies in the padding?

The smallest bucket is the truth; then every larger one, and each again with noise in the places
that a caller pads (what a reused buffer holds). Only valid frames are compared.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from lpa_export.runtimes import Array, Bucketed, pad
from lpa_validate.checks.clips import spread_clips, worst_agreement
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, gated, judged, labelled

__all__ = ["check_buckets", "fillings"]

# Far beyond what a feature or a sample is: what leaks in must show.
_GARBAGE = 37.0


def fillings(buckets: Sequence[int]) -> Iterator[tuple[str, int, float, int]]:
    """What fills each of them (ascending), which, with what, and what it has to hold at most.

    Alone a clip is heard in the smallest that holds it, behind it zeros: that is no comparison.
    """
    for smaller, bucket in pairwise((0, *buckets)):
        yield "zeros", bucket, 0.0, smaller
        yield "garbage", bucket, _GARBAGE, bucket


def check_buckets(validation: Validation, runner: Bucketed) -> list[Check]:
    """Argmax and PSNR on valid frames, per bucket and filling, the worst over a few clips."""
    clips = spread_clips(validation)
    alone = [validation.artifact.run(*pad([clip]))[0] for clip in clips]
    gate = validation.gates.padding_psnr_db
    figures, tables = [], []
    for filling, bucket, garbage, most in fillings(runner.buckets):
        fitting = [index for index, logits in enumerate(alone) if len(logits) <= most]
        if not fitting:
            continue
        name = f"{bucket} frames, {filling}"
        found = [runner.run_in(clips[index], bucket, garbage=garbage) for index in fitting]
        agreement, psnr, problem = worst_agreement(_picked(alone, fitting), found)
        figures += [
            Figure(f"argmax, {name}", agreement, gate=1.0, comparison=">="),
            gated(f"PSNR, {name}", psnr, gate, ">=", unit="dB"),
        ]
        row = {"padding": name, "clips": len(fitting), "argmax": agreement, "psnr_db": psnr}
        tables.append({**row, "problem": problem})
    problems = "; ".join(f"{row['padding']}: {row['problem']}" for row in tables if row["problem"])
    details = {"clips": len(clips), "paddings": tables}
    figures = labelled(validation.label, figures)
    return [judged("padding", figures, reason=problems, details=details)]


def _picked(values: Sequence[Array], indices: Sequence[int]) -> list[Array]:
    return [values[index] for index in indices]
