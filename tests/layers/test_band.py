"""The local band: its masks are the integer windows, its mixture their weighted means."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.layers.band import band_mix, band_offsets, inside, relative_windows
from lpa_export.layers.windows import aperiodic_windows


def test_offsets_are_key_minus_query() -> None:
    assert band_offsets(2, 3).tolist() == [
        [-2, -1, 0, 1, 2, 3, 4],
        [-3, -2, -1, 0, 1, 2, 3],
        [-4, -3, -2, -1, 0, 1, 2],
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_mask_is_exactly_zero_or_one_in_any_precision(dtype: torch.dtype) -> None:
    ramp = torch.arange(-130, 130).to(dtype)
    mask = inside(ramp, torch.tensor(-7.0, dtype=dtype), torch.tensor(5.0, dtype=dtype))
    assert mask.tolist() == [float(-7 <= s < 5) for s in range(-130, 130)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 70),
    padding=st.integers(0, 30),
    block=st.integers(1, 80),
)
def test_mixture_equals_loop_over_integer_windows(
    seed: int, frames: int, padding: int, block: int
) -> None:
    generator = np.random.default_rng(seed)
    heads, pulses, band, total = 2, 3, 12, frames + padding
    offset = generator.uniform(-8, 8, (1, heads, total, pulses))
    half = generator.uniform(1, 8, offset.shape) / 2
    lower, upper = (torch.from_numpy(edge) for edge in (offset - half, offset + half))
    amplitudes = torch.from_numpy(generator.uniform(0, 1, offset.shape))
    values = torch.from_numpy(generator.normal(size=(1, heads, total, 4)))
    values[:, :, frames:] = 0
    ramp = torch.arange(total).double()
    windows = relative_windows(
        lower, upper, (-ramp).clamp_min(-band)[:, None], frames - ramp.view(1, 1, -1, 1)
    )
    mixed = band_mix(values, *windows, amplitudes, band_offsets(band, block).double())
    starts, ends = aperiodic_windows(
        lower.transpose(1, 2), upper.transpose(1, 2), torch.tensor([frames])
    )
    for t in range(frames):
        for h in range(heads):
            expected = sum(
                amplitudes[0, h, t, k]
                * values[0, h, int(starts[0, t, h, k]) : int(ends[0, t, h, k])].mean(dim=0)
                for k in range(pulses)
            )
            assert (mixed[0, h, t] - expected).abs().max() < 1e-10
