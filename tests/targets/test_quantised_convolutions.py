"""Convolutions as int8 products: the numbers of a loop over integers, in loops of a graph too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.onnx import clips_int8, every_graph, every_node, with_unsigned_products
from lpa_export.targets.batched import BATCHED
from lpa_export.targets.kit_in_pieces import IN_PIECES
from lpa_export.targets.onnx.convolutions import quantise_convolutions
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.skeleton import Kit

Make = Callable[..., Any]


def _graph(weight: np.ndarray, bias: np.ndarray | None = None, **attributes: Any) -> Any:
    """One convolution of samples (B, C, T)."""
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    node = helper.make_node("Conv", ["samples", *constants], ["made"], "conv", **attributes)
    kinds = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (None, None, None))
        for name in ("samples", "made")
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([node], "graph", kinds[:1], kinds[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _run(model: onnx.ModelProto, samples: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    exact = with_unsigned_products(model) if clips_int8() else model
    session = onnxruntime.InferenceSession(
        exact.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"samples": samples})[0]
    return found


def _by_loops(
    samples: np.ndarray, weight: np.ndarray, bias: np.ndarray | float, stride: int
) -> np.ndarray:
    """The same by hand: samples to 0..255 by one scale and zero, weights to -127..127 by row."""
    low, high = min(float(samples.min()), 0.0), max(float(samples.max()), 0.0)
    step = (high - low) / 255
    zero = round(-low / step)
    whole = np.clip(np.rint(samples / step) + zero, 0, 255) - zero
    batch, _, total = samples.shape
    rows, _, kernel = weight.shape
    made = np.zeros((batch, rows, (total - kernel) // stride + 1))
    for row in range(rows):
        scale = float(np.abs(weight[row]).max()) / 127 or 1.0
        integers = np.rint(weight[row] / scale)
        for place in range(made.shape[2]):
            window = whole[:, :, place * stride : place * stride + kernel]
            made[:, row, place] = (window * integers).sum((1, 2)) * step * scale
    return made + np.reshape(bias, (-1, 1))


@pytest.mark.parametrize("kernel, stride", [(1, 1), (2, 2), (3, 2), (3, 1), (10, 5), (2, 3)])
@pytest.mark.parametrize("more", [0, 1])
def test_it_gives_what_a_loop_over_integers_gives(kernel: int, stride: int, more: int) -> None:
    generator = np.random.default_rng(kernel)
    weight = generator.standard_normal((7, 5, kernel)).astype(np.float32)
    weight[3] = 0.0
    bias = generator.standard_normal(7).astype(np.float32) if more else None
    samples = generator.standard_normal((2, 5, 6 * stride + kernel + more)).astype(np.float32)
    model = _graph(weight, bias, strides=[stride])
    exact = _run(model, samples)
    quantise_convolutions(model)
    assert not any(node.op_type == "Conv" for node in model.graph.node)
    found = _run(model, samples)
    assert found.shape == exact.shape
    expected = _by_loops(samples, weight, 0.0 if bias is None else bias, stride)
    assert psnr(expected, found) > 90
    assert 30 < psnr(exact, found) < 60


@pytest.mark.parametrize(
    "channels, attributes",
    [
        (1, {}),
        (2, {"group": 2}),
        (4, {"pads": [1, 1]}),
        (4, {"dilations": [2]}),
        (4, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_other_convolutions_stay_as_they_are(channels: int, attributes: dict[str, Any]) -> None:
    weight = np.ones((4, channels, 3), np.float32)
    model = _graph(weight, **attributes)
    before = model.SerializeToString(deterministic=True)
    quantise_convolutions(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "norm, kit", [("pre", IN_PIECES), ("post", BATCHED)], ids=["in pieces", "whole"]
)
def test_of_a_front_end_only_the_first_stays_in_float(
    lowered: Make, speech: Make, run_graph: Make, tmp_path: Path, norm: str, kit: Kit
) -> None:
    made = lowered(norm, (0, 2), kit)
    model = _copy(made.traced)
    quantise_convolutions(model)
    model = optimise(model, tmp_path)
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for graph in every_graph(model.graph)
        for tensor in graph.initializer
    }

    def weights(kind: str) -> list[np.ndarray]:
        nodes = [node for node in every_node(model.graph) if node.op_type == kind]
        return [constants[node.input[1]] for node in nodes]

    config = made.checkpoint.model.config
    (_, first), (kernel, last) = zip(config.conv_kernel, config.conv_dim, strict=True)
    assert not any(weight.shape == (last, first, kernel) for weight in weights("Conv"))
    (product,) = weights("MatMulInteger")
    assert (product.dtype, product.shape) == (np.int8, (kernel * first, last))
    waveforms = [speech(30_000), speech(9_000, 1)]
    exact = run_graph(made.optimised, waveforms, ["stage.features"])["stage.features"]
    found = run_graph(model, waveforms, ["stage.features"], garbage=float("nan"), extra=500)
    frames = 27  # of the shorter one
    near = found["stage.features"][:, :frames]
    assert 25 < psnr(exact[:, :frames], near) < 90


def test_between_two_products_nothing_is_transposed(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    model = _graph(generator.standard_normal((8, 8, 3)).astype(np.float32), strides=[2])
    graph = model.graph
    graph.node[0].output[0] = "between"
    graph.node.append(helper.make_node("Gelu", ["between"], ["activated"], "gelu"))
    second = helper.make_node("Conv", ["activated", "weight"], ["made"], "second", strides=[2])
    graph.node.append(second)
    samples = generator.standard_normal((2, 8, 50)).astype(np.float32)
    exact = _run(model, samples)
    quantise_convolutions(model)
    assert sum(node.op_type == "Transpose" for node in graph.node) == 4
    model = optimise(model, tmp_path)
    assert psnr(exact, _run(model, samples)) > 30
    kinds = [node.op_type for node in model.graph.node]
    first, last = (place for place, kind in enumerate(kinds) if kind == "MatMulInteger")
    assert "Transpose" not in kinds[first:last]


def test_two_quantisations_give_the_same_bytes(lowered: Make) -> None:
    first, second = (_copy(lowered("pre", (0, 2), IN_PIECES).traced) for _ in range(2))
    quantise_convolutions(first)
    quantise_convolutions(second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
