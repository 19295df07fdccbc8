"""What follows from the kind of an operation and how it is used."""

from lpa_validate.rules.neural_engine.conditions import OpCondition
from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = [
    "NO_PATH",
    "axis_not_constant",
    "constant_positions",
    "decomposed_norm",
    "kind_of",
    "large_table",
    "long_reduction",
    "pads_channels",
    "product_with_itself",
    "quantized_activations",
    "update_outside_a_state",
]

NO_PATH = frozenset(
    """
    mod logical_and logical_or logical_xor reduce_prod
    scatter scatter_along_axis scatter_nd band_part non_zero one_hot shape sliding_windows
    reverse_sequence gru lstm rnn tan asin acos sinh cosh asinh acosh atanh
    random_bernoulli random_categorical random_normal random_uniform non_maximum_suppression
    list_gather list_length list_read list_scatter list_write make_list
    """.split()
)
"""Operations without a path to the Neural Engine on any generation."""

_LONG_AXIS = 192
_MAX_ROWS = 32_768


def kind_of(*kinds: str) -> OpCondition:
    """Whether an operation is one of these."""
    return lambda op, graph: op.type if op.type in kinds else ""


def constant_positions(op: Op, graph: Graph) -> str:
    indices = op.value("indices")
    constant = op.type == "gather" and indices is not None and indices.is_weight
    return "constant positions" if constant else ""


def large_table(op: Op, graph: Graph) -> str:
    """Rows taken out of a constant with more of them than an index reaches."""
    table = op.value("x")
    if op.type != "gather" or table is None or not table.is_weight or not table.shape:
        return ""
    axis = op.stated("axis") or 0
    rows = table.shape[axis] or 0
    return f"{rows} rows > {_MAX_ROWS}" if rows > _MAX_ROWS else ""


def product_with_itself(op: Op, graph: Graph) -> str:
    """x times x as it lies; with one side transposed it stays."""
    x, y = op.value("x"), op.value("y")
    if op.type != "matmul" or x is None or y is None or x.name != y.name:
        return ""
    return "" if op.stated("transpose_x") or op.stated("transpose_y") else f"{x.name} by itself"


def quantized_activations(op: Op, graph: Graph) -> str:
    """Activations quantised while the model runs, and the product that reads them."""
    if op.type in ("quantize", "dequantize"):
        return op.type
    if op.type not in ("conv", "linear", "matmul"):
        return ""
    makers = [graph.maker(value) for value in op.activations]
    return "reads dequantised values" if any(m and m.type == "dequantize" for m in makers) else ""


def update_outside_a_state(op: Op, graph: Graph) -> str:
    """slice_update stays only between a state that is read and the same that is written."""
    if op.type != "slice_update":
        return ""
    source = graph.maker(op.value("x"))
    if source is None or source.type not in ("read_state", "coreml_update_state"):
        return "its tensor is no state"
    written = {reader.type for reader in graph.readers(op)} <= {
        "coreml_update_state",
        "write_state",
    }
    output = any(value.name in graph.border for value in op.outputs)
    return "" if written and not output else "read before it is written to the state"


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
