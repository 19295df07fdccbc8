"""What stands behind an utterance in a batch never changes it."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.layers import LPA

Make = Callable[..., LPA]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 150),
    padding=st.integers(1, 100),
    garbage=st.sampled_from([0.0, 1e6, math.inf, math.nan]),
    hard=st.booleans(),
)
def test_padded_with_garbage_equals_alone(
    make_layer: Make, seed: int, frames: int, padding: int, garbage: float, hard: bool
) -> None:
    layer = make_layer(seed)
    layer.hard = hard
    total = frames + padding
    hidden = torch.randn(2, total, 6, dtype=torch.float64)
    hidden[0, frames:] = garbage
    valid = torch.arange(total) < torch.tensor([[frames], [total]])
    output = layer(hidden, valid)
    assert (output[:1, :frames] - layer(hidden[:1, :frames])).abs().max() < 1e-12
    assert not output[~valid].any()


@pytest.mark.parametrize("hard", [False, True])
def test_utterance_without_valid_frames_gives_zeros(make_layer: Make, hard: bool) -> None:
    layer = make_layer(0)
    layer.hard = hard
    valid = torch.tensor([[False] * 9, [True] * 9])
    output = layer(torch.randn(2, 9, 6, dtype=torch.float64), valid)
    assert not output[0].any()
    assert output[1].isfinite().all()


@pytest.mark.parametrize("hard", [False, True])
def test_output_of_a_float32_layer_is_float32(make_layer: Make, hard: bool) -> None:
    layer = make_layer(0).float()
    layer.hard = hard
    assert layer(torch.randn(1, 20, 6)).dtype == torch.float32
