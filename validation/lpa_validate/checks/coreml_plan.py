"""Where Core ML itself places each op, and whether it predicts at all: on macOS only.

The plan stands beside the prediction of the rules, so that the rules can be graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lpa_export.measures.arrays import psnr_db
from lpa_validate.checks.coreml_ops import Examined, examined_steps, opened_packages
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged, not_run
from lpa_validate.rules.compute_plan import Plan, Trial, adapter, grade, try_prediction

if TYPE_CHECKING:
    from lpa_export.runtimes.coreml import Package
    from lpa_export.runtimes.coreml.features import Feature

__all__ = ["check_compute_plan"]

_NAME = "compute-plan"
_REFERENCE = "CPU_ONLY"

Arrays = dict[str, npt.NDArray[Any]]


def check_compute_plan(validation: Validation) -> list[Check]:
    """Devices and cost per function, the rules against them, a prediction of every function."""
    reason = adapter.unavailable()
    if reason:
        return [not_run(_NAME, reason)]
    packages = opened_packages(validation)
    examined = examined_steps(validation, packages)
    figures: list[Figure] = []
    tables: list[dict[str, Any]] = []
    trials: list[Trial] = []
    try:
        for name, package in packages.items():
            own = [item for item in examined if item.step.package == name]
            with adapter.compiled(validation.bundle.path / name) as model:
                plans = adapter.plans(model, [item.step.function for item in own])
                for item in own:
                    plan = plans[item.step.function]
                    tried = _tried(model, package, item)
                    trials += tried
                    figures += [*_placed(item, plan), *_agreement(item, tried)]
                    tables.append(_table(item, plan, tried))
    except adapter.PlanUnavailable as error:
        return [not_run(_NAME, str(error))]
    broken = [
        f"{trial.function} on {trial.units}: {trial.fault}" for trial in trials if trial.fault
    ]
    figures += [
        Figure("predictions", len(trials)),
        Figure("predictions that broke", len(broken), gate=0, comparison="=="),
    ]
    details = {"compute_plan": tables}
    return [judged(_NAME, figures, reason="; ".join(broken), details=details)]


def _placed(item: Examined, plan: Plan) -> list[Figure]:
    """What Core ML means for the Neural Engine; its own estimate, so predicted as well."""
    engine = plan.devices.get("neural engine", {"ops": 0, "cost": 0.0})
    ops = 100.0 * engine["ops"] / max(1, len(plan.ops))
    name = item.step.function
    return [
        Figure(f"{name}: ops on the engine", ops, "%", label="predicted"),
        Figure(f"{name}: cost on the engine", 100.0 * engine["cost"], "%", label="predicted"),
    ]


def _table(item: Examined, plan: Plan, tried: Sequence[Trial]) -> dict[str, Any]:
    return {
        "package": item.step.package,
        **plan.to_json(),
        "grading": grade(item.examination, plan).to_json(),
        "predictions": [trial.to_json() for trial in tried],
    }


def _tried(model: Path, package: Package, item: Examined) -> list[Trial]:
    """One prediction on the CPU and one with the Neural Engine, on the same made-up input."""
    step = item.step
    given = _inputs(package.features(step.function), item)
    return [
        try_prediction(model, step.function, units, given) for units in (_REFERENCE, adapter.UNITS)
    ]


def _agreement(item: Examined, tried: Sequence[Trial]) -> list[Figure]:
    """Worst PSNR of an output with the Neural Engine against the CPU; none when one broke."""
    reference, other = (trial.outputs for trial in tried)
    shared = [name for name in reference if name in other]
    if not shared or any(trial.fault for trial in tried):
        return []
    worst = min(psnr_db(reference[name], other[name]) for name in shared)
    return [Figure(f"{item.step.function}: PSNR to CPU", worst, "dB")]


def _inputs(features: dict[str, Feature], item: Examined) -> Arrays:
    """Noise for what is heard; every frame and every sample counts as valid."""
    generator = np.random.default_rng(0)
    found: Arrays = {}
    for name, feature in features.items():
        shape = item.counted_at.get(name) or tuple(low for low, _ in feature.bounds)
        dtype = np.float16 if feature.dtype == "fp16" else np.float32
        if name == "samples":
            found[name] = np.full(shape, item.step.max_samples, dtype)
        elif name == "mask":
            found[name] = np.ones(shape, dtype)
        else:
            found[name] = generator.normal(0, 0.1, shape).astype(dtype)
    return found
