"""``delegation.json``: what the export says about each node it lowered, held against the program.

The program itself knows its delegates and the kernels between them, but no multiply-accumulates
and no source lines; the export states those. What both know must agree.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.program import Delegate, Method
from lpa_validate.rules.executorch.xnnpack import BACKEND, MATRIX, read_graph

__all__ = ["Delegation", "Node", "disagreements", "outside", "read_delegation"]


_MATRIX = frozenset(f"aten.{name}" for name in ("linear", "addmm", "mm", "convolution"))

# They move no data: the planning of memory turns them into another name for the same bytes.
_VIEWS = frozenset({"aten.view_copy", "executorch_prim.et_view"})
_ON_SIZES = ("executorch_prim.", "aten.sym_")


@dataclass(frozen=True)
class Node:
    """One operator on tensors before lowering; ``delegate`` is None for one left to a kernel.

    ``macs`` are counted for an utterance of the statement's length. ``source`` is where the model
    asks for it, empty where that is not known.
    """

    name: str
    op: str
    delegate: int | None
    macs: int
    module: str
    source: str

    @property
    def kind(self) -> str:
        """The operator without its overload, such as ``aten.linear``."""
        return self.op.rsplit(".", 1)[0]

    @property
    def matrix(self) -> bool:
        """Whether it is a linear layer or a convolution."""
        return self.kind in _MATRIX


@dataclass(frozen=True)
class Delegation:
    """What is stated of one method: its nodes, and the backends of its delegates in order.

    ``seconds`` of audio are what multiply-accumulates are counted for where any length goes.
    """

    seconds: float
    delegates: tuple[str, ...]
    nodes: tuple[Node, ...]

    def share(self, counts: Iterable[tuple[Node, int]]) -> float:
        """Percent of the counts that lie on delegated nodes; 100 where there is nothing."""
        pairs = list(counts)
        total = sum(number for _, number in pairs)
        inside = sum(number for node, number in pairs if node.delegate is not None)
        return 100.0 * inside / total if total else 100.0

    @property
    def node_share(self) -> float:
        """Percent of the nodes in delegates."""
        return self.share((node, 1) for node in self.nodes)

    @property
    def mac_share(self) -> float:
        """Percent of all multiply-accumulates in delegates."""
        return self.share((node, node.macs) for node in self.nodes)

    @property
    def matrix_mac_share(self) -> float:
        """Percent of the multiply-accumulates of linear layers and convolutions in delegates."""
        return self.share((node, node.macs) for node in self.nodes if node.matrix)


def read_delegation(path: Path) -> dict[str, Delegation]:
    """What a file states of each method. Raises ArtifactError when it states nothing."""
    try:
        stated = json.loads(path.read_text("utf-8"))
        return {
            str(method): Delegation(
                seconds=float(stated["example_seconds"]),
                delegates=tuple(map(str, entry["delegates"])),
                nodes=tuple(map(_node, entry["nodes"])),
            )
            for method, entry in stated["methods"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{path.name} does not state the delegation ({type(error).__name__}: {error})"
        ) from error


def disagreements(stated: Delegation, found: Method) -> list[str]:
    """One line per statement about the method that the program does not bear out."""
    return [*_of_delegates(stated, found), *_of_kernels(stated, found), *_of_layers(stated, found)]


def _of_delegates(stated: Delegation, found: Method) -> list[str]:
    called = tuple(found.delegates[index].backend for index, _ in found.delegate_calls)
    lines = []
    if stated.delegates != called:
        said, seen = (_listed(names) for names in (stated.delegates, called))
        lines.append(f"calls of delegates: {said} stated, {seen} found")
    used = {node.delegate for node in stated.nodes if node.delegate is not None}
    if used != {*range(len(called))}:
        lines.append(f"nodes in {len(used)} delegates stated, {len(called)} found")
    return lines


def _of_kernels(stated: Delegation, found: Method) -> list[str]:
    """Nodes outside against kernel calls; what only computes sizes is no node."""
    said = Counter(node.kind for node in stated.nodes if node.delegate is None)
    seen: Counter[str] = Counter()
    for name, count in found.kernels.items():
        kind = name.split(".")[0].replace("::", ".")
        if kind not in _VIEWS and not kind.startswith(_ON_SIZES):
            seen[kind] += count
    return [
        f"calls of {kind}: {said[kind]} stated, {seen[kind]} found"
        for kind in sorted({*said, *seen} - _VIEWS)
        if said[kind] != seen[kind]
    ]


def _of_layers(stated: Delegation, found: Method) -> list[str]:
    if any(delegate.backend != BACKEND for delegate in found.delegates):
        return []
    said = sum(node.matrix and node.delegate is not None for node in stated.nodes)
    seen = sum(map(_matrix_nodes, found.delegates))
    if said == seen:
        return []
    return [f"linear and convolution nodes in delegates: {said} stated, {seen} found"]


def _matrix_nodes(delegate: Delegate) -> int:
    nodes = read_graph(delegate.data).nodes
    return sum(count for kind, count in nodes.items() if kind in MATRIX)


def _listed(names: Iterable[str]) -> str:
    counts = Counter(names)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())) or "none"


def _node(entry: Mapping[str, Any]) -> Node:
    delegate = entry["delegate"]
    if delegate is not None and type(delegate) is not int:
        raise TypeError("'delegate' must be a number or null")
    return Node(
        name=str(entry["name"]),
        op=str(entry["op"]),
        delegate=delegate,
        macs=int(entry["macs"]),
        module=str(entry["module"]),
        source=str(entry["source"]),
    )


def outside(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """The ops outside every delegate: how many, how much work, and where they come from."""
    found = [node for node in nodes if node.delegate is None]
    rows = []
    for op, count in Counter(node.op for node in found).most_common():
        these = [node for node in found if node.op == op]
        sources = Counter(node.source or node.module for node in these)
        rows.append(
            {
                "op": op,
                "nodes": count,
                "macs": sum(node.macs for node in these),
                "sources": [place for place, _ in sources.most_common()],
            }
        )
    return rows
