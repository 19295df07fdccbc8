"""Every form of the layer gives the numbers of the slow loop."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lpa_export.layers.soft
from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.folding import fold

Make = Callable[..., LPA]
Oracle = Callable[..., dict[int, np.ndarray]]

FAMILIES = st.sampled_from(
    [(2, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2, 1), (1, 0, 2), (2, 2, 0), (3, 1, 2)]
)
TOLERANCE = 1e-10


def _hidden(seed: int, batch: int, frames: int, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, width, generator=generator, dtype=torch.float64)


def _differences(output: torch.Tensor, slow: dict[int, np.ndarray], utterance: int = 0) -> float:
    return max(float(np.abs(output[utterance, t].numpy() - row).max()) for t, row in slow.items())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    families=FAMILIES,
    frames=st.integers(1, 40),
    temperature=st.floats(0.05, 3.0),
)
def test_soft_layer_equals_loop(
    make_layer: Make,
    slow_lpa: Oracle,
    seed: int,
    families: tuple[int, int, int],
    frames: int,
    temperature: float,
) -> None:
    counts = dict(zip(("aperiodic", "periodic", "positional"), families, strict=True))
    layer = make_layer(seed, **counts)
    layer.temperature = temperature
    hidden = _hidden(seed, 1, frames)
    slow = slow_lpa(layer, hidden[0].numpy(), temperature=temperature)
    assert _differences(layer(hidden), slow) < TOLERANCE


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    families=FAMILIES,
    frames=st.integers(1, 60),
    padding=st.integers(0, 70),
    max_offset=st.sampled_from([0.5, 6.5, 30.0]),
    max_width=st.sampled_from([1.5, 9.0, 40.0]),
)
def test_hard_and_folded_layers_equal_loop(
    make_layer: Make,
    slow_lpa: Oracle,
    seed: int,
    families: tuple[int, int, int],
    frames: int,
    padding: int,
    max_offset: float,
    max_width: float,
) -> None:
    counts = dict(zip(("aperiodic", "periodic", "positional"), families, strict=True))
    layer = make_layer(seed, spread=1.0, max_offset=max_offset, max_width=max_width, **counts)
    layer.hard = True
    total = frames + padding
    hidden = _hidden(seed, 2, total)
    valid = torch.arange(total) < torch.tensor([[frames], [max(1, total - 3)]])
    slow = slow_lpa(layer, hidden[0, :frames].numpy(), temperature=None)
    dense = fold(layer, form="local_dense_mask", frames=total)
    outputs = {
        "hard": layer(hidden, valid),
        "prefix_sum": fold(layer, form="prefix_sum")(hidden, valid),
        "local_dense_mask": dense(hidden, valid.double()),
    }
    for name, output in outputs.items():
        assert _differences(output, slow) < TOLERANCE, name
        assert (output - outputs["hard"])[valid].abs().max() < TOLERANCE, name
        # What prefix sums say of padding means nothing, but it must be a number.
        assert output.isfinite().all() if name == "prefix_sum" else not output[~valid].any(), name


@pytest.mark.parametrize("frames", [1500, 6000])
def test_forms_equal_loop_at_thirty_seconds_and_two_minutes(
    make_layer: Make, slow_lpa: Oracle, frames: int
) -> None:
    layer = make_layer(3, spread=1.0, hidden_size=4)
    layer.hard = True
    # A mean far from zero makes the prefix sums large, which is where they lose bits.
    hidden = _hidden(3, 1, frames, 4) + 5.0
    chosen = [0, 1, 17, frames // 2, frames - 12, frames - 2, frames - 1]
    slow = slow_lpa(layer, hidden[0].numpy(), temperature=None, frames=chosen)
    valid = torch.ones(1, frames, dtype=torch.float64)
    dense = fold(layer, form="local_dense_mask", frames=frames)
    assert _differences(layer(hidden), slow) < TOLERANCE
    assert _differences(fold(layer, form="prefix_sum")(hidden), slow) < TOLERANCE
    assert _differences(dense(hidden, valid), slow) < TOLERANCE


def test_soft_layer_at_two_minutes_equals_loop(make_layer: Make, slow_lpa: Oracle) -> None:
    layer = make_layer(4, hidden_size=4)
    layer.temperature = 0.5
    hidden = _hidden(4, 1, 6000, 4)
    slow = slow_lpa(layer, hidden[0].numpy(), temperature=0.5, frames=[0, 63, 64, 3000, 5999])
    assert _differences(layer(hidden), slow) < TOLERANCE


@pytest.mark.parametrize("frames", [1, 2, 35, 130])
def test_soft_layer_becomes_the_hard_one_as_the_temperature_falls(
    make_layer: Make, frames: int
) -> None:
    layer = make_layer(5, spread=1.0)
    hidden = _hidden(5, 2, frames)
    valid = torch.arange(frames) < torch.tensor([[frames], [frames // 2 + 1]])
    layer.hard = True
    hard = layer(hidden, valid)
    layer.hard = False
    gaps = []
    for temperature in (0.3, 1e-2, 1e-8):
        layer.temperature = temperature
        gaps.append(float((layer(hidden, valid) - hard).abs().max()))
    assert gaps[-1] < TOLERANCE
    assert gaps[1] <= gaps[0] + TOLERANCE


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_soft_layer_does_not_depend_on_the_query_block(
    make_layer: Make, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    layer = make_layer(6)
    hidden = _hidden(6, 2, 90)
    expected = layer(hidden)
    monkeypatch.setattr(lpa_export.layers.soft, "QUERY_BLOCK", block)
    assert (layer(hidden) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("hard", [False, True])
def test_pulses_compute_in_float32_under_autocast(hard: bool) -> None:
    torch.manual_seed(0)
    lpa = LPA(LPAConfig(8, 2))
    lpa.hard = hard
    hidden = torch.randn(1, 50, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = lpa(hidden)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, lpa(hidden.float()), rtol=0, atol=0)
