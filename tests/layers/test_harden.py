"""Hardness figures against counts made by hand."""

import math

import pytest
import torch

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.harden import count_soft_gates, harden


def _layer(**sizes: int | float) -> LPA:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(**{"hidden_size": 8, "num_heads": 2, **sizes}))  # type: ignore[arg-type]
    return layer.requires_grad_(False)


def _soft(x: float, temperature: float, a: float, b: float) -> bool:
    rising = 1 / (1 + math.exp(-(x - a) / temperature))
    return 0.05 < rising / (1 + math.exp(-(b - x) / temperature)) < 0.95


def test_soft_aperiodic_gates_are_counted_over_pairs_of_valid_frames_in_the_band() -> None:
    layer = _layer(aperiodic=1, periodic=0, positional=0, max_offset=3.0, max_width=6.0)
    layer.temperature = 0.4
    with torch.no_grad():
        layer.controls.weight.zero_()
    n, total = 20, 26
    valid = torch.arange(total)[None] < n
    soft, evaluated = count_soft_gates(layer, torch.randn(1, total, 8), valid)
    _, controls, _ = layer.read(torch.zeros(1, 1, 8), None)
    expected_soft = expected = 0
    for h in range(2):
        for t in range(n):
            a = min(t + 0.5 + float(controls.lower[0, 0, h, 0]), n - 1)
            b = max(t + 0.5 + float(controls.upper[0, 0, h, 0]), a + 1, 1)
            for s in range(n):
                if abs(s - t) <= 6:
                    expected += 1
                    expected_soft += _soft(s + 0.5, 0.4, a, b)
    assert (soft, evaluated) == (expected_soft, expected)


def test_soft_content_independent_gates_are_counted_once_per_valid_frame() -> None:
    layer = _layer(aperiodic=0, periodic=2, positional=1)
    soft, evaluated = count_soft_gates(layer, torch.randn(3, 30, 8), None)
    assert evaluated == 3 * 30 * 2 * 3
    assert 0 < soft < evaluated


def test_share_of_soft_gates_falls_with_the_temperature() -> None:
    layer = _layer()
    hidden = torch.randn(2, 60, 8)
    shares = []
    for temperature in (2.0, 0.5, 1e-4):
        layer.temperature = temperature
        (figures,) = harden({0: layer}, {0: [(hidden, None)]})
        layer.hard = False
        shares.append((figures.soft_share, figures.psnr_db))
    assert shares[0][0] > shares[1][0] > shares[2][0]
    assert shares[0][1] < shares[1][1] < shares[2][1]
    assert shares[2][0] < 1e-3


def test_harden_sets_every_layer_hard_and_reports_in_order() -> None:
    layers = {5: _layer(), 1: _layer()}
    inputs = [(torch.randn(2, 30, 8), torch.arange(30) < torch.tensor([[30], [11]]))]
    figures = harden(layers, {1: inputs, 5: inputs * 2})
    assert [figure.layer for figure in figures] == [1, 5]
    assert all(layer.hard for layer in layers.values())


def test_padding_counts_for_nothing() -> None:
    layer = _layer()
    hidden = torch.randn(1, 40, 8)
    padded = torch.cat([hidden, torch.full((1, 25, 8), math.nan)], dim=1)
    valid = torch.arange(65)[None] < 40
    assert count_soft_gates(layer, padded, valid) == count_soft_gates(layer, hidden, None)
    (alone,) = harden({0: layer}, {0: [(hidden, None)]})
    (behind,) = harden({0: layer}, {0: [(padded, valid)]})
    assert behind.psnr_db == pytest.approx(alone.psnr_db, abs=1e-3)


def test_a_layer_without_inputs_is_refused_and_left_soft() -> None:
    layer = _layer()
    with pytest.raises(ValueError, match="layer 4 has no captured inputs"):
        harden({4: layer}, {})
    assert not layer.hard
