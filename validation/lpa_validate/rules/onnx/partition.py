"""Into how many pieces a provider would cut the graph.

After ONNX Runtime's ``CreateSupportedPartitionNodeGroups`` (core/providers/partitioning_utils.cc):
nodes are taken in topological order; a supported node joins the open group, an unsupported one
that the group feeds waits until the group is closed.
"""

from collections import deque
from collections.abc import Sequence

from lpa_validate.rules.onnx.graph import Node

__all__ = ["partitions"]


def partitions(nodes: Sequence[Node], supported: Sequence[bool]) -> list[list[int]]:
    """Groups of indices into ``nodes`` (topological order) that would run as one piece each."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    consumers: list[list[int]] = [[] for _ in nodes]
    waiting_for = [0] * len(nodes)
    for index, node in enumerate(nodes):
        sources = {producers[name] for name in node.inputs if name in producers}
        waiting_for[index] = len(sources)
        for source in sources:
            consumers[source].append(index)
    ready = deque(index for index, count in enumerate(waiting_for) if not count)
    after_group: deque[int] = deque()
    groups: list[list[int]] = []
    group: list[int] = []
    border: set[int] = set()
    while ready or after_group:
        if not ready:
            if group:
                groups.append(group)
            group, border = [], set()
            ready, after_group = after_group, deque()
            continue
        index = ready.popleft()
        if supported[index]:
            group.append(index)
            border.discard(index)
            border.update(consumers[index])
        elif index in border:
            after_group.append(index)
            continue
        for consumer in consumers[index]:
            waiting_for[consumer] -= 1
            if not waiting_for[consumer]:
                ready.append(consumer)
    return [*groups, group] if group else groups
