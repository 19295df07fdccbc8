"""A decoder that keeps its keys and values in the program's state from call to call."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpa_export.runtimes.coreml import Arithmetic, Evaluator

_STEPS = 6


class Cached(nn.Module):
    """One attention layer that writes each step into a cache of fixed size."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.register_buffer("keys", torch.zeros(1, _STEPS, 8))
        self.register_buffer("values", torch.zeros(1, _STEPS, 8))

    def forward(self, x: Tensor, now: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, -1)
        self.keys[:] = self.keys * (1 - now) + now * k
        self.values[:] = self.values * (1 - now) + now * v
        seen = torch.cumsum(now.flip(1), 1).flip(1).transpose(1, 2)
        scores = q @ self.keys.transpose(1, 2) / 8**0.5 + (seen - 1) * 1e4
        return self.out(scores.softmax(-1) @ self.values)


def test_state_is_carried_from_call_to_call(packaged: Callable[[Any], Any]) -> None:
    import coremltools

    torch.manual_seed(0)
    model = Cached().eval()
    steps = torch.eye(_STEPS).reshape(_STEPS, 1, _STEPS, 1)
    x = torch.randn(_STEPS, 1, 1, 8)
    with torch.no_grad():
        traced = torch.jit.trace(model, (x[0], steps[0]), check_trace=False)
        model.keys.zero_()
        model.values.zero_()
        expected = torch.stack([model(*step) for step in zip(x, steps, strict=True)])
        traced.keys.zero_()
        traced.values.zero_()
    cache = coremltools.TensorType(shape=(1, _STEPS, 8), dtype=np.float16)
    mlmodel = coremltools.convert(
        traced,
        inputs=[
            coremltools.TensorType("x", shape=x[0].shape, dtype=np.float32),
            coremltools.TensorType("now", shape=steps[0].shape, dtype=np.float32),
        ],
        outputs=[coremltools.TensorType("result", dtype=np.float32)],
        states=[coremltools.StateType(cache, name) for name in ("keys", "values")],
        minimum_deployment_target=coremltools.target.iOS18,
        skip_model_load=True,
    )
    evaluator = Evaluator(packaged(mlmodel), arithmetic=Arithmetic.FP16)
    state = evaluator.state()
    for step, now, wanted in zip(x, steps, expected, strict=True):
        given = {"x": step.numpy(), "now": now.numpy()}
        found = evaluator.run(given, state=state)["result"]
        np.testing.assert_allclose(found, wanted, atol=3e-3)
    alone = evaluator.run({"x": x[-1].numpy(), "now": steps[-1].numpy()})["result"]
    assert np.abs(alone - expected[-1].numpy()).max() > 0.01, "a fresh state has nothing to attend"
