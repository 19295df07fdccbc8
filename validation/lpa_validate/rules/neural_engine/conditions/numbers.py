"""Numbers that fp16, or the engine's tables, do not hold."""

import math

from lpa_validate.rules.neural_engine.graph import Graph, Op, Value

__all__ = ["not_a_number", "out_of_range", "underflows"]

_LARGEST = 65504.0
_LARGEST_PRODUCT = 32752.0
_LARGEST_CROPPED = 4094.0
_SMALLEST = 6e-5
_SMALLEST_EPSILON = 1e-5
_PRODUCTS = frozenset("matmul conv conv_transpose linear einsum".split())
_SLICES = frozenset({"slice_by_index", "slice_by_size"})


def out_of_range(op: Op, graph: Graph) -> str:
    """A constant beyond fp16's range, or a measured activation beyond what its maker can hold.

    Infinite constants have rules of their own.
    """
    for value in op.read:
        if value.extremes is not None and _beyond(value.extremes):
            return f"{value.name} holds {max(map(abs, value.extremes)):g}"
    limit = _limit(op)
    for value in op.outputs:
        reached = graph.activations.get(value.name, 0.0)
        if reached > limit:
            return f"{value.name} reaches {reached:g} > {limit:g}"
    return ""


def _beyond(extremes: tuple[float, float]) -> bool:
    return any(math.isfinite(number) and abs(number) > _LARGEST for number in extremes)


def _limit(op: Op) -> float:
    if op.type in _PRODUCTS:
        return _LARGEST_PRODUCT
    return _LARGEST_CROPPED if op.type in _SLICES and _offset_on_last_axis(op) else _LARGEST


def _offset_on_last_axis(op: Op) -> bool:
    """Whether a slice starts inside the last axis (crop on M1 and A14 saturates above 4094)."""
    begin = op.stated("begin")
    mask = op.stated("begin_mask")
    whole = bool(mask and mask[-1])
    return bool(begin and begin[-1] and not whole)


def underflows(op: Op, graph: Graph) -> str:
    """A stated scalar (a tiny gain) below fp16's normal numbers, or an epsilon below 1e-5, in fp16.

    An epsilon only keeps a division finite: it may lose bits, but must not come near zero.
    """
    if not any(value.dtype == "fp16" for value in op.outputs):
        return ""
    for name, group in op.inputs.items():
        for value in group:
            number = _scalar(value)
            smallest = _SMALLEST_EPSILON if name == "epsilon" else _SMALLEST
            if number is not None and 0 < abs(number) < smallest:
                return f"{name} {number:.3g}"
    return ""


def _scalar(value: Value) -> float | None:
    held = value.constant
    if held is None or held.size != 1 or held.dtype.kind != "f":
        return None
    return float(held.reshape(()))


def not_a_number(op: Op, graph: Graph) -> str:
    """NaN or +inf among the constants; -inf is looked at as a mask."""
    for value in op.read:
        if value.extremes is not None:
            low, high = value.extremes
            if math.isnan(low) or math.isinf(high):
                return f"{value.name} holds {low if math.isnan(low) else high:g}"
    return ""
