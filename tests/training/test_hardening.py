"""Hard gates forward, soft gradients backward."""

import pytest
import torch

from lpa_export.layers import LPA, LPAConfig
from lpa_export.training.hardening import hard_forward


@pytest.fixture
def case() -> tuple[LPA, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    lpa = LPA(LPAConfig(16, 2))
    lpa.temperature = 0.5
    valid = torch.arange(30) < torch.tensor([[30], [21]])
    return lpa, torch.randn(2, 30, 16), valid


def test_the_forward_pass_is_the_hard_one_to_the_bit(
    case: tuple[LPA, torch.Tensor, torch.Tensor],
) -> None:
    lpa, hidden, valid = case
    with hard_forward([lpa]):
        straight = lpa(hidden, valid)
    soft = lpa(hidden, valid)
    lpa.hard = True
    assert torch.equal(straight, lpa(hidden, valid))
    assert not torch.equal(straight, soft)


def test_the_gradient_is_the_soft_one_and_reaches_every_window(
    case: tuple[LPA, torch.Tensor, torch.Tensor],
) -> None:
    lpa, hidden, valid = case
    weights = torch.randn(2, 30, 16)
    gradients = []
    for straight in (True, False):
        lpa.zero_grad()
        with hard_forward([lpa] if straight else []):
            (lpa(hidden, valid) * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in lpa.named_parameters()})  # type: ignore[union-attr]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
        assert gradient.abs().max() > 0, name


def test_without_gradients_the_layer_is_what_it_says_it_is(
    case: tuple[LPA, torch.Tensor, torch.Tensor],
) -> None:
    lpa, hidden, valid = case
    with torch.no_grad():
        soft = lpa(hidden, valid)
        with hard_forward([lpa]):
            assert torch.equal(lpa(hidden, valid), soft)
            assert not lpa.hard
