"""What follows from the kind of an operation and how it is used."""

from lpa_validate.rules.neural_engine.conditions import OpCondition
from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = [
    "NO_PATH",
    "axis_not_constant",
    "decomposed_norm",
    "kind_of",
    "long_reduction",
    "pads_channels",
    "wide_argument_reduction",
]

NO_PATH = frozenset(
    """
    mod logical_and logical_or logical_xor reduce_prod
    scatter scatter_along_axis scatter_nd band_part non_zero one_hot shape sliding_windows
    reverse_sequence gru lstm rnn tan asin acos sinh cosh asinh acosh atanh
    random_bernoulli random_categorical random_normal
    list_gather list_length list_read list_scatter list_write make_list
    """.split()
)
"""Operations without a path to the Neural Engine on any generation."""

_MAX_ARGUMENT_AXIS = 2048
_LONG_AXIS = 192


def kind_of(*kinds: str) -> OpCondition:
    """Whether an operation is one of these."""
    return lambda op, graph: op.type if op.type in kinds else ""


def wide_argument_reduction(op: Op, graph: Graph) -> str:
    if op.type not in ("reduce_argmax", "reduce_argmin"):
        return ""
    axis = op.stated("axis")
    size = op.shape("x")[-1 if axis is None else axis]
    wide = size is not None and size > _MAX_ARGUMENT_AXIS
    return f"axis of {size} > {_MAX_ARGUMENT_AXIS}" if wide else ""


def axis_not_constant(op: Op, graph: Graph) -> str:
    return "computed axis" if op.type == "concat" and op.stated("axis") is None else ""


def pads_channels(op: Op, graph: Graph) -> str:
    """``pad`` lists (before, after) for the last axes; channels are axis 1 of (B, C, ...)."""
    amounts = op.stated("pad")
    rank = len(op.shape("x"))
    if op.type != "pad" or amounts is None or rank < 3:
        return ""
    pairs = [(0, 0)] * (rank - len(amounts) // 2)
    pairs += list(zip(amounts[::2], amounts[1::2], strict=True))
    return f"pads channels by {list(pairs[1])}" if any(pairs[1]) else ""


def long_reduction(op: Op, graph: Graph) -> str:
    """The lower of the two limits: 192, and 384 on A15 and later."""
    if not op.type.startswith("reduce_"):
        return ""
    shape, axes = op.shape("x"), op.stated("axes")
    if axes is None:
        axes = op.stated("axis")
    chosen = range(len(shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    longest = max((shape[axis] or 0 for axis in chosen), default=0)
    return f"reduces {longest} elements" if longest >= _LONG_AXIS else ""


def decomposed_norm(op: Op, graph: Graph) -> str:
    """A mean of squares, of x or of x minus its own mean, that something is divided by.

    Found at the reduce_mean over the squares: the heart of a layer, batch or RMS norm.
    """
    if op.type != "reduce_mean" or not _feeds_a_root(op, graph):
        return ""
    squares = graph.maker(op.value("x"))
    if squares is None or not _is_square(squares):
        return ""
    centred = graph.maker(squares.value("x"))
    if centred is None or centred.type != "sub":
        return "mean of squares and root (RMS norm)"
    means = [graph.maker(centred.value(side)) for side in ("x", "y")]
    inner = any(mean is not None and mean.type == "reduce_mean" for mean in means)
    return "mean, sub, square, mean and root" if inner else "mean of squares and root (RMS norm)"


def _is_square(op: Op) -> bool:
    if op.type == "square":
        return True
    x, y = op.value("x"), op.value("y")
    if op.type == "mul":
        return x is not None and y is not None and x.name == y.name
    return op.type == "pow" and op.stated("y") == 2


def _feeds_a_root(op: Op, graph: Graph) -> bool:
    """Through at most one addition (of an epsilon)."""
    following = graph.readers(op)
    sums = [reader for reader in following if reader.type == "add"]
    return any(map(_is_root, [*following, *(r for total in sums for r in graph.readers(total))]))


def _is_root(op: Op) -> bool:
    return op.type in ("rsqrt", "sqrt") or (op.type == "pow" and op.stated("y") in (0.5, -0.5))
