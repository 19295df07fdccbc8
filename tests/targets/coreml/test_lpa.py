"""The LPA layer of a bucket against the hard layer in float64, one utterance without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.windows import periodic_masks
from lpa_export.measures.arrays import psnr
from lpa_export.targets.coreml.band import band_mix, band_ramp, key_blocks, reach
from lpa_export.targets.coreml.channels_first import to_channels_first
from lpa_export.targets.coreml.limits import BLOCK, MAX_EXACT_FRAMES
from lpa_export.targets.coreml.lpa import BandLPA
from lpa_export.targets.coreml.padding import Padding, frames_left, key_bias

EXACT_DB = 200.0


def _lpa(seed: int = 0, **changes: float) -> LPA:
    """A hard layer in float64 whose windows move with the content."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_heads": 3, "kernel_size": 5} | changes
    lpa = LPA(LPAConfig(**sizes)).double().eval().requires_grad_(False)  # type: ignore[arg-type]
    lpa.controls.weight.mul_(8)
    for parameter in lpa.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    lpa.hard = True
    return lpa


def _padding(valid: int, frames: int, dtype: torch.dtype) -> Padding:
    mask = (torch.arange(frames) < valid).to(dtype).view(1, 1, 1, -1)
    ramp = torch.arange(frames).to(dtype).view(1, 1, 1, -1)
    left = frames_left(mask, torch.ones(frames, 1, dtype=dtype), ramp)
    return Padding(mask, key_bias(mask), left, None)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(1, 4),
    missing=st.integers(0, BLOCK - 1),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)).filter(any),
    bounds=st.sampled_from([(16.0, 32.0), (3.5, 9.0), (40.0, 60.0), (2.0, 2.0 + 1e-3)]),
)
def test_equals_the_hard_layer_at_any_valid_length(
    seed: int,
    blocks: int,
    missing: int,
    counts: tuple[int, int, int],
    bounds: tuple[float, float],
) -> None:
    names = ("aperiodic", "periodic", "positional")
    lpa = _lpa(
        seed,
        **dict(zip(names, counts, strict=True)),
        max_offset=bounds[0],
        max_width=bounds[1],
        min_period=1.0,
    )
    frames = blocks * BLOCK
    valid = frames - missing
    hidden = torch.randn(1, frames, 24, dtype=torch.float64)
    expected = lpa(hidden[:, :valid])
    hidden[:, valid:] = 50.0
    found = BandLPA(lpa, frames)(to_channels_first(hidden), _padding(valid, frames, hidden.dtype))
    assert torch.isfinite(found).all()
    assert psnr(expected, found[:, :, 0, :valid].transpose(1, 2)) > EXACT_DB


@pytest.mark.parametrize("kernel", [1, 15, 31])
def test_context_of_any_kernel(kernel: int) -> None:
    lpa = _lpa(kernel_size=kernel)
    hidden = torch.randn(1, BLOCK, 24, dtype=torch.float64)
    found = BandLPA(lpa, BLOCK)(to_channels_first(hidden), _padding(BLOCK, BLOCK, hidden.dtype))
    assert psnr(lpa(hidden), found[:, :, 0].transpose(1, 2)) > EXACT_DB


@pytest.mark.parametrize("frames", [0, 63, 65])
def test_frames_that_make_no_whole_blocks_are_refused(frames: int) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        BandLPA(_lpa(), frames)


@pytest.mark.parametrize("band", [1, 32, 33, 64, 100])
def test_key_blocks_are_the_frames_around_each_block(band: int) -> None:
    values = torch.randn(1, 2, 3, 4 * BLOCK)
    found = key_blocks(values, band)
    for block in range(4):
        for row, offset in enumerate(band_ramp(band)[:, 0].tolist()):
            frame = block * BLOCK + int(offset)
            inside = 0 <= frame < 4 * BLOCK
            expected = values[0, :, :, frame] if inside else torch.zeros(2, 3)
            assert (found[:, block, :, row] == expected).all()
    assert reach(band) >= band


def test_band_mix_is_a_loop_over_integer_windows() -> None:
    generator = np.random.default_rng(0)
    heads, frames, band, pulses = 2, 2 * BLOCK, 20, 2
    values = generator.normal(size=(1, heads, 3, frames))
    starts = generator.integers(-band, band - 1, (pulses, 1, heads, 1, frames))
    ends = np.minimum(starts + generator.integers(1, 2 * band, starts.shape), band)
    amplitudes = generator.uniform(0, 1, starts.shape)
    expected = np.zeros_like(values)
    for k, h, t in np.ndindex(pulses, heads, frames):
        first, last = int(starts[k, 0, h, 0, t]), int(ends[k, 0, h, 0, t])
        inside = range(max(0, t + first), min(frames, t + last))
        total = sum((values[0, h, :, s] for s in inside), np.zeros(3))
        expected[0, h, :, t] += amplitudes[k, 0, h, 0, t] * total / (last - first)
    found = band_mix(
        torch.from_numpy(values),
        [(torch.from_numpy(starts[k] * 1.0), torch.from_numpy(ends[k] * 1.0)) for k in (0, 1)],
        [torch.from_numpy(amplitudes[k]) for k in (0, 1)],
        band_ramp(band).double(),
        band,
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_tooth_lies_among_its_members() -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (40, 1)
    period = 1 + 60 * torch.rand(shape, generator=generator, dtype=torch.float64)
    phase = 100 * torch.rand(shape, generator=generator, dtype=torch.float64) - 50
    width = 1 + (period - 1) * torch.rand(shape, generator=generator, dtype=torch.float64)
    teeth, members = periodic_masks(period, phase, width, 192)
    used = members.amax(dim=2)[..., None] > 0
    assert (used * teeth <= members.transpose(2, 3)).all()
    # So that one row of shares can hold all teeth of a pulse.
    assert (used * teeth).sum(dim=2).max() == 1


def test_frames_left_is_exact_in_float16_to_the_limit() -> None:
    for valid in (1, 2047, MAX_EXACT_FRAMES):
        left = _padding(valid, MAX_EXACT_FRAMES, torch.float16).left.flatten()
        assert left.tolist() == [valid - t for t in range(MAX_EXACT_FRAMES)]
