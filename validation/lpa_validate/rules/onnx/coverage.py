"""What share of a graph a provider would take, in how many pieces, and what breaks it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpa_validate.rules.onnx.graph import Node
from lpa_validate.rules.onnx.macs import macs
from lpa_validate.rules.onnx.partition import partitions
from lpa_validate.rules.onnx.providers import OpRule, Provider

__all__ = ["Breaker", "Coverage", "coverage"]

_NO_RULE = OpRule()


@dataclass(frozen=True)
class Breaker:
    """An op left to the CPU: how often, its share of all MACs in percent, and why."""

    op: str
    nodes: int
    mac_share: float
    reason: str


@dataclass(frozen=True)
class Coverage:
    """Predicted for one provider. Shares in percent; ``longest`` is the largest partition."""

    provider: str
    source: str
    node_share: float
    mac_share: float
    partitions: int
    longest_nodes: int
    longest_mac_share: float
    breakers: tuple[Breaker, ...]
    unchecked: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "breakers": [vars(breaker) for breaker in self.breakers]}


def coverage(nodes: Sequence[Node], provider: Provider) -> Coverage:
    """How ``provider`` would split ``nodes`` (topological order)."""
    work = [macs(node) for node in nodes]
    total = max(1, sum(work))
    refusals = [provider.refusal(node) for node in nodes]
    taken = [not refusal for refusal in refusals]
    groups = partitions(nodes, taken)
    longest = max(groups, key=len, default=[])
    left: Counter[tuple[str, str]] = Counter()
    left_work: Counter[tuple[str, str]] = Counter()
    for node, refusal, count in zip(nodes, refusals, work, strict=True):
        if refusal:
            left[node.op, refusal] += 1
            left_work[node.op, refusal] += count
    notes = {
        f"{node.op}: {note}"
        for node, accepted in zip(nodes, taken, strict=True)
        if accepted
        for note in (provider.rule(node) or _NO_RULE).unchecked
    }
    return Coverage(
        provider.name,
        provider.source,
        100.0 * sum(taken) / max(1, len(nodes)),
        100.0 * sum(c for c, accepted in zip(work, taken, strict=True) if accepted) / total,
        len(groups),
        len(longest),
        100.0 * sum(work[index] for index in longest) / total,
        tuple(
            Breaker(op, count, 100.0 * left_work[op, reason] / total, reason)
            for (op, reason), count in left.most_common()
        ),
        tuple(sorted(notes)),
    )
