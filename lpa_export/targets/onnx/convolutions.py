"""Convolutions over time as int8 products: ONNX Runtime is fast at those, not at its ConvInteger.

A convolution is the product of rows with its weights. A row is what one output sees: all channels
of its first sample, then of the second, and so on. Samples are rounded before rows are made of
them, so that each is rounded once and bytes are copied, not floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.runtimes.onnx import every_graph, every_node

if TYPE_CHECKING:
    import onnx

__all__ = ["quantise_convolutions"]

_LARGEST = 127
_BEHIND_THE_END = np.iinfo(np.int64).max


def quantise_convolutions(graph: onnx.ModelProto) -> None:
    """Put int8 products, in place, for the convolutions of one dimension, loops' too.

    Weights have a scale per output channel; the samples of a tensor, rounded on the fly, have one
    scale and one zero. Left in float: a single input channel, groups, padding, dilation.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    constants: dict[str, np.ndarray] = {}
    for part in every_graph(graph.graph):
        nodes: list[onnx.NodeProto] = []
        for node in part.node:
            weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
            if weight is None or not _is_plain(_attributes(node), weight.dims):
                nodes.append(node)
                continue
            made, read = _product(node, numpy_helper.to_array(weight))
            nodes.extend(made)
            constants |= read
        del part.node[:]
        part.node.extend(nodes)
    heard = {name for node in every_node(graph.graph) for name in node.input}
    kept = [tensor for name, tensor in weights.items() if name in heard]
    new = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend((*kept, *new))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _is_plain(given: Mapping[str, Any], shape: Sequence[int]) -> bool:
    return (
        len(shape) == 3
        and shape[1] > 1
        and given.get("group", 1) == 1
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not any(given.get("pads", ()))
        and all(step == 1 for step in given.get("dilations", ()))
    )


def _product(
    convolution: onnx.NodeProto, weight: np.ndarray
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """What stands for a convolution of samples (B, C, T) with a weight (C', C, kernel).

    The nodes that put out its result, and the constants that they read, by name.
    """
    from onnx import TensorProto
    from onnx.helper import make_node

    samples, name, *bias = convolution.input
    (stride,) = _attributes(convolution).get("strides", (1,))
    kernel = weight.shape[2]
    columns, scales = _rounded(weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]))
    constants = {
        f"{name}_quantized": columns,
        f"{name}_scale": scales,
        "convolutions.axis": np.array([1]),
        f"convolutions.stride_{stride}": np.array([stride]),
    }
    nodes: list[onnx.NodeProto] = []

    def value(what: str) -> str:
        return f"{convolution.name}.{what}"

    def add(kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        label = f"{convolution.name}.{len(nodes)}.{kind}"
        nodes.append(make_node(kind, inputs, outputs, name=label, **attributes))
        return outputs[0]

    by_time = add("Transpose", [samples], value("by_time"), perm=(0, 2, 1))
    rounded = value("rounded"), value("scale"), value("zero")
    add("DynamicQuantizeLinear", [by_time], *rounded)
    taps = []
    for tap in range(kernel):
        # The last outputs see this sample so many places ahead of the end.
        ahead = kernel - 1 - tap
        start, stop = f"convolutions.start_{tap}", f"convolutions.stop_{ahead}"
        constants[start] = np.array([tap])
        constants[stop] = np.array([-ahead if ahead else _BEHIND_THE_END])
        steps = "convolutions.axis", f"convolutions.stride_{stride}"
        taps.append(add("Slice", [rounded[0], start, stop, *steps], value(f"tap_{tap}")))
    rows = add("Concat", taps, value("rows"), axis=2)
    summed = add("MatMulInteger", [rows, f"{name}_quantized", rounded[2]], value("summed"))
    summed = add("Cast", [summed], value("float"), to=TensorProto.FLOAT)
    scale = add("Mul", [rounded[1], f"{name}_scale"], value("scales"))
    product = add("Mul", [summed, scale], value("product"))
    if bias:
        product = add("Add", [product, *bias], value("biased"))
    add("Transpose", [product], convolution.output[0], perm=(0, 2, 1))
    return nodes, constants


def _rounded(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C') -> int8 of the same shape, and the scale of each column (C',)."""
    scales = np.abs(columns).max(axis=0).astype(np.float32) / np.float32(_LARGEST)
    scales = np.where(scales > 0, scales, np.float32(1))
    return np.rint(columns / scales).astype(np.int8), scales
