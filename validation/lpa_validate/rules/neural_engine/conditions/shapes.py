"""Ranks, extents, flexible shapes, and the size of the whole."""

from lpa_validate.rules.neural_engine.graph import Graph, Op, Shape

__all__ = [
    "batches_of_rank_five",
    "enumerated_shapes",
    "many_operations",
    "range_shapes",
    "rank_above_five",
    "small_graph",
    "too_wide",
    "weights_too_large",
]

_MAX_RANK = 5
_MAX_EXTENT = 16_384
_MAX_CHANNELS = 65_536
_LONGEST_SEEN = 67_072
"""The widest sum or product of two activations that was seen to stay."""
_MAX_BYTES = 2**31
_MAX_OPS = 3_000
_SMALL_BYTES = 50 * 10**6
_FEW_FRAMES = 72


def rank_above_five(op: Op, graph: Graph) -> str:
    rank = max((len(value.shape) for value in (*op.read, *op.outputs)), default=0)
    return f"rank {rank}" if rank > _MAX_RANK else ""


def batches_of_rank_five(op: Op, graph: Graph) -> str:
    shapes = [value.shape for value in (*op.activations, *op.outputs)]
    large = [shape for shape in shapes if len(shape) == _MAX_RANK and (shape[0] or 2) > 1]
    return f"rank 5 with a batch of {large[0][0] or 'any size'}" if large else ""


# What only renames the axes of a tensor moves nothing, however long they are.
_RENAMES = frozenset({"reshape", "reshape_like", "expand_dims", "squeeze", "flatten2d"})
_SUMS = frozenset({"add", "sub", "mul"})
_PRODUCTS = frozenset({"linear", "matmul"})


def too_wide(op: Op, graph: Graph) -> str:
    """A tensor is (..., C, H, W), one of rank 2 or 3 (..., C, W); weights have limits of their own.

    W and H may reach 65536 on A16 and later: the limit of older engines is the one that counts.
    """
    if op.type in _RENAMES:
        return ""
    if op.type in _PRODUCTS:
        return _too_wide_product(op)
    limits = {"W": _MAX_EXTENT, "H": _MAX_EXTENT, "C": _MAX_CHANNELS}
    if op.type in _SUMS and len(op.activations) > 1:
        limits = dict.fromkeys(limits, _LONGEST_SEEN)
    for value in (*op.activations, *op.outputs):
        for what, size in _extents(value.shape):
            if size is not None and size > limits[what]:
                return f"{what} {size} > {limits[what]}"
    return ""


def _extents(shape: Shape) -> list[tuple[str, int | None]]:
    names = ["W", "H", "C"] if len(shape) > 3 else ["W", "C"]
    return list(zip(names, reversed(shape), strict=False))


def _too_wide_product(op: Op) -> str:
    """Rows (.., M, K) by a matrix: K, and M, are limited; N only where there are many rows.

    One row by 17,408 columns stays, 1,024 rows by 16,385 leave; between, the many are assumed.
    """
    transposed = bool(op.stated("transpose_x")) and len(op.shape("x")) > 1
    inner = op.shape("x")[-2 if transposed else -1] or 0
    shape = op.outputs[0].shape
    columns, rows = shape[-1] or 0, (shape[-2] or 0) if len(shape) > 1 else 1
    if inner > _MAX_EXTENT:
        return f"sums over {inner} > {_MAX_EXTENT}"
    if rows > _MAX_EXTENT:
        return f"{rows} rows > {_MAX_EXTENT}"
    many = rows > 1 and columns > _MAX_EXTENT
    return f"{columns} columns > {_MAX_EXTENT} for {rows} rows" if many else ""


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


def weights_too_large(graph: Graph) -> list[str]:
    """One file of weights; without knowing of the files, the package stands for it."""
    size = graph.size if graph.largest_file is None else graph.largest_file
    return [] if size is None or size < _MAX_BYTES else [f"{size / 1e9:.2f} GB in one file"]


def many_operations(graph: Graph) -> list[str]:
    count = len(graph.ops)
    return [f"{count} operations > {_MAX_OPS}"] if count > _MAX_OPS else []
