"""Window means against a loop that averages the frames of each window."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.layers.prefix_sum import prefix_sum, window_means


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
