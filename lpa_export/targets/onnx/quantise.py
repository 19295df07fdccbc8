"""Dynamic int8: weights of matrix products in 8 bits per channel, activations on the fly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.targets.onnx.lower import anonymise

if TYPE_CHECKING:
    import onnx

__all__ = ["quantise"]

# Convolutions stay in float: as ConvInteger they took 1.7 times as long on the shipped model, and
# cost 10 dB.
_QUANTISED = ["MatMul", "Gemm"]


def quantise(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """A quantised copy. `scratch`: a folder for a file that is gone afterwards.

    Two small products stay in float: the CTC head, which no later layer forgives (4 dB), and the
    controls of the pulses, whose errors move window edges by whole frames (1 dB).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    tanh = [node.output[0] for node in model.graph.node if node.op_type == "Tanh"]
    kept = [_product_behind(model, value) for value in ("logits", *tanh)]
    path = scratch / "quantised.onnx"
    root = logging.getLogger()
    level = root.level
    try:
        # It advises, through the root logger, a preparation that this graph has behind it.
        root.setLevel(logging.ERROR)
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )
        return anonymise(onnx.load(path))
    finally:
        root.setLevel(level)
        path.unlink(missing_ok=True)


def _product_behind(model: onnx.ModelProto, value: str) -> str:
    """The name of the nearest matrix product on the first inputs that lead to `value`."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers[value]
    while node.op_type not in _QUANTISED:
        product = next(
            (makers[name] for name in node.input if name in makers and _is_product(makers[name])),
            None,
        )
        node = product or makers[node.input[0]]
    return str(node.name)


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type in _QUANTISED
