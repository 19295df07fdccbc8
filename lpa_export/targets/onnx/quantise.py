"""Dynamic int8: weights of matrix products in 8 bits per channel, activations on the fly."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from lpa_export.formats.manifest import Compression
from lpa_export.runtimes.onnx import every_graph, every_node
from lpa_export.targets.onnx.lower import anonymise
from lpa_export.targets.skeleton import keeps_float

if TYPE_CHECKING:
    import onnx

__all__ = ["counted", "kept_weights", "quantise"]

_QUANTISED = ["MatMul", "Gemm"]


def kept_weights(model: nn.Module) -> list[np.ndarray]:
    """Copies of the weights of products that stay in float."""
    return [
        module.weight.numpy().copy()
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and keeps_float(path)
    ]


def quantise(graph: onnx.ModelProto, kept: Sequence[np.ndarray], scratch: Path) -> onnx.ModelProto:
    """A quantised copy of a graph. `scratch`: a folder for a file that is gone then.

    Products with one of the weights `kept`, `kept_weights` of the model, stay in float: the CTC
    head (4 dB) and the controls of the pulses (1 dB), as everywhere. Convolutions have a file of
    their own.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = scratch / "quantised.onnx"
    root = logging.getLogger()
    level = root.level
    try:
        # It advises, through the root logger, a preparation that this graph has behind it.
        root.setLevel(logging.ERROR)
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_products_with(graph, kept),
            extra_options={
                "MatMulConstBOnly": True,
                "EnableSubgraph": True,
                # What shape inference does not know: outputs of the runtime's own nodes.
                "DefaultTensorType": onnx.TensorProto.FLOAT,
            },
        )
        return anonymise(onnx.load(path))
    finally:
        root.setLevel(level)
        path.unlink(missing_ok=True)


def counted(graph: onnx.ModelProto, kept: Sequence[np.ndarray]) -> Compression:
    """Bytes in float32 of all weights of products and convolutions, and what became of them.

    Looked up in the quantised graph. `kept`: weights of products that stay in float by design, as
    all do that are convolutions there.
    """
    sizes = {
        tensor.name: 4 * math.prod(tensor.dims)
        for part in every_graph(graph.graph)
        for tensor in part.initializer
    }
    found = dict.fromkeys(("MatMulInteger", *_QUANTISED, "Conv"), 0)
    for node in every_node(graph.graph):
        if node.op_type in found:
            found[node.op_type] += sizes.get(node.input[1], 0)
    compressed = found["MatMulInteger"]
    products = compressed + sum(found[kind] for kind in _QUANTISED)
    return Compression(
        total=products + found["Conv"],
        eligible=products - sum(weight.nbytes for weight in kept),
        compressed=compressed,
    )


def _products_with(graph: onnx.ModelProto, weights: Iterable[np.ndarray]) -> list[str]:
    """Names of the products that have one of these weights, as it is or transposed.

    By value: an optimiser keeps neither names of weights nor those of nodes.
    """
    from onnx import numpy_helper

    wanted = {_content(array) for weight in weights for array in (weight, weight.T)}
    found = {
        tensor.name
        for part in every_graph(graph.graph)
        for tensor in part.initializer
        if len(tensor.dims) == 2 and _content(numpy_helper.to_array(tensor)) in wanted
    }
    return [
        node.name
        for node in every_node(graph.graph)
        if node.op_type in _QUANTISED and not found.isdisjoint(node.input)
    ]


def _content(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array, np.float32).tobytes()
