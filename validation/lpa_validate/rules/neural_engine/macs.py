"""Multiply-accumulates of the operations of a Core ML program that do a speech model's arithmetic.

A table op -> count; an op that is not in it counts as none (elementwise work, moves, reductions).
"""

import math
from collections.abc import Callable

from lpa_validate.rules.neural_engine.graph import Op, Shape

__all__ = ["MACS", "macs"]


def macs(op: Op) -> int | None:
    """Multiply-accumulates of one run of ``op``; None when they depend on a shape not fixed."""
    count = MACS.get(op.type)
    if count is None:
        return 0
    shapes = [value.shape for value in (*op.read, *op.outputs)]
    return None if any(None in shape for shape in shapes) else count(op)


def _product(shape: Shape) -> int:
    return math.prod(size or 0 for size in shape)


def _size(shape: Shape, axis: int) -> int:
    return shape[axis] or 0


def _convolution(op: Op) -> int:
    """Each output value sums over the weight's (channels per group, *kernel)."""
    return _product(op.outputs[0].shape) * _product(op.shape("weight")[1:])


def _transposed_convolution(op: Op) -> int:
    """Each input value is spread over the weight's (output channels per group, *kernel)."""
    return _product(op.shape("x")) * _product(op.shape("weight")[1:])


def _linear(op: Op) -> int:
    """(..., K) by a weight (N, K)."""
    return _product(op.outputs[0].shape) * _size(op.shape("weight"), -1)


def _matmul(op: Op) -> int:
    """(..., M, K) by (..., K, N); ``transpose_x`` puts K before M."""
    left = op.shape("x")
    transposed = bool(op.stated("transpose_x")) and len(left) > 1
    return _product(op.outputs[0].shape) * _size(left, -2 if transposed else -1)


def _einsum(op: Op) -> int:
    """The product of all index sizes of an equation such as "bchq,bkhc->bkhq"."""
    sizes: dict[str, int] = {}
    terms = str(op.stated("equation")).replace(" ", "").split("->")[0].split(",")
    for term, value in zip(terms, op.inputs["values"], strict=True):
        for letter, size in zip(term, value.shape, strict=True):
            sizes[letter] = max(size or 0, sizes.get(letter, 1))
    return math.prod(sizes.values()) if len(terms) > 1 else 0


def _attention(op: Op) -> int:
    """Scores of queries (..., L, E) on keys (..., S, E), and their sum of values (..., S, EV)."""
    heads_and_queries = _product(op.outputs[0].shape[:-1])
    keys = _size(op.shape("key"), -2)
    widths = _size(op.shape("query"), -1) + _size(op.shape("value"), -1)
    return heads_and_queries * keys * widths


MACS: dict[str, Callable[[Op], int]] = {
    "conv": _convolution,
    "conv_transpose": _transposed_convolution,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
"""op -> multiply-accumulates of one of them, all shapes fixed."""
