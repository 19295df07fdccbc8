"""The exporter's check of its own work: strict with mistakes, patient with a flipped edge."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from lpa_export.errors import LpaError
from lpa_export.formats.golden import GoldenClip
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.onnx.verify import require_equal, require_sound

Make = Callable[..., Any]


@pytest.fixture
def clip(lowered: Make, speech: Make) -> GoldenClip:
    """A second of noise, as the reference hears it."""
    taps = TorchReference(lowered().checkpoint).taps(speech(17_000))
    return GoldenClip("noise", "", speech(17_000), taps, "")


def _with_logits(clip: GoldenClip, frames: int) -> GoldenClip:
    """The clip with other logits in that many frames."""
    logits = clip.taps["logits"].copy()
    logits[5 : 5 + frames] += 1.0
    taps: Mapping[str, np.ndarray] = {**clip.taps, "logits": logits}
    return replace(clip, taps=taps)


def test_a_right_graph_passes_in_both_forms(lowered: Make, clip: GoldenClip) -> None:
    require_equal(lowered().traced, [clip])
    require_equal(lowered().optimised, [clip])
    require_sound(lowered().optimised, [clip])


def test_one_frame_may_fall_on_the_other_side_of_a_step(lowered: Make, clip: GoldenClip) -> None:
    require_equal(lowered().optimised, [_with_logits(clip, 1)])


def test_more_frames_may_not(lowered: Make, clip: GoldenClip) -> None:
    with pytest.raises(
        LpaError, match=r"logits of clip noise has a PSNR of \d+.\d dB, at least 90"
    ):
        require_equal(lowered().optimised, [_with_logits(clip, 4)])


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _behind(model: onnx.ModelProto, position: int, operator: str, value: float) -> None:
    """Send the first output of a node through `operator` with `value`, in the output's type."""
    name = model.graph.node[position].output[0]
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    kind = helper.tensor_dtype_to_np_dtype(kinds.get(name, onnx.TensorProto.FLOAT))
    number = np.array(value, kind)
    model.graph.node[position].output[0] = f"{name}/raw"
    model.graph.initializer.append(numpy_helper.from_array(number, "damage"))
    node = helper.make_node(operator, [f"{name}/raw", "damage"], [name])
    model.graph.node.insert(position + 1, node)


def _position(model: onnx.ModelProto, operator: str, index: int = 0) -> int:
    found = [i for i, node in enumerate(model.graph.node) if node.op_type == operator]
    return found[index]


DAMAGE: dict[str, tuple[str, int, str, float]] = {
    "an edge of one family of windows a frame late": ("Ceil", 0, "Add", 1.0),
    "a product a thousandth too large": ("MatMul", 2, "Mul", 1.001),
    "a norm a thousandth too small": ("LayerNormalization", 3, "Mul", 0.999),
    "an activation that is not one": ("Gelu", 4, "Mul", 1.01),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_wrong_graph_is_refused(lowered: Make, clip: GoldenClip, kind: str) -> None:
    operator, index, change, number = DAMAGE[kind]
    model = _copy(lowered().optimised)
    _behind(model, _position(model, operator, index), change, number)
    with pytest.raises(LpaError, match="the exported graph is not the model") as caught:
        require_equal(model, [clip])
    assert "\n" not in str(caught.value)


def test_the_broken_stage_is_named_and_not_those_behind_it(lowered: Make, clip: GoldenClip) -> None:
    model = _copy(lowered().optimised)
    names = [node.output[0] for node in model.graph.node]
    position = names.index("stage.encoder.layers.1")
    _behind(model, position, "Mul", 1.001)
    with pytest.raises(LpaError, match=r"encoder\.layers\.1 of clip noise"):
        require_equal(model, [clip])


def test_values_that_are_no_numbers_are_refused(lowered: Make, clip: GoldenClip) -> None:
    model = _copy(lowered().optimised)
    position = [node.output[0] for node in model.graph.node].index("logits")
    _behind(model, position, "Mul", np.nan)
    with pytest.raises(LpaError, match="logits of clip noise has a PSNR of nan dB"):
        require_equal(model, [clip])
    with pytest.raises(LpaError, match="the quantised graph is broken: logits of clip noise"):
        require_sound(model, [clip])
