"""Sums that restart, in float32, against exact ones: a bound that holds at an hour."""

from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lpa_export.layers.band import relative_windows
from lpa_export.layers.fixed_pulses import Teeth
from lpa_export.layers.restarting_sums import (
    Restarting,
    layout,
    local_sums,
    own_rows,
    restarting,
    restarting_sums,
    window_means,
    windows_of,
)
from lpa_export.layers.windows import (
    aperiodic_windows,
    periodic_windows,
    tooth_numbers,
    tooth_windows,
)

HOUR = 180_000
HEADS, CHANNELS = 2, 3
UNIT_ROUNDOFF = 2.0**-24
HOW = restarting(65)
IN_PIECES = restarting(65, in_pieces=True)


class _Means(nn.Module):
    """Means of short windows (B, T, H, K) one after another, and of long ones (B, W, H)."""

    def __init__(self, how: Restarting = HOW) -> None:
        super().__init__()
        self.how = how

    def forward(
        self, values: Tensor, starts: Tensor, widths: Tensor, firsts: Tensor, lasts: Tensor
    ) -> tuple[Tensor, ...]:
        frame = torch.arange(values.shape[1])
        rows = layout(self.how, values, HEADS)
        sums = restarting_sums(values, CHANNELS, rows)
        # Pulse by pulse, all heads of each.
        near = (starts - frame[:, None, None]).mT.flatten(2)
        picked = local_sums(sums, HEADS, own_rows(rows, frame), near, near + widths.mT.flatten(2))
        means = [each / width for each, width in zip(picked, widths.split(1, dim=-1), strict=True)]
        return window_means(sums, windows_of(rows, firsts, lasts)), *means


class _Case(NamedTuple):
    values: Tensor
    starts: Tensor
    widths: Tensor
    firsts: Tensor
    lasts: Tensor


def _case(seed: int, batch: int, frames: int) -> _Case:
    """Values far from zero; short windows at every frame, long ones, borders among both."""
    generator = np.random.default_rng(seed)
    values = generator.uniform(4, 6, (batch, frames, HEADS * CHANNELS)).astype(np.float32)
    starts = np.clip(
        np.arange(frames)[:, None, None] + generator.integers(-32, 33, (batch, frames, HEADS, 2)),
        0,
        frames - 1,
    )
    widths = np.minimum(generator.integers(1, 34, starts.shape), frames - starts)
    firsts = generator.integers(0, frames, (batch, 20, HEADS))
    firsts[:, 0] = 0
    lasts = generator.integers(firsts, frames) + 1
    lasts[:, 0] = frames
    return _Case(
        torch.from_numpy(values),
        torch.from_numpy(starts).float(),
        torch.from_numpy(widths).float(),
        torch.from_numpy(firsts),
        torch.from_numpy(lasts),
    )


def _exact(values: Tensor, starts: Tensor, ends: Tensor) -> np.ndarray:
    """Means of windows (B, Q, H) in float64, whose own sums round by 1e-9 at an hour."""
    split = values.double().numpy().reshape(*values.shape[:2], HEADS, CHANNELS)
    sums = np.concatenate([np.zeros_like(split[:, :1]), split.cumsum(axis=1)], axis=1)
    first, last = starts.long().numpy(), ends.long().numpy()
    batch, head = np.arange(len(split))[:, None, None], np.arange(HEADS)
    return (sums[batch, last, head] - sums[batch, first, head]) / (last - first)[..., None]


def _worst(found: tuple[np.ndarray, ...], case: _Case) -> float:
    long, *short = found
    errors = [np.abs(long - _exact(case.values, case.firsts, case.lasts)).max()]
    for k, means in enumerate(short):
        starts, widths = case.starts[..., k], case.widths[..., k]
        errors.append(np.abs(means - _exact(case.values, starts, starts + widths)).max())
    return float(max(errors))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    frames=st.integers(1, 80)
    | st.sampled_from([HOW.block - 1, HOW.block, HOW.block + 1, 3 * HOW.block, 3 * HOW.rows]),
    how=st.sampled_from([HOW, IN_PIECES]),
)
def test_means_in_float64_are_exact(seed: int, batch: int, frames: int, how: Restarting) -> None:
    case = _case(seed, batch, frames)
    doubled = (part.double() for part in case[:3])
    found = _Means(how)(*doubled, case.firsts, case.lasts)
    assert _worst(tuple(part.numpy() for part in found), case) < 1e-11


