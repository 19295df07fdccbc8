"""What a provider asks of a node beyond the name of its op, as far as the graph tells.

A table condition -> reason why a node does not meet it ("" when it does). The notes in the op
lists that ship with ONNX Runtime are mapped onto it; a note that is not in the map is reported
as not checked.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lpa_validate.rules.onnx.graph import Node

__all__ = ["CONDITIONS", "NOTES", "unmet"]

Condition = Callable[[Node], str]

_FLOATS = ("float32", "float16")


def unmet(node: Node, conditions: Sequence[str]) -> str:
    """The first reason why ``node`` fails one of the named conditions, "" when it meets all."""
    return next((reason for name in conditions if (reason := CONDITIONS[name](node))), "")


def _rank(position: int, allowed: tuple[int, ...], what: str) -> Condition:
    def check(node: Node) -> str:
        rank = len(node.input_shapes[position])
        return "" if rank in allowed else f"{what} of rank {rank}"

    return check


def _constant(positions: Sequence[int], what: str) -> Condition:
    """The inputs at ``positions``, where given, must be weights."""

    def check(node: Node) -> str:
        open_inputs = [
            place
            for place in positions
            if place < len(node.inputs) and node.inputs[place] and place not in node.constant
        ]
        return f"{what} not constant" if open_inputs else ""

    return check


def _types(positions: Sequence[int], allowed: tuple[str, ...]) -> Condition:
    def check(node: Node) -> str:
        found = [node.input_types[place] for place in positions if place < len(node.input_types)]
        other = sorted(set(found) - set(allowed))
        return f"input of type {', '.join(other)}" if other else ""

    return check


def _fed_by(op: str) -> Condition:
    return lambda node: "" if op in node.from_ops else f"not fed by {op.partition(':')[2]}"


def _attribute_absent(*names: str) -> Condition:
    def check(node: Node) -> str:
        present = [name for name in names if node.attributes.get(name) not in (None, 0, b"", "")]
        return f"attribute {present[0]} is set" if present else ""

    return check


def _constant_mode(node: Node) -> str:
    mode = node.attributes.get("mode", b"constant")
    return "" if mode in (b"constant", "constant") else f"mode {mode!r}"


def _indices_not_scalar(node: Node) -> str:
    return "" if node.input_shapes[1] else "scalar indices"


def _indices_constant_or_int32(node: Node) -> str:
    fits = 1 in node.constant or node.input_types[1] == "int32"
    return "" if fits else f"computed indices of type {node.input_types[1]}"


def _last_axis(node: Node) -> str:
    rank = len(node.input_shapes[0])
    axis = int(node.attributes.get("axis", -1))
    return "" if axis % max(rank, 1) == rank - 1 else f"axis {axis} of rank {rank}"


def _even_split(node: Node) -> str:
    axis = int(node.attributes.get("axis", 0))
    sizes = {shape[axis] for shape in node.output_shapes if shape}
    return "" if len(sizes) == 1 else "uneven split"


def _not_empty(node: Node) -> str:
    return "" if all(np.prod(shape) > 0 for shape in node.output_shapes) else "empty result"


def _xnnpack_matmul(node: Node) -> str:
    """(M, K) or (B, M, K) times constant (K, N): XNNPACK's fully connected operator."""
    left, right = map(len, node.input_shapes[:2])
    if right > 2 or left not in (right, right + 1):
        return f"operands of rank {left} and {right}"
    return "" if 1 in node.constant else "operand B not constant"


CONDITIONS: Mapping[str, Condition] = {
    "conv_2d": _rank(1, (4,), "weight"),
    "conv_1d_2d": _rank(1, (3, 4), "weight"),
    "pool_2d": _rank(0, (4,), "input"),
    "matrices": _rank(0, (2,), "input"),
    "xnnpack_matmul": _xnnpack_matmul,
    "constant_weights": _constant((1, 2), "weights or bias"),
    "constant_bias": _constant((2,), "bias"),
    "constant_quantised_weights": _constant((1, 2, 3, 4, 5, 6, 7, 8), "weights or quantisation"),
    "constant_b": _constant((1,), "operand B"),
    "constant_slope": _constant((1,), "slope"),
    "constant_parameters": _constant((1, 2, 3, 4), "parameters"),
    "constant_axes": _constant((1,), "axes"),
    "constant_splits": _constant((1,), "split sizes"),
    "constant_quantisation": _constant((1, 2), "scale or zero point"),
    "bool_inputs": _types((0, 1), ("bool",)),
    "float32_inputs": _types((0, 1), ("float32",)),
    "float32_input": _types((0,), ("float32",)),
    "float_branches": _types((1, 2), _FLOATS),
    "constant_mode": _constant_mode,
    "no_scalar_indices": _indices_not_scalar,
    "indices_constant_or_int32": _indices_constant_or_int32,
    "last_axis": _last_axis,
    "even_split": _even_split,
    "not_empty": _not_empty,
    "whole_shape": _attribute_absent("start", "end"),
    "no_batch_dims": _attribute_absent("batch_dims"),
    "no_transposed_a": _attribute_absent("transA"),
    "dynamic_quantisation": _fed_by("ai.onnx:DynamicQuantizeLinear"),
}
"""Name -> the reason why a node does not meet it, "" when it does."""

NOTES: Mapping[str, tuple[str, ...]] = {
    "Only 1D/2D Conv is supported.": ("conv_1d_2d",),
    "Only 2D Conv is supported.": ("conv_2d",),
    "Only 2D Pool is supported.": ("pool_2d",),
    "Only 2D Pool is supported currently. 3D and 5D support can be added if needed.": ("pool_2d",),
    "Weights and bias should be constant.": ("constant_weights",),
    "Weight and bias must be constant.": ("constant_weights",),
    "Bias if provided must be constant.": ("constant_bias",),
    "Input B must be constant.": ("constant_b",),
    "Input B should be constant.": ("constant_b",),
    "Input slope should be constant.": ("constant_slope",),
    "Both inputs must be bool.": ("bool_inputs",),
    "Only supports cases when both inputs are fp32.": ("float32_inputs",),
    "starts/ends/axes/steps must be constant initializers.": ("constant_parameters",),
    "Inputs `starts`, `ends`, `axes`, and `steps` should be constant. Empty slice is not "
    "supported.": ("constant_parameters", "not_empty"),
    "If provided, `splits` must be constant.": ("constant_splits",),
    "Number of splits must evenly divide split axis size. Input split should be constant if "
    "provided.": ("even_split", "constant_splits"),
    "Input axes should be constant.": ("constant_axes",),
    "Input `indices` with scalar value is not supported.": ("no_scalar_indices",),
    "Input indices should be constant if not int32 type.": ("indices_constant_or_int32",),
    "`X`/`Y` branches must be float or float16.": ("float_branches",),
    "Only constant mode Pad is supported.": ("constant_mode",),
    "Only constant mode and last two dim padding is supported.": ("constant_mode",),
    "Input pads and constant_value should be constant.": ("constant_parameters",),
    "batch_dims must be 0.": ("no_batch_dims",),
    "Attribute `start` with non-default value is not supported.": ("whole_shape",),
    "Attribute `end` is not supported.": ("whole_shape",),
    "All quantization scales and zero points should be constant.": ("constant_quantisation",),
    "Only support for transA == 0, alpha == 1.0 and beta == 1.0 is currently implemented.": (
        "no_transposed_a",
    ),
}
"""Sentence of an op list in ONNX Runtime's wheel -> the conditions it states."""
