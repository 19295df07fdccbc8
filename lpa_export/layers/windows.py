"""Integer windows: which frames a hard pulse covers.

A window is a pair (start, end) of frame numbers, covering start <= s < end. Frame s covers the
time [s, s + 1), so it is inside the continuous window [a, b) iff a <= s + 1/2 < b: start is
ceil(a - 1/2), end is ceil(b - 1/2). A window is then clipped into the n valid frames of its
utterance, at least one frame wide.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def clip_windows(starts: Tensor, ends: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Clip starts to [0, n - 1] and ends to [start + 1, n]; int64, broadcast against lengths.

    An utterance without valid frames keeps the window (0, 1), so that an index stays in range.
    """
    starts = torch.minimum(starts, lengths - 1).clamp_min(0)
    return starts, torch.maximum(torch.minimum(ends, lengths), starts + 1)


def aperiodic_windows(lower: Tensor, upper: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Windows of content-dependent pulses.

    lower, upper: (B, T, H, K), edges relative to the centre of frame t, in frames.
    lengths: (B,) int64. Returns starts, ends (B, T, H, K), int64.

    Rounding is on the relative edge: ceil(t + x) = t + ceil(x) is exact at any t, while t + x in
    float32 loses a thousandth of a frame at 6,000 frames.
    """
    frame = torch.arange(lower.shape[1], device=lower.device)[None, :, None, None]
    starts = frame + lower.ceil().long()
    ends = frame + upper.ceil().long()
    return clip_windows(starts, ends, lengths[:, None, None, None])


def periodic_windows(
    period: Tensor, phase: Tensor, width: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """The tooth of each frame's own period, not yet clipped to an utterance.

    period, phase, width: (H, K) in frames, float64 for runtimes to agree on every edge.
    Returns starts, ends (T, H, K), int64.
    """
    return tooth_windows(period, phase, width, tooth_numbers(period, phase, frames))


def tooth_numbers(period: Tensor, phase: Tensor, frames: int) -> Tensor:
    """The number of the tooth that each frame uses, (T, H, K), whole numbers in the dtype given.

    period, phase: (H, K), float64. Tooth 0 begins at the phase: frame 0 may use another one.
    """
    frame = torch.arange(frames, device=period.device).to(period.dtype)
    return torch.floor((frame[:, None, None] + 0.5 - phase) / period)


def tooth_windows(
    period: Tensor, phase: Tensor, width: Tensor, number: Tensor
) -> tuple[Tensor, Tensor]:
    """Starts, ends of teeth by their number (J, H, K), int64, not clipped.

    One sum and one product, so that a tooth has the same edges whoever asks for it.
    """
    lower = phase + number * period
    return (lower - 0.5).ceil().long(), (lower + width - 0.5).ceil().long()


def positional_windows(lower: Tensor, upper: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Basis windows of utterances of n frames.

    lower, upper: (H, K), edges as a share of the utterance, float64; lengths: (B,) int64.
    Returns starts, ends (B, H, K), int64.
    """
    length = lengths[:, None, None]
    starts = (lower * length - 0.5).ceil().long()
    ends = (upper * length - 0.5).ceil().long()
    return clip_windows(starts, ends, length)


def window_mask(starts: Tensor, ends: Tensor, frames: int) -> Tensor:
    """Bool masks (..., T) of windows (...): True where start <= s < end."""
    frame = torch.arange(frames, device=starts.device)
    return (frame >= starts[..., None]) & (frame < ends[..., None])


def periodic_masks(
    period: Tensor, phase: Tensor, width: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """Periodic windows of a fixed T as 0/1 masks, for storage at export.

    period, phase, width: (H, K), float64. Returns teeth (H, K, J, T), the frames of each tooth,
    and members (H, K, T, J), the tooth of each frame; both float64, J the largest number of teeth.
    An utterance of n < T frames needs no other masks: the tooth of a valid frame begins at or
    before it, so that leaving the padding out of the sums is the whole clip.
    """
    starts, ends = (
        edges.permute(1, 2, 0)
        for edges in clip_windows(
            *periodic_windows(period, phase, width, frames), torch.tensor(frames)
        )
    )
    moved = (starts.diff(dim=-1) != 0) | (ends.diff(dim=-1) != 0)
    tooth = torch.nn.functional.pad(moved.long().cumsum(-1), (1, 0))
    members = torch.nn.functional.one_hot(tooth)
    first_frame = members.argmax(dim=-2)
    teeth = window_mask(starts.gather(-1, first_frame), ends.gather(-1, first_frame), frames)
    return teeth.double(), members.double()


def masks_by_pulse(teeth: Sequence[Tensor] | None, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`periodic_masks` of one pulse after another: none has more rows than its own teeth need.

    teeth: period, phase and width (H, K) each, None for no pulse.
    """
    pulses = zip(*(part.split(1, dim=1) for part in teeth or ()), strict=True)
    for period, phase, width in pulses:
        yield periodic_masks(period, phase, width, frames)


def positional_steps(lower: Tensor, upper: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Tables that give the positional windows of any n <= T by a matmul with the padding mask.

    lower, upper: (H, K) shares, float64. Returns the steps of starts and ends, each (T, H * K),
    float64: `valid @ steps` sums the first n rows, which telescopes to the edge at length n. All
    numbers are integers, so no runtime can round an edge another way.
    """
    lengths = torch.arange(1, frames + 1)
    starts, ends = positional_windows(lower, upper, lengths)
    zero = torch.zeros(1, lower.numel(), dtype=torch.int64)
    return (
        starts.flatten(1).diff(dim=0, prepend=zero).double(),
        ends.flatten(1).diff(dim=0, prepend=zero).double(),
    )
