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


def test_muon_is_torchs_but_for_the_rounding_of_bfloat16() -> None:
    """Wide, tall and square, with momentum and weight decay, over several steps."""
    for shape in ((64, 96), (96, 64), (80, 80)):
        generator = torch.Generator().manual_seed(0)
        ours, theirs = (
            nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
            for _ in range(2)
        )
        before = ours.detach().clone()
        mine = Optimiser({"w": ours}, "muon", learning_rate=RATE, weight_decay=0.1)
        torchs = torch.optim.Muon(
            [theirs], lr=RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        )
        for _ in range(4):
            ours.grad = torch.randn(shape, generator=generator)
            theirs.grad = ours.grad.clone()
            mine.step(RATE)
            torchs.step()
        moved = theirs.detach() - before
        assert (ours.detach() - theirs.detach()).norm() < 0.02 * moved.norm()


def test_on_a_cpu_muon_is_exact_to_float32() -> None:
    """Newton-Schulz acts on singular values alone: here it does so in float64."""
    weight = nn.Parameter(torch.zeros(64, 96))
    weight.grad = torch.randn(64, 96, generator=torch.Generator().manual_seed(2))
    Optimiser({"w": weight}, "muon", learning_rate=RATE, weight_decay=0.0).step(RATE)
    left, scales, right = torch.linalg.svd(weight.grad.double(), full_matrices=False)
    scales = scales / scales.norm()
    for _ in range(5):
        scales = 3.4445 * scales - 4.7750 * scales**3 + 2.0315 * scales**5
    expected = -RATE * 0.2 * math.sqrt(96) * (left * scales) @ right
    assert (weight.detach() - expected).norm() < 1e-5 * expected.norm()


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
