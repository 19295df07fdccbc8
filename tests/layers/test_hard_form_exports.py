"""The hard layer grows with T, not T squared, and exports with dynamic batch and time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lpa_export.layers import LPA

Make = Callable[..., LPA]
DYNAMIC = {
    0: torch.export.Dim("batch", min=1, max=64),
    1: torch.export.Dim("frames", min=1, max=8000),
}


class _LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.fixture(scope="module")
def layer(make_layer: Make) -> LPA:
    layer = make_layer(0, hidden_size=24, num_heads=3).float()
    layer.hard = True
    return layer


def _inputs(batch: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.randint(1, frames + 1, (batch, 1))
    return torch.randn(batch, frames, 24), torch.arange(frames) < lengths


def test_largest_tensor_of_the_hard_form_is_linear_in_frames(layer: LPA) -> None:
    largest = []
    for frames in (3000, 6000):
        with _LargestTensor() as mode:
            layer(*_inputs(1, frames))
        largest.append(mode.elements)
    assert largest[1] <= 2.01 * largest[0]
    assert largest[1] < 6000 * 100


def test_soft_form_holds_no_square_of_frames_either(layer: LPA) -> None:
    layer.hard = False
    with _LargestTensor() as mode:
        layer(*_inputs(1, 6000))
    layer.hard = True
    # Teeth x frames is the largest: a 30th of the square here.
    assert mode.elements < 3 * 6000**2 / 4


@pytest.mark.parametrize("with_mask", [True, False])
def test_torch_export_runs_at_other_lengths_and_batches(layer: LPA, with_mask: bool) -> None:
    count = 2 if with_mask else 1
    program = torch.export.export(
        layer, _inputs(2, 50)[:count], dynamic_shapes=(DYNAMIC,) * count
    ).module()
    for batch, frames in ((1, 3), (3, 170)):
        inputs = _inputs(batch, frames)[:count]
        torch.testing.assert_close(program(*inputs), layer(*inputs), atol=1e-6, rtol=0)


def test_onnx_runtime_gives_the_same_numbers_at_other_lengths_and_batches(
    layer: LPA, tmp_path: Any
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "layer.onnx"
    program = torch.onnx.export(
        layer,
        _inputs(2, 50),
        dynamo=True,
        dynamic_shapes=(DYNAMIC, DYNAMIC),
        input_names=["hidden", "valid"],
        verbose=False,
    )
    assert program is not None
    program.save(path)
    operations = [node.op_type for node in program.model.graph]
    assert operations.count("CumSum") == 1
    assert "GatherElements" not in operations
    assert "GatherND" not in operations
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, frames in ((1, 1), (1, 7), (3, 333), (2, 6000)):
        hidden, valid = _inputs(batch, frames)
        (found,) = session.run(None, {"hidden": hidden.numpy(), "valid": valid.numpy()})
        expected = layer(hidden, valid).numpy()
        # A rounding error may flip an edge that lies within it; more would be an error.
        flipped = (np.abs(found - expected).max(axis=-1) > 1e-4).mean()
        assert flipped <= 1e-3, (batch, frames)
