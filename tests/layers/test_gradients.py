"""Gradients of the soft layer against finite differences."""

from collections.abc import Callable

import pytest
import torch

from lpa_export.layers import LPA

Make = Callable[..., LPA]


@pytest.mark.parametrize("families", [(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 1)])
def test_gradients_of_input_and_parameters_equal_finite_differences(
    make_layer: Make, families: tuple[int, int, int]
) -> None:
    counts = dict(zip(("aperiodic", "periodic", "positional"), families, strict=True))
    layer = make_layer(1, **counts)
    layer.temperature = 0.8
    # 70 frames are more than one query block.
    hidden = torch.randn(2, 70, 6, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(70) < torch.tensor([[70], [41]])
    names = [name for name, _ in layer.named_parameters()]
    values = [parameter.clone().requires_grad_() for parameter in layer.parameters()]

    def run(hidden: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (hidden, valid))

    assert torch.autograd.gradcheck(run, (hidden, *values), fast_mode=True)


def test_every_parameter_learns(make_layer: Make) -> None:
    layer = make_layer(2).requires_grad_(True)
    layer(torch.randn(2, 50, 6, dtype=torch.float64)).square().sum().backward()
    still = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("hard", [False, True])
def test_no_gradient_reaches_padding(make_layer: Make, hard: bool) -> None:
    layer = make_layer(3)
    layer.hard = hard
    hidden = torch.randn(2, 40, 6, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(40) < torch.tensor([[40], [23]])
    (gradient,) = torch.autograd.grad(layer(hidden, valid).square().sum(), hidden)
    assert not gradient[~valid].any()
    assert gradient[valid].any(dim=-1).all()
