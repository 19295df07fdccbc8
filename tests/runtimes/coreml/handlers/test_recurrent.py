"""Recurrent layers against torch's, and against a loop where torch has no such option."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

Compute = Callable[..., Any]

# torch keeps its gates as (input, forget, cell, output) and (reset, update, new).
LSTM, GRU = [0, 1, 3, 2], [0, 2, 1]


def reordered(parameter: Tensor, order: list[int]) -> Any:
    return torch.cat([parameter.chunk(len(order))[i] for i in order]).detach().numpy()


def weights(layer: nn.RNNBase, order: list[int], direction: str = "") -> dict[str, Any]:
    """Weights and the sum of both biases of a layer of torch, in the order of Core ML."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found = [reordered(layer.get_parameter(f"{name}_l0{direction}"), order) for name in names]
    back = "_back" if direction else ""
    return {
        f"weight_ih{back}": found[0],
        f"weight_hh{back}": found[1],
        f"bias{back}": found[2] + found[3],
    }


def side_by_side(state: Tensor) -> Any:
    return torch.cat(list(state), -1).detach().numpy()


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("sequence", [True, False])
def test_lstm(compute: Compute, direction: str, sequence: bool) -> None:
    torch.manual_seed(0)
    both = direction == "bidirectional"
    layer = nn.LSTM(5, 4, bidirectional=both)
    x = torch.randn(6, 2, 5)
    h, c = torch.randn(1 + both, 2, 4), torch.randn(1 + both, 2, 4)
    output, (h_n, c_n) = layer(x.flip(0) if direction == "reverse" else x, (h, c))
    expected = output.detach().numpy() if sequence else side_by_side(h_n)[None]
    found, last, cell = compute(
        "lstm",
        x=x.numpy(),
        initial_h=side_by_side(h),
        initial_c=side_by_side(c),
        direction=direction,
        output_sequence=sequence,
        **weights(layer, LSTM),
        **(weights(layer, LSTM, "_reverse") if both else {}),
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(last, side_by_side(h_n), atol=1e-6)
    np.testing.assert_allclose(cell, side_by_side(c_n), atol=1e-6)


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("scaled_tanh", np.tanh),
        ("hard_sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("linear", lambda x: x),
    ],
)
def test_lstm_with_peepholes_and_a_bounded_cell(
    compute: Compute, name: str, activation: Callable[[Any], Any]
) -> None:
    rng = np.random.default_rng(0)
    x, w, u = rng.normal(size=(7, 1, 3)), rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    b, p = rng.normal(size=8), rng.normal(size=6)
    h, c, states = np.zeros(2), np.zeros(2), []
    for step in x[:, 0]:
        i, f, o, z = np.split(w @ step + u @ h + b, 4)
        kept = logistic(f + p[2:4] * c) * c
        c = np.clip(kept + logistic(i + p[:2] * c) * np.tanh(z), -0.3, 0.3)
        h = logistic(o + p[4:] * c) * activation(c)
        states.append(h)
    found, _, cell = compute(
        "lstm",
        x=x,
        initial_h=np.zeros((1, 2), np.float32),
        initial_c=np.zeros((1, 2), np.float32),
        weight_ih=w,
        weight_hh=u,
        bias=b,
        peephole=p,
        clip=0.3,
        activation=name,
        output_sequence=True,
    )
    np.testing.assert_allclose(found[:, 0], states, atol=1e-5)
    np.testing.assert_allclose(cell[0], c, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("sequence", [True, False])
def test_gru_that_resets_the_hidden_state(compute: Compute, direction: str, sequence: bool) -> None:
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(5, 2, 3)), rng.normal(size=(2, 4))
    w, u, b = rng.normal(size=(12, 3)), rng.normal(size=(12, 4)), rng.normal(size=12)
    state, states = h, []
    for step in x[::-1] if direction == "reverse" else x:
        (w_r, w_o, w_z), (u_r, u_o, u_z), (b_r, b_o, b_z) = (np.split(m, 3) for m in (w, u, b))
        r = logistic(step @ w_r.T + state @ u_r.T + b_r)
        z = logistic(step @ w_z.T + state @ u_z.T + b_z)
        state = (1 - z) * np.tanh(step @ w_o.T + (r * state) @ u_o.T + b_o) + z * state
        states.append(state)
    found, last = compute(
        "gru",
        x=x,
        initial_h=h,
        weight_ih=w,
        weight_hh=u,
        bias=b,
        direction=direction,
        output_sequence=sequence,
    )
    np.testing.assert_allclose(found, states if sequence else states[-1:], atol=1e-5)
    np.testing.assert_allclose(last, states[-1], atol=1e-5)


def test_gru_that_resets_after_the_recurrent_weights_is_that_of_torch(compute: Compute) -> None:
    torch.manual_seed(0)
    layer, x, h = nn.GRU(5, 4), torch.randn(6, 2, 5), torch.randn(1, 2, 4)
    output, _ = layer(x, h)
    given = weights(layer, GRU) | {
        "bias": reordered(layer.get_parameter("bias_hh_l0"), GRU),
        "input_bias": reordered(layer.get_parameter("bias_ih_l0"), GRU),
    }
    found, _ = compute(
        "gru", x=x.numpy(), initial_h=h[0].numpy(), output_sequence=True, reset_after=True, **given
    )
    np.testing.assert_allclose(found, output.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_plain_recurrent_layers(compute: Compute, nonlinearity: str) -> None:
    torch.manual_seed(0)
    layer = nn.RNN(5, 4, nonlinearity=nonlinearity)
    x, h = torch.randn(6, 2, 5), torch.randn(1, 2, 4)
    output, h_n = layer(x, h)
    found, last = compute(
        "rnn",
        x=x.numpy(),
        initial_h=h[0].numpy(),
        output_sequence=True,
        activation=nonlinearity,
        **weights(layer, [0]),
    )
    np.testing.assert_allclose(found, output.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(last, h_n[0].detach().numpy(), atol=1e-6)
