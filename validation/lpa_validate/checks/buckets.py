"""Does a clip sound the same in every bucket that holds it, whatever lies in the padding?

The smallest bucket is the truth; then every larger one, and each again with noise in the places
that a caller pads (what a reused buffer holds). Only valid frames are compared.
"""

from collections.abc import Sequence

from lpa_export.runtimes import Array, Bucketed, pad
from lpa_validate.checks.clips import spread_clips, worst_agreement
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, gated, judged, labelled

__all__ = ["check_buckets"]

# Far beyond what a feature or a sample is: what leaks in must show.
_GARBAGE = 37.0


def check_buckets(validation: Validation, runner: Bucketed) -> list[Check]:
    """Argmax and PSNR on valid frames, per bucket and filling, the worst over a few clips."""
    clips = spread_clips(validation)
    alone = [validation.artifact.run(*pad([clip]))[0] for clip in clips]
    gate = validation.gates.padding_psnr_db
    figures, tables = [], []
    smaller = 0
    for bucket in runner.buckets:
        # With zeros in the smallest that holds it a clip would be compared with itself.
        for filling, garbage, most in (("zeros", 0.0, smaller), ("garbage", _GARBAGE, bucket)):
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
        smaller = bucket
    problems = "; ".join(f"{row['padding']}: {row['problem']}" for row in tables if row["problem"])
    details = {"clips": len(clips), "paddings": tables}
    figures = labelled(validation.label, figures)
    return [judged("padding", figures, reason=problems, details=details)]


def _picked(values: Sequence[Array], indices: Sequence[int]) -> list[Array]:
    return [values[index] for index in indices]
