"""A function of a program against the rules: what it meets, what stays on the Neural Engine.

Everything here is predicted from the program: whether the device agrees, only MLComputePlan and a
run on it tell.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpa_validate.rules.neural_engine.graph import Graph, Op
from lpa_validate.rules.neural_engine.macs import macs
from lpa_validate.rules.neural_engine.rules import (
    FUNCTION_CONDITIONS,
    MANY_ISLANDS,
    OP_CONDITIONS,
    Rule,
    all_rules,
    label,
)
from lpa_validate.rules.neural_engine.segments import segmentation

__all__ = ["Break", "Examination", "Finding", "Segment", "Share", "Verdict", "examine"]

_NAMES = 5
"""First operations of a finding that are named; the count says how many there are."""

_FEW_ISLANDS = 1


@dataclass(frozen=True)
class Finding:
    """A rule and what meets it: ``ops`` operations with their multiply-accumulates.

    A rule on the function as a whole counts every operation it holds for, or none; ``evidence``
    names the inputs, outputs or numbers.
    """

    rule: Rule
    ops: int
    macs: int
    names: tuple[str, ...]
    modules: tuple[str, ...]
    evidence: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        rule = self.rule
        return {
            "rule": rule.id,
            "severity": rule.severity,
            "confirm": rule.confirm,
            "ops": self.ops,
            "macs": self.macs,
            "names": list(self.names),
            "modules": list(self.modules),
            "evidence": list(self.evidence),
            "why": rule.why,
            "fix": rule.fix,
            "sources": list(rule.sources),
        }


@dataclass(frozen=True)
class Share:
    """Percent of the operations and of the multiply-accumulates."""

    ops: float
    macs: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Segment:
    """Operations that can run on the Neural Engine without a switch; MACs in percent of all."""

    ops: int
    mac_share: float
    first: str
    last: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Break:
    """An operation that takes over after segment ``after`` (from 0), and why it is not on it."""

    after: int
    op: str
    name: str
    module: str
    rules: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "rules": list(self.rules)}


@dataclass(frozen=True)
class Verdict:
    """One operation: the rules that keep it off the Neural Engine (none: it stays)."""

    op: str
    output: str
    module: str
    rules: tuple[str, ...]

    @property
    def on_engine(self) -> bool:
        return not self.rules


@dataclass(frozen=True)
class Examination:
    """What the rules say about one function; all of it predicted.

    ``free_of_fatal`` is the share that no fatal rule holds for, ``free`` the share that no fatal
    and no performance rule holds for. ``uncounted`` operations have shapes that are not fixed:
    their multiply-accumulates are in no sum.
    """

    function: str
    ops: int
    macs: int
    uncounted: int
    findings: tuple[Finding, ...]
    free_of_fatal: Share
    free: Share
    segments: tuple[Segment, ...]
    breaks: tuple[Break, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def longest(self) -> Segment | None:
        """The longest uninterrupted run, None when nothing stays."""
        return max(self.segments, key=lambda segment: segment.ops, default=None)

    def finding(self, rule: str) -> Finding | None:
        """What was found for that rule."""
        return next((found for found in self.findings if found.rule.id == rule), None)

    def to_json(self) -> dict[str, Any]:
        """Without the verdicts on single operations: those stand in a placement file."""
        return {
            "function": self.function,
            "label": label(),
            "ops": self.ops,
            "macs": self.macs,
            "uncounted": self.uncounted,
            "free_of_fatal": self.free_of_fatal.to_json(),
            "free_of_fatal_and_performance": self.free.to_json(),
            "longest": self.longest and self.longest.to_json(),
            "segments": [segment.to_json() for segment in self.segments],
            "breaks": [item.to_json() for item in self.breaks],
            "findings": [found.to_json() for found in self.findings],
        }


def examine(graph: Graph, scopes: Mapping[str, str] | None = None) -> Examination:
    """``graph`` against every rule; ``scopes`` maps output names to the modules they come from."""
    rules = {name: rule.on(graph.engine) for name, rule in all_rules().items()}
    counted = [macs(op) for op in graph.ops]
    work = [count or 0 for count in counted]
    modules = [_module(op, scopes or {}) for op in graph.ops]
    met = _met(graph)
    whole = {name: found for name, meets in FUNCTION_CONDITIONS.items() if (found := meets(graph))}
    for name in whole:
        if rules[name].whole:
            for reasons in met:
                reasons[name] = ""
    off = [tuple(name for name in reasons if rules[name].moves) for reasons in met]
    pieces = segmentation(graph, [not names for names in off])
    breaks = tuple(
        Break(after, graph.ops[i].type, graph.ops[i].name, modules[i], off[i])
        for after, island in enumerate(pieces.islands)
        for i in island
    )
    if len(pieces.islands) > _FEW_ISLANDS:
        whole[MANY_ISLANDS] = [f"{len(pieces.islands)} islands between {len(pieces.segments)} runs"]
    graded = [{rules[name].severity for name in reasons} for reasons in met]
    return Examination(
        function=graph.name,
        ops=len(graph.ops),
        macs=sum(work),
        uncounted=counted.count(None),
        findings=_findings(rules, graph, met, whole, work, modules),
        free_of_fatal=_share(["fatal" not in found for found in graded], work),
        free=_share([not found & {"fatal", "performance"} for found in graded], work),
        segments=tuple(_segment(graph, indices, work) for indices in pieces.segments),
        breaks=breaks,
        verdicts=tuple(
            Verdict(op.type, op.outputs[0].name if op.outputs else op.name, module, names)
            for op, module, names in zip(graph.ops, modules, off, strict=True)
        ),
    )


def _met(graph: Graph) -> list[dict[str, str]]:
    """For each operation: rule -> how it is met."""
    return [
        {name: how for name, meets in OP_CONDITIONS.items() if (how := meets(op, graph))}
        for op in graph.ops
    ]


def _module(op: Op, scopes: Mapping[str, str]) -> str:
    return next((scopes[value.name] for value in op.outputs if value.name in scopes), "")


def _findings(
    rules: Mapping[str, Rule],
    graph: Graph,
    met: Sequence[Mapping[str, str]],
    whole: Mapping[str, list[str]],
    work: Sequence[int],
    modules: Sequence[str],
) -> tuple[Finding, ...]:
    """In the order of the table, so that fatal rules need no search."""
    found = []
    for name, rule in rules.items():
        places = [index for index, reasons in enumerate(met) if name in reasons]
        if not places and name not in whole:
            continue
        evidence = Counter(met[i][name] for i in places if met[i][name])
        found.append(
            Finding(
                rule,
                len(places),
                sum(work[i] for i in places),
                tuple(graph.ops[i].name for i in places[:_NAMES]),
                tuple(dict.fromkeys(modules[i] for i in places if modules[i])),
                tuple(whole.get(name) or [how for how, _ in evidence.most_common(_NAMES)]),
            )
        )
    return tuple(found)


def _share(holds: Sequence[bool], work: Sequence[int]) -> Share:
    """Percent of the operations, and of their work; without any work, of the operations."""
    ops = 100.0 * sum(holds) / len(holds) if holds else 100.0
    total = sum(work)
    if not total:
        return Share(ops, ops)
    held = sum(count for count, holding in zip(work, holds, strict=True) if holding)
    return Share(ops, 100.0 * held / total)


def _segment(graph: Graph, indices: Sequence[int], work: Sequence[int]) -> Segment:
    return Segment(
        len(indices),
        100.0 * sum(work[i] for i in indices) / max(1, sum(work)),
        graph.ops[indices[0]].name,
        graph.ops[indices[-1]].name,
    )
