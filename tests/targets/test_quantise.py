"""Dynamic int8: smaller, sound, the same bytes each time, nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.onnx import every_graph, every_node
from lpa_export.targets.onnx.quantise import counted, kept_weights, quantise

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def quantised(lowered: Make, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("quantised")
    model = quantise(lowered().optimised, kept_weights(lowered().model), folder)
    assert list(folder.iterdir()) == []
    return model


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for graph in every_graph(model.graph)
        for tensor in graph.initializer
    }


def test_weights_of_products_are_int8_with_a_scale_per_channel(
    lowered: Make, quantised: onnx.ModelProto
) -> None:
    constants = _constants(quantised)
    products = [node for node in every_node(quantised.graph) if node.op_type == "MatMulInteger"]
    assert len(products) > 10
    for node in products:
        weight = constants[node.input[1]]
        assert weight.dtype == np.int8
        scale = constants[node.input[1].replace("_quantized", "_scale")]
        assert scale.shape == weight.shape[1:]


def test_the_bytes_that_are_compressed_are_counted_in_the_graph(
    lowered: Make, quantised: onnx.ModelProto
) -> None:
    """By hand from the model: linear maps but the head and controls are int8, convolutions not."""
    model = lowered().model
    linear = {
        path: module.weight.nbytes
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    kept = sum(size for path, size in linear.items() if path.endswith(("head", "controls")))
    found = counted(quantised, kept_weights(model))
    assert found.compressed == found.eligible == sum(linear.values()) - kept
    assert found.total > found.eligible + kept
    whole = counted(lowered().optimised, kept_weights(model))
    assert (whole.compressed, whole.eligible) == (0, found.eligible)


def test_head_and_controls_stay_in_float(lowered: Make, quantised: onnx.ModelProto) -> None:
    checkpoint = lowered().checkpoint
    lpa = checkpoint.model.wav2vec2.encoder.layers[0].attention.lpa
    constants = _constants(quantised)
    kept = {
        constants[node.input[1]].shape[-1]
        for node in every_node(quantised.graph)
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants
    }
    assert kept == {len(checkpoint.vocabulary), lpa.config.controls}


def test_quantised_logits_stay_near(
    lowered: Make, quantised: onnx.ModelProto, speech: Make, run_graph: Make
) -> None:
    waveforms = [speech(30_000), speech(9_000, 1)]
    expected = run_graph(lowered().optimised, waveforms, ["logits"])["logits"]
    found = run_graph(quantised, waveforms, ["logits"])["logits"]
    frames = 27  # of the shorter one
    assert 25 < psnr(expected[:, :frames], found[:, :frames]) < 90


def test_two_quantisations_give_the_same_bytes(
    lowered: Make, quantised: onnx.ModelProto, tmp_path: Path
) -> None:
    again = quantise(lowered().optimised, kept_weights(lowered().model), tmp_path)
    assert again.SerializeToString(deterministic=True) == quantised.SerializeToString(
        deterministic=True
    )


def test_the_graph_it_is_given_stays_as_it_is(lowered: Make, quantised: onnx.ModelProto) -> None:
    assert not any(
        node.op_type == "MatMulInteger" for node in every_node(lowered().optimised.graph)
    )
