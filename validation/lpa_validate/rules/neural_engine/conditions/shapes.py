"""Ranks, extents, flexible shapes, and the size of the whole."""

from lpa_validate.rules.neural_engine.graph import Graph, Op, Shape

__all__ = [
    "enumerated_shapes",
    "package_too_large",
    "range_shapes",
    "rank_above_five",
    "small_graph",
    "too_wide",
]

_MAX_RANK = 5
_MAX_EXTENT = 16_384
_MAX_CHANNELS = 65_536
_MAX_BYTES = 2 * 10**9
_SMALL_BYTES = 50 * 10**6
_FEW_FRAMES = 72


def rank_above_five(op: Op, graph: Graph) -> str:
    rank = max((len(value.shape) for value in (*op.read, *op.outputs)), default=0)
    return f"rank {rank}" if rank > _MAX_RANK else ""


def too_wide(op: Op, graph: Graph) -> str:
    """A tensor is (..., C, H, W), one of rank 2 or 3 (..., C, W); weights have limits of their own.

    W and H may reach 65536 on A16 and later: the limit of older engines is the one that counts.
    """
    for value in (*op.activations, *op.outputs):
        for what, size, limit in _extents(value.shape):
            if size is not None and size > limit:
                return f"{what} {size} > {limit}"
    return ""


def _extents(shape: Shape) -> list[tuple[str, int | None, int]]:
    names = ["W", "H", "C"] if len(shape) > 3 else ["W", "C"]
    limits = {"W": _MAX_EXTENT, "H": _MAX_EXTENT, "C": _MAX_CHANNELS}
    return [(name, size, limits[name]) for name, size in zip(names, reversed(shape), strict=False)]


def range_shapes(graph: Graph) -> list[str]:
    return _varying(graph, "range")


def enumerated_shapes(graph: Graph) -> list[str]:
    return _varying(graph, "enumerated")


def _varying(graph: Graph, how: str) -> list[str]:
    return [f"input {name}" for name, kind in graph.flexible.items() if kind == how]


def small_graph(graph: Graph) -> list[str]:
    """A small package, or few output frames: the last axis of (1, V, 1, T)."""
    size = graph.size
    found = [] if size is None or size >= _SMALL_BYTES else [f"package of {size / 1e6:.1f} MB"]
    frames = [value.shape[-1] for value in graph.outputs if len(value.shape) == 4]
    return found + [f"{n} output frames" for n in frames if n is not None and n < _FEW_FRAMES]


def package_too_large(graph: Graph) -> list[str]:
    if graph.size is None or graph.size <= _MAX_BYTES:
        return []
    return [f"{graph.size / 1e9:.2f} GB"]
