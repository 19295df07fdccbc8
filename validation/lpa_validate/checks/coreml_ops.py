"""Ops of Core ML packages: what the rules let stay on the Neural Engine (predicted).

Nothing here runs on Apple hardware: what Core ML itself plans is in the check ``compute-plan``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.coreml import Package, load_package
from lpa_export.runtimes.coreml.handlers import HANDLERS
from lpa_export.runtimes.coreml.plan import CONTROL
from lpa_export.runtimes.coreml.runner import CoremlRunner, Step, coreml_steps
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged
from lpa_validate.rules.neural_engine import (
    Examination,
    compare_placement,
    examine,
    read_graph,
    write_placement,
)
from lpa_validate.rules.neural_engine.fixed import with_shapes
from lpa_validate.rules.neural_engine.graph import Flexibility

if TYPE_CHECKING:
    from lpa_export.runtimes.coreml.features import Feature

__all__ = [
    "SCOPES",
    "Examined",
    "check_ops",
    "examined_step",
    "examined_steps",
    "opened_packages",
    "placement_figures",
    "scopes_of",
    "without_handler",
]

SCOPES = "scopes.json"
"""In a bundle: {"package/function": {output name: module of the model}}."""

Scopes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Examined:
    """A function of the bundle; ``counted_at`` are the shapes given to flexible inputs."""

    step: Step
    examination: Examination
    counted_at: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        shapes = {name: list(shape) for name, shape in self.counted_at.items()}
        return {
            "package": self.step.package,
            **self.examination.to_json(),
            "counted_at": shapes,
        }


def check_ops(validation: Validation) -> list[Check]:
    """The rules on every function, ops that the evaluator lacks, the placement file."""
    packages = opened_packages(validation)
    examined = examined_steps(validation, packages)
    frontend = [item for item in examined if item.step.frames is None]
    encoders = [item for item in examined if item.step.frames is not None]
    missing = without_handler(packages, examined)
    gated = _is_gated(validation, frontend)
    figures = [
        Figure("ops the evaluator lacks", len(missing), gate=0, comparison="=="),
        *placement_figures("front end", frontend),
        *placement_figures("encoders", encoders, gated=gated),
    ]
    details: dict[str, Any] = {
        "neural_engine": [item.to_json() for item in examined],
        "missing_kernels": missing,
    }
    placed, left, details["placement"] = _placed(validation, examined)
    reason = "; ".join([*missing, *(_fatal(encoders) if gated else []), *left])
    return [judged("ops", [*figures, *placed], reason=reason, details=details)]


def opened_packages(validation: Validation) -> Mapping[str, Package]:
    """The bundle's packages by name. Raises ArtifactError for one that does not open."""
    if isinstance(validation.runner, CoremlRunner):
        return validation.runner.packages
    bundle = validation.bundle
    return {name: load_package(bundle.path / name) for name in bundle.manifest.artifacts}


def examined_steps(validation: Validation, packages: Mapping[str, Package]) -> list[Examined]:
    """The front end, if there is one, and the encoders by ascending bucket."""
    frontend, encoders = coreml_steps(validation.bundle)
    scopes = scopes_of(validation)
    steps = [*([frontend] if frontend else []), *encoders]
    return [examined_step(packages[step.package], step, scopes) for step in steps]


def examined_step(package: Package, step: Step, scopes: Scopes) -> Examined:
    """A flexible function is counted at its largest shapes, and stays flexible to the rules."""
    function = package.function(step.function)
    features = package.features(step.function)
    shapes = {name: _largest(f, step) for name, f in features.items() if not f.fixed}
    fixed = with_shapes(function, shapes) if shapes else None
    flexible: dict[str, Flexibility] = {
        name: "enumerated" if features[name].listed else "range" for name in shapes
    }
    graph = read_graph(
        function if fixed is None else fixed,
        name=step.function,
        flexible=flexible,
        size=package.size,
        largest_file=package.largest_file,
    )
    counted_at = {} if fixed is None else shapes
    return Examined(step, examine(graph, scopes.get(step.place)), counted_at)


def _largest(feature: Feature, step: Step) -> tuple[int, ...]:
    """Its largest shape; an axis without an upper end is as long as the longest waveform."""
    if feature.listed:
        return max(feature.listed)
    return tuple(step.max_samples if high is None else high for _, high in feature.bounds)


def _is_gated(validation: Validation, frontend: Sequence[Examined]) -> bool:
    """Whether the encoders are meant for the Neural Engine: not in fp32, not with a front end."""
    return bool(frontend) and validation.bundle.manifest.scheme.compute != "fp32"


