"""A new layer starts with windows that tile a sensible neighbourhood."""

import torch

from lpa_export.layers import LPA, LPAConfig


def test_first_windows_spread_over_offsets_and_widths() -> None:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(96, 6))
    _, controls, _ = layer.read(torch.zeros(1, 1, 96), None)
    offsets = ((controls.lower + controls.upper) / 2).flatten()
    widths = (controls.upper - controls.lower).flatten()
    torch.testing.assert_close(offsets, torch.linspace(-8, 8, 12), atol=1e-4, rtol=0)
    assert widths.min() > 2.9
    assert widths.max() < 12.1
    assert widths.std() > 2
    assert (controls.amplitudes == 0.5).all()


def test_first_periods_are_geometric_and_centres_uniform() -> None:
    layer = LPA(LPAConfig(96, 6))
    assert layer.periodic is not None
    assert layer.positional is not None
    period = layer.periodic.teeth(torch.float64).period.flatten()
    ratios = period[1:] / period[:-1]
    # The logarithm of a period is a float32.
    torch.testing.assert_close(ratios, ratios[:1].expand(5), rtol=1e-6, atol=0)
    assert period[0] > 8
    assert period[-1] < 64
    shares = layer.positional.shares(torch.float64)
    centres = (shares.lower + shares.upper).flatten() / 2
    torch.testing.assert_close(centres, (torch.arange(6.0).double() + 0.5) / 6, atol=1e-6, rtol=0)


def test_first_content_moves_windows_by_a_few_frames_only() -> None:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(768, 12))
    _, controls, _ = layer.read(torch.randn(1, 200, 768), None)
    moved = ((controls.lower + controls.upper) / 2).std(dim=1)
    assert moved.min() > 0.1
    assert moved.max() < 4


def test_teeth_stay_between_one_frame_and_their_period() -> None:
    layer = LPA(LPAConfig(96, 6))
    assert layer.periodic is not None
    with torch.no_grad():
        layer.periodic.log_period.copy_(torch.linspace(-3, 9, 6)[:, None])
        layer.periodic.duty.copy_(torch.linspace(-90, 90, 6).flip(0)[:, None])
    teeth = layer.periodic.teeth(torch.float64)
    assert teeth.period.min() == 4
    assert teeth.period.max() == 512
    assert (teeth.width >= 1).all()
    assert (teeth.width <= teeth.period).all()
