"""Integer windows against the definition: s is inside iff a <= s + 1/2 < b, then the clip."""

import math
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.layers.windows import (
    aperiodic_windows,
    periodic_masks,
    periodic_windows,
    positional_steps,
    positional_windows,
    window_mask,
)

EDGES = st.floats(-40, 40).map(lambda x: round(x * 4) / 4) | st.floats(-40, 40)


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def _frames_inside(a: float | Fraction, b: float | Fraction, n: int) -> list[int]:
    """Frames of the window [a, b), or the nearest valid frame where it holds none."""
    found = [s for s in range(n) if a <= Fraction(2 * s + 1, 2) < b]
    if found:
        return found
    return [0] if b <= 0.5 else [min(max(math.ceil(a - Fraction(1, 2)), 0), n - 1)]


@settings(deadline=None)
@given(lower=EDGES, width=st.floats(1, 40), n=st.integers(1, 30), padding=st.integers(0, 5))
def test_aperiodic_window_holds_the_frames_whose_centre_is_inside(
    lower: float, width: float, n: int, padding: int
) -> None:
    total = n + padding
    edges = torch.full((1, total, 1, 1), lower, dtype=torch.float64)
    upper = edges + width
    starts, ends = aperiodic_windows(edges, upper, torch.tensor([n]))
    for t in range(n):
        # t + x in floating point would round an edge that lies on a centre.
        centre = Fraction(2 * t + 1, 2)
        expected = _frames_inside(
            centre + Fraction(lower), centre + Fraction(float(upper[0, 0])), n
        )
        assert list(range(int(starts[0, t]), int(ends[0, t]))) == expected


def test_float32_edges_round_alike_at_any_frame() -> None:
    lower = torch.linspace(-16, 16, 641, dtype=torch.float32)
    edges = lower.view(1, 1, 1, -1).expand(1, 6000, 1, -1)
    starts, _ = aperiodic_windows(edges, edges + 3, torch.tensor([6000]))
    relative = starts[0, 100:5900, 0] - torch.arange(100, 5900)[:, None]
    assert (relative == relative[:1]).all()


@settings(deadline=None)
@given(
    period=st.floats(4, 60),
    phase=st.floats(-70, 70),
    duty=st.floats(0, 1),
    frames=st.integers(1, 80),
    n=st.integers(1, 80),
)
def test_periodic_masks_hold_the_tooth_of_each_valid_frame(
    period: float, phase: float, duty: float, frames: int, n: int
) -> None:
    n = min(n, frames)
    width = 1 + (period - 1) * duty
    masks, members = periodic_masks(_scalar(period), _scalar(phase), _scalar(width), frames)
    assert (members.sum(-1) == 1).all()
    for t in range(n):
        start = phase + math.floor((t + 0.5 - phase) / period) * period
        tooth = int(members[0, 0, t].argmax())
        inside = [s for s in masks[0, 0, tooth].nonzero().flatten().tolist() if s < n]
        assert inside == _frames_inside(start, start + width, n)


def test_periodic_masks_hold_no_more_teeth_than_the_bucket_has() -> None:
    period, phase, width = (torch.tensor([[x], [2 * x]]).double() for x in (10.0, 0.0, 4.0))
    masks, members = periodic_masks(period, phase, width, 100)
    assert masks.shape == (2, 1, 10, 100)
    assert members.shape == (2, 1, 100, 10)


@settings(deadline=None)
@given(lower=st.floats(-0.5, 0.99), width=st.floats(0, 1), frames=st.integers(1, 120))
def test_positional_steps_add_up_to_the_window_of_every_length(
    lower: float, width: float, frames: int
) -> None:
    edges = _scalar(lower), _scalar(lower + width)
    starts, ends = positional_steps(*edges, frames)
    for n in range(1, frames + 1):
        valid = (torch.arange(frames) < n).double()
        found = range(int(valid @ starts[:, 0]), int(valid @ ends[:, 0]))
        expected = _frames_inside(lower * n, (lower + width) * n, n)
        start, end = (int(x) for x in positional_windows(*edges, torch.tensor([n])))
        assert list(found) == list(range(start, end))
        # A window narrower than a frame may hold no centre; then it is the frame that follows.
        assert found[0] == expected[0] or width * n < 1
        assert width * n < 1 or list(found) == expected


def test_tooth_never_starts_after_its_frame() -> None:
    generator = np.random.default_rng(0)
    period = torch.from_numpy(generator.uniform(4, 512, (20, 1)))
    phase = torch.from_numpy(generator.uniform(-600, 600, (20, 1)))
    starts, _ = periodic_windows(period, phase, period, 6000)
    assert (starts <= torch.arange(6000)[:, None, None]).all()


def test_window_mask_is_true_from_start_to_before_end() -> None:
    mask = window_mask(torch.tensor([0, 2]), torch.tensor([1, 4]), 4)
    assert mask.tolist() == [[True, False, False, False], [False, False, True, True]]
