"""Window means against a loop that averages the frames of each window."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.folding.prefix_sum import block_window_means, prefix_sum, window_means


def _windows(seed: int, batch: int, frames: int, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random windows (B, T, 2, 3) of at most `longest` frames, borders included."""
    generator = np.random.default_rng(seed)
    shape = (batch, frames, 2, 3)
    starts = generator.integers(0, frames, shape)
    ends = np.minimum(starts + generator.integers(1, longest + 1, shape), frames)
    starts[:, 0], ends[:, 0] = 0, min(longest, frames)
    starts[:, -1], ends[:, -1] = frames - 1, frames
    return torch.from_numpy(starts), torch.from_numpy(ends)


def _looped_means(values: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> np.ndarray:
    array = values.double().numpy()
    means = np.zeros((*starts.shape, array.shape[-1]))
    for b, q, h, k in np.ndindex(*starts.shape):
        window = array[b, int(starts[b, q, h, k]) : int(ends[b, q, h, k]), h]
        means[b, q, h, k] = window.sum(axis=0) / len(window)
    return means


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 3), frames=st.integers(1, 60))
def test_prefix_sum_means_equal_loop(seed: int, batch: int, frames: int) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).normal(5, 1, (batch, frames, 2, 4)))
    starts, ends = _windows(seed, batch, frames, longest=frames)
    means = window_means(prefix_sum(values), starts, ends)
    assert np.abs(means.numpy() - _looped_means(values, starts, ends)).max() < 1e-10


def test_prefix_sum_of_float32_is_taken_in_float64_at_two_minutes() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(5, 1, (1, 6000, 2, 4))).float()
    starts, ends = _windows(0, 1, 6000, longest=32)
    means = window_means(prefix_sum(values), starts, ends)
    assert np.abs(means.numpy() - _looped_means(values, starts, ends)).max() < 1e-10


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 100), block=st.integers(1, 40))
def test_block_restarted_means_equal_loop(seed: int, frames: int, block: int) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).normal(5, 1, (2, frames, 2, 4)))
    starts, ends = _windows(seed, 2, frames, longest=block)
    means = block_window_means(values, starts, ends, block=block)
    assert np.abs(means.numpy() - _looped_means(values, starts, ends)).max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_block_restarted_error_is_bounded_at_two_minutes(dtype: torch.dtype) -> None:
    """Windows of 8 to 32 frames, |v| <= M, sums that restart every 32 frames.

    A sum of up to 32 values built one by one errs by at most 32 u (32 M), u the unit roundoff;
    three sums make a window, and the mean divides by its width. One rounding for each of the
    subtraction, the addition and the division is covered by the last term. T is nowhere in it.
    """
    block, narrowest = 32, 8
    values = torch.from_numpy(np.random.default_rng(1).normal(2, 1, (1, 6000, 2, 4))).to(dtype)
    starts, ends = _windows(1, 1, 6000, longest=block)
    starts = torch.minimum(starts, ends - narrowest).clamp_min(0)
    ends = torch.maximum(ends, starts + narrowest)
    exact = _looped_means(values, starts, ends)
    largest = float(values.abs().max())
    unit = torch.finfo(dtype).eps / 2
    bound = unit * largest * (3 * block * block / narrowest + 4 * block / narrowest)
    found = block_window_means(values, starts, ends, block=block).double().numpy()
    error = np.abs(found - exact)
    assert error.max() < bound
    # What is met is far below the worst case: 32 roundings do not all err the same way.
    assert error.max() < bound / 10
    plain = values.cumsum(dim=1).double().numpy()
    plain = np.concatenate([np.zeros_like(plain[:, :1]), plain], axis=1)
    head = np.arange(2)[:, None]
    sums = plain[0, ends[0].numpy(), head] - plain[0, starts[0].numpy(), head]
    unbounded = np.abs(sums / (ends - starts)[0, ..., None].numpy() - exact[0])
    assert unbounded.max() > 20 * error.max()
