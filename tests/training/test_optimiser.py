"""Muon for matrices, AdamW for the rest; both go on after a restore as if nothing had been."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lpa_export.training.optimiser import SMALLEST_SIDE, Optimiser, OptimizerName

RATE = 0.01


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, SMALLEST_SIDE), nn.GELU(), nn.Linear(SMALLEST_SIDE, 8))


def optimiser(net: nn.Module, name: OptimizerName, decay: float = 0.0) -> Optimiser:
    return Optimiser(dict(net.named_parameters()), name, learning_rate=RATE, weight_decay=decay)


def batch(seed: int) -> torch.Tensor:
    return torch.randn(32, 96, generator=torch.Generator().manual_seed(seed))


def step(net: nn.Module, one: Optimiser, seed: int) -> None:
    one.zero_grad()
    net(
        torch.randn(32, 96, generator=torch.Generator().manual_seed(seed))
    ).square().mean().backward()
    one.step(RATE)


def test_muon_moves_a_matrix_more_evenly_than_its_gradient_says() -> None:
    net = model()
    weight = net.get_parameter("0.weight")
    before = weight.detach().clone()
    step(net, optimiser(net, "muon"), 0)
    assert weight.grad is not None
    moved = torch.linalg.svdvals(weight.detach() - before)
    # Newton-Schulz takes the large singular values to about 1, and none above 1.3.
    assert 0.7 < moved.max() / (RATE * 0.2 * math.sqrt(96)) < 1.3
    assert evenness(moved) > 3 * evenness(torch.linalg.svdvals(weight.grad))


def evenness(scales: torch.Tensor) -> torch.Tensor:
    return scales.median() / scales.max()


def test_what_is_no_wide_matrix_moves_as_with_adamw() -> None:
    with_muon, with_adamw = model(), model()
    step(with_muon, optimiser(with_muon, "muon"), 0)
    step(with_adamw, optimiser(with_adamw, "adamw"), 0)
    for name in ("0.bias", "2.weight", "2.bias"):
        assert torch.equal(with_muon.get_parameter(name), with_adamw.get_parameter(name))
    assert not torch.equal(
        with_muon.get_parameter("0.weight"), with_adamw.get_parameter("0.weight")
    )


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_restored_optimiser_takes_the_same_steps(name: OptimizerName) -> None:
    net = model()
    through = optimiser(net, name, decay=0.1)
    for seed in range(3):
        step(net, through, seed)
    copy = model()
    copy.load_state_dict(net.state_dict())
    resumed = optimiser(copy, name, decay=0.1)
    resumed.restore({key: tensor.clone() for key, tensor in through.moments().items()})
    for seed in range(3, 6):
        step(net, through, seed)
        step(copy, resumed, seed)
    for key, value in net.state_dict().items():
        assert torch.equal(value, copy.state_dict()[key]), key


def test_moments_of_a_weight_that_is_not_trained_are_refused() -> None:
    with pytest.raises(KeyError):
        optimiser(model(), "adamw").restore({"exp_avg:other.weight": torch.zeros(2)})
