"""Into how many pieces a function falls, and which operations cut it.

How Core ML cuts a program is not documented. Counted are the fewest pieces that the data flow
allows: operations off the Neural Engine cut only what depends on them, and everything that can
run together does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lpa_validate.rules.neural_engine.graph import Graph

__all__ = ["Segmentation", "segmentation"]


@dataclass(frozen=True)
class Segmentation:
    """Indices into the function's operations.

    ``segments`` run on the Neural Engine, in order; ``islands[i]`` are the operations between
    segments i and i + 1 that take over from the first.
    """

    segments: tuple[tuple[int, ...], ...]
    islands: tuple[tuple[int, ...], ...]


def segmentation(graph: Graph, on_engine: Sequence[bool]) -> Segmentation:
    """The pieces of ``graph`` when ``on_engine`` says which of its operations stay."""
    places = {value.name: index for index, op in enumerate(graph.ops) for value in op.outputs}
    feeds = [
        sorted({places[value.name] for value in op.activations if value.name in places})
        for op in graph.ops
    ]
    levels = _levels(feeds, on_engine)
    count = max((level for level, on in zip(levels, on_engine, strict=True) if on), default=-1) + 1
    segments = tuple(
        tuple(i for i, level in enumerate(levels) if on_engine[i] and level == number)
        for number in range(count)
    )
    leads_on = _leads_on(feeds, on_engine)
    islands = tuple(
        tuple(
            i
            for i, level in enumerate(levels)
            if not on_engine[i]
            and level == number
            and leads_on[i]
            and any(on_engine[j] and levels[j] == number for j in feeds[i])
        )
        for number in range(count - 1)
    )
    return Segmentation(segments, islands)


def _levels(feeds: Sequence[Sequence[int]], on_engine: Sequence[bool]) -> list[int]:
    """For each operation the number of the segment it is in, or comes after (-1: before all)."""
    levels: list[int] = []
    for index, sources in enumerate(feeds):
        reached = [levels[j] + (on_engine[index] and not on_engine[j]) for j in sources]
        levels.append(max(reached, default=-1))
        if on_engine[index]:
            levels[index] = max(levels[index], 0)
    return levels


def _leads_on(feeds: Sequence[Sequence[int]], on_engine: Sequence[bool]) -> list[bool]:
    """Whether what an operation computes comes back to the Neural Engine later."""
    leads = [False] * len(feeds)
    for index in reversed(range(len(feeds))):
        for source in feeds[index]:
            leads[source] = leads[source] or on_engine[index] or leads[index]
    return leads