def placement_figures(
    what: str, examined: Sequence[Examined], *, gated: bool = False
) -> list[Figure]:
    """The worst over the functions; the counts are those of the largest."""
    if not examined:
        return []
    found = [item.examination for item in examined]
    longest = [item.longest for item in found]
    free = min(item.free_of_fatal.macs for item in found)
    gate = 100.0 if gated else None
    stays = f"{what}: MACs free of fatal"
    predicted: list[tuple[str, Any, str]] = [
        ("ops free of fatal", min(item.free_of_fatal.ops for item in found), "%"),
        ("ops free of fatal and slow", min(item.free.ops for item in found), "%"),
        ("MACs free of fatal and slow", min(item.free.macs for item in found), "%"),
        ("runs", max(len(item.segments) for item in found), ""),
        ("longest run", min(run.ops if run else 0 for run in longest), "ops"),
        ("MACs in it", min(run.mac_share if run else 0.0 for run in longest), "%"),
    ]
    return [
        Figure(f"{what}: ops", max(item.ops for item in found)),
        Figure(f"{what}: GMAC, largest", max(item.macs for item in found) / 1e9),
        Figure(stays, free, "%", gate, "==" if gated else None, "predicted"),
        *(Figure(f"{what}: {n}", value, unit, label="predicted") for n, value, unit in predicted),
    ]


def _fatal(examined: Sequence[Examined]) -> list[str]:
    """What takes multiply-accumulates off the Neural Engine, one line per rule and function."""
    return [
        f"{item.step.place}: {found.rule.id} holds for {found.ops} ops ({found.evidence[0]})"
        for item in examined
        for found in item.examination.findings
        if found.rule.severity == "fatal" and found.macs
    ]


def without_handler(packages: Mapping[str, Package], examined: Sequence[Examined]) -> list[str]:
    """Kinds of operations that the evaluator cannot compute, one line each."""
    counts: Counter[str] = Counter()
    for item in examined:
        counts.update(_kinds(packages[item.step.package].function(item.step.function)))
    return [
        f"the evaluator cannot compute {kind} ({count} ops)"
        for kind, count in sorted(counts.items())
        if kind != "const" and kind not in HANDLERS and kind not in CONTROL
    ]


def _kinds(block: Any) -> list[str]:
    nested = [kind for op in block.operations for inner in op.blocks for kind in _kinds(inner)]
    return [*(op.op_type for op in block.operations), *nested]


def _placed(
    validation: Validation, examined: Sequence[Examined]
) -> tuple[list[Figure], list[str], dict[str, Any]]:
    """The placement file compared or written: figures, a line per kind that left, a table."""
    asked = validation.placement
    if asked is None:
        return [], [], {"state": "not compared: no placement file was named"}
    now = {item.step.place: item.examination for item in examined}
    if asked.write:
        write_placement(asked.path, now)
        return [], [], {"state": f"written to {asked.path.name}"}
    found = compare_placement(asked.path, now)
    leaving = sum(move.count for move in found.leaving)
    joining = sum(move.count for move in found.joining)
    figures = [
        Figure("ops newly off the engine", leaving, "", 0, "==", "predicted"),
        Figure("ops newly on the engine", joining, label="predicted"),
        Figure("functions on one side alone", len(found.unmatched), gate=0, comparison="=="),
    ]
    left = [
        f"newly off the Neural Engine: {move.count} {move.op} in {move.module or '?'} of "
        f"{move.function} ({', '.join(move.rules)})"
        for move in found.leaving
    ]
    left += [f"on one side of the placement alone: {name}" for name in found.unmatched]
    return figures, left, {"state": f"compared with {asked.path.name}", **found.to_json()}


def scopes_of(validation: Validation) -> Scopes:
    """Where each value comes from; nothing when the bundle does not say.

    Raises ArtifactError for a file of another form.
    """
    bundle = validation.bundle
    if SCOPES not in bundle.manifest.files:
        return {}
    try:
        scopes = json.loads(bundle.file(SCOPES).read_text("utf-8"))
    except (LpaError, OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{SCOPES} cannot be read: {error}") from error
    sound = isinstance(scopes, dict) and all(
        isinstance(names, dict) and all(isinstance(value, str) for value in names.values())
        for names in scopes.values()
    )
    if not sound:
        raise ArtifactError(f"{SCOPES}: expected names of modules by function and value")
    found: Scopes = scopes
    return found
