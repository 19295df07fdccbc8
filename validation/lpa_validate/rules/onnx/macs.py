"""Multiply-accumulates of the nodes that do the arithmetic of a speech model.

A table op -> count from concrete shapes; an op that is not in it counts as none (elementwise
work, moves, reductions).
"""

import math
from collections.abc import Callable

from lpa_validate.rules.onnx.graph import Node

__all__ = ["MACS", "macs"]


def macs(node: Node) -> int:
    """Multiply-accumulates of one run of ``node``: of a Scan, those of all its turns."""
    if node.body:
        return node.turns * sum(map(macs, node.body))
    count = MACS.get(node.op)
    return 0 if count is None else count(node)


def _convolution(weight: int) -> Callable[[Node], int]:
    """Each output value sums over the weight's (channels per group, *kernel)."""
    return lambda node: math.prod(node.output_shapes[0]) * math.prod(node.input_shapes[weight][1:])


def _transposed_convolution(node: Node) -> int:
    """Each input value is spread over the weight's (channels per group, *kernel)."""
    return math.prod(node.input_shapes[0]) * math.prod(node.input_shapes[1][1:])


def _matmul(node: Node) -> int:
    """(..., M, K) @ (..., K, N); ``transA`` (FusedMatMul) puts K before M."""
    left = node.input_shapes[0]
    transposed = bool(node.attributes.get("transA", 0)) and len(left) > 1
    return math.prod(node.output_shapes[0]) * left[-2 if transposed else -1]


def _gemm(node: Node) -> int:
    inner = 0 if node.attributes.get("transA", 0) else 1
    return math.prod(node.output_shapes[0]) * node.input_shapes[0][inner]


def _einsum(node: Node) -> int:
    """The product of all index sizes; with one operand there is nothing to multiply."""
    if len(node.input_shapes) < 2:
        return 0
    equation = node.attributes["equation"]
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    sizes: dict[str, int] = {}
    broadcast: dict[int, int] = {}
    terms = text.replace(" ", "").split("->")[0].split(",")
    for term, shape in zip(terms, node.input_shapes, strict=True):
        before, _, after = term.partition("...")
        for letter, size in zip(before, shape, strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
        if "..." not in term:
            continue
        for letter, size in zip(reversed(after), reversed(shape), strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
        middle = shape[len(before) : len(shape) - len(after)]
        for place, size in enumerate(reversed(middle)):
            broadcast[place] = max(size, broadcast.get(place, 1))
    return math.prod(sizes.values()) * math.prod(broadcast.values())


def _projected_attention(node: Node) -> int:
    """com.microsoft Attention: (B, T, D) times (D, 3 H), then scores and values of width H."""
    batch, frames, _ = node.input_shapes[0]
    inner, outer = node.input_shapes[1]
    width = outer // 3
    return batch * frames * inner * outer + 2 * batch * frames * frames * width


def _attention(node: Node) -> int:
    """Scores and values of queries (B, T, H) on keys (B, S, H), or (B, heads, T, d)."""
    query, key = node.input_shapes[0], node.input_shapes[1]
    return 2 * math.prod(query) * key[-2]


def _block_quantised_matmul(node: Node) -> int:
    return math.prod(node.output_shapes[0]) * int(node.attributes["K"])


MACS: dict[str, Callable[[Node], int]] = {
    "ai.onnx:Conv": _convolution(1),
    "ai.onnx:ConvInteger": _convolution(1),
    "ai.onnx:QLinearConv": _convolution(3),
    "ai.onnx:ConvTranspose": _transposed_convolution,
    "ai.onnx:MatMul": _matmul,
    "ai.onnx:MatMulInteger": _matmul,
    "ai.onnx:QLinearMatMul": _matmul,
    "ai.onnx:Gemm": _gemm,
    "ai.onnx:Einsum": _einsum,
    "ai.onnx:Attention": _attention,
    "com.microsoft:FusedConv": _convolution(1),
    "com.microsoft:FusedMatMul": _matmul,
    "com.microsoft:FusedGemm": _gemm,
    "com.microsoft:MatMulIntegerToFloat": _matmul,
    "com.microsoft:DynamicQuantizeMatMul": _matmul,
    "com.microsoft:MatMulNBits": _block_quantised_matmul,
    "com.microsoft:Attention": _projected_attention,
    "com.microsoft:QAttention": _projected_attention,
    "com.microsoft:MultiHeadAttention": _attention,
}
"""op -> multiply-accumulates of a node of it."""