@pytest.fixture(scope="module", params=[HOW, IN_PIECES], ids=["whole", "in pieces"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("sums") / "means.onnx"
    batch = torch.export.Dim("batch", max=8)
    # A loop over one block is another program for torch's exporter, and the same graph.
    frames = torch.export.Dim("frames", min=HOW.block, max=HOUR)
    program = torch.onnx.export(
        _Means(request.param),
        tuple(_case(0, 2, 600)),
        input_names=list(_Case._fields),
        dynamo=True,
        dynamic_shapes=({0: batch, 1: frames},) * 3 + ({0: batch},) * 2,
        verbose=False,
    )
    assert program is not None
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("frames", [250, 6_000, HOUR])
def test_rounding_in_onnx_runtime_stays_below_the_bound_at_any_length(
    session: onnxruntime.InferenceSession, frames: int
) -> None:
    case = _case(1, 1, frames)
    inputs = {name: part.numpy() for name, part in case._asdict().items()}
    bound = (HOW.rows + 3) * UNIT_ROUNDOFF * float(case.values.max())
    worst = _worst(tuple(session.run(None, inputs)), case)
    # Were the rounding not there at all, this would not have been computed in float32.
    assert 1e-7 < worst <= bound


def test_one_sum_in_float32_breaks_the_bound_at_an_hour() -> None:
    values = _case(1, 1, HOUR).values.numpy()[0, :, 0]
    sums = np.add.accumulate(values)
    means = (sums[33:] - sums[:-33]) / 33
    exact = np.convolve(values.astype(np.float64), np.ones(33), "valid")[1:] / 33
    assert np.abs(means - exact).max() > 10 * (HOW.rows + 3) * UNIT_ROUNDOFF * values.max()


def test_edges_in_float32_are_the_integers_of_the_layer_at_an_hour() -> None:
    generator = torch.Generator().manual_seed(0)
    lower = 20 * torch.randn(1, HOUR, 2, 2, generator=generator)
    lower[0, ::7] = lower[0, ::7].round()
    upper = lower + 1 + 31 * torch.rand(lower.shape, generator=generator)
    lengths = torch.tensor([HOUR - 1000])
    frame = torch.arange(HOUR).float()[:, None, None]
    left = (lengths[:, None, None, None] - frame).clamp_min(1)
    starts, ends = relative_windows(lower, upper, -frame, left)
    heard = slice(HOUR - 1000)
    expected = aperiodic_windows(lower, upper, lengths)
    assert torch.equal((starts + frame).long()[:, heard], expected[0][:, heard])
    assert torch.equal((ends + frame).long()[:, heard], expected[1][:, heard])
    # At padding there is still something to look up.
    behind = (ends - starts)[:, HOUR - 1000 :]
    assert int(behind.min()) >= 1


@settings(max_examples=30, deadline=None)
@given(
    period=st.floats(1, 60),
    phase=st.floats(-70, 70),
    duty=st.floats(0, 1),
    frames=st.integers(1, 999),
)
def test_a_tooth_has_the_edges_that_its_frames_give_it(
    period: float, phase: float, duty: float, frames: int
) -> None:
    teeth = Teeth(*(torch.tensor([[x]], dtype=torch.float64) for x in (period, phase, 0.0)))
    teeth = teeth._replace(width=1 + (teeth.period - 1) * duty)
    number = tooth_numbers(teeth.period, teeth.phase, frames)
    own = (number - number[:1]).long()[:, 0, 0]
    assert int(own.max()) < frames // max(1, int(period)) + 2
    counted = number[:1] + torch.arange(int(own.max()) + 1)[:, None, None]
    expected = periodic_windows(*teeth, frames)
    for found, edges in zip(tooth_windows(*teeth, counted), expected, strict=True):
        assert torch.equal(found[own], edges)
