"""The soft gates' forms agree with plain dense gates over all frames, in float64."""

import pytest
import torch

from lpa_export.layers import LPA, LPAConfig, soft


def _values(frames: int, lengths: list[int], heads: int = 2, size: int = 3) -> torch.Tensor:
    """(B, H, T, d + 1), zero at padding, the last channel 1 at valid frames."""
    generator = torch.Generator().manual_seed(frames)
    shape = len(lengths), heads, frames, size
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    present = torch.arange(frames)[None, :] < torch.tensor(lengths)[:, None]
    weighted = torch.cat([values, torch.ones(*shape[:3], 1, dtype=torch.float64)], dim=-1)
    return (weighted * present[:, None, :, None]).requires_grad_()


def _dense_means(values: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Means (B, H, K, T, d) under gates (B or 1, H, K, T, S), by one einsum."""
    sums = torch.einsum("bhkts,bhsc->bhktc", gates.expand(len(values), -1, -1, -1, -1), values)
    # Only at padding there may be no weight at all.
    return sums[..., :-1] / sums[..., -1:].clamp_min(1e-9)


def _agree(
    ours: torch.Tensor, theirs: torch.Tensor, inputs: list[torch.Tensor], valid: torch.Tensor
) -> None:
    """Values and gradients of the frames (B, T) that are valid."""
    keep = valid[:, None, None, :, None]
    torch.testing.assert_close(ours * keep, theirs * keep, rtol=1e-9, atol=1e-10)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view_as(ours) * keep
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    expected = torch.autograd.grad((theirs * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("frames", [5, 64, 65, 150, 400])
def test_band_blocks_are_dense_gates_inside_the_band(frames: int) -> None:
    lengths = [frames, max(3, frames * 2 // 3)]
    values, band, temperature = _values(frames, lengths), 20, 0.7
    generator = torch.Generator().manual_seed(1)
    offsets = 12 * torch.rand(2, 2, 3, frames, generator=generator, dtype=torch.float64) - 6
    widths = 1 + 8 * torch.rand(2, 2, 3, frames, generator=generator, dtype=torch.float64)
    frame = torch.arange(frames, dtype=torch.float64)
    edges = soft.clip_edges(
        offsets - widths / 2,
        offsets + widths / 2,
        torch.tensor(lengths)[:, None, None, None].double(),
        origin=frame + 0.5,
    )
    lower, upper = (edge.detach().requires_grad_() for edge in edges)

    distance = frame[None, :] - frame[:, None]
    gates = torch.sigmoid((distance - lower[..., None]) / temperature) * torch.sigmoid(
        (upper[..., None] - distance) / temperature
    )
    dense = _dense_means(values, gates * (distance.abs() <= band))
    ours = soft.aperiodic_means(values, lower, upper, temperature=temperature, band=band)
    valid = frame < torch.tensor(lengths)[:, None]
    _agree(ours, dense, [values, lower, upper], valid)


@pytest.mark.parametrize("dense_frames", [0, 10**9], ids=["near", "dense"])
@pytest.mark.parametrize("temperature", [2.0, 0.1])
@pytest.mark.parametrize("frames", [3, 90, 700])
def test_either_form_of_the_teeth_is_dense_gates_over_all_frames(
    frames: int, temperature: float, dense_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft, "DENSE_FRAMES", dense_frames)
    lengths = [frames, max(2, frames // 2)]
    values = _values(frames, lengths)
    period = torch.tensor([[4.0, 31.3], [512.0, 7.7]], dtype=torch.float64).requires_grad_()
    phase = torch.tensor([[-9.6, 80.2], [200.0, 3.3]], dtype=torch.float64).requires_grad_()
    width = torch.tensor([[1.0, 12.5], [300.0, 7.7]], dtype=torch.float64).requires_grad_()

    centres = torch.arange(frames, dtype=torch.float64) + 0.5
    tooth = ((centres - phase.detach()[..., None]) / period.detach()[..., None]).floor()
    lower = (phase[..., None] + tooth * period[..., None])[..., None]
    upper = (lower + width[..., None, None]).clamp_min(1.0)
    gates = torch.sigmoid((centres - lower) / temperature)
    gates = gates * torch.sigmoid((upper - centres) / temperature)
    ours = soft.periodic_means(values, period, phase, width, temperature=temperature)
    valid = centres < torch.tensor(lengths)[:, None]
    _agree(ours, _dense_means(values, gates[None]), [values, period, phase, width], valid)


def test_long_clips_do_not_cost_the_square_of_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The elements of all tensors that a forward and backward pass makes grow with the length."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counted(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor) and not func.is_view:
                    self.elements += tensor.numel()
            return out

    torch.manual_seed(0)
    layer = LPA(LPAConfig(hidden_size=8, num_heads=2))

    def elements(frames: int) -> int:
        with Counted() as counted:
            layer(torch.randn(1, frames, 8)).sum().backward()
        return counted.elements

    doubled = elements(8000) / elements(4000)
    assert doubled < 2.2
    monkeypatch.setattr(soft, "DENSE_FRAMES", 10**9)
    assert elements(8000) / elements(4000) > 2.5


def test_the_means_of_a_long_clip_do_not_depend_on_the_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer, hidden = LPA(LPAConfig(hidden_size=8, num_heads=2)), torch.randn(1, 900, 8)
    assert soft.DENSE_FRAMES < 900
    for temperature in (2.0, 0.3):
        layer.temperature = temperature
        near = layer(hidden)
        monkeypatch.setattr(soft, "DENSE_FRAMES", 10**9)
        dense = layer(hidden)
        monkeypatch.undo()
        torch.testing.assert_close(near, dense, rtol=0, atol=2e-6)
