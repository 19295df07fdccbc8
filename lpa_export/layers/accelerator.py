"""The hard mixture for an accelerator: sums that start anew, in float32, and one fused kernel.

`hard_mix` is written to be exported and to be exact: one cumulative sum in float64 along an outer
axis, which a GPU is slow at, and a tensor for every step. Here the sums run along the innermost
axis in blocks (`block_sums`).

Where Triton is installed, edges, window means and amplitudes are one kernel (`fused_kernels`);
elsewhere the same in plain torch. Nothing here waits for the device.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor

from lpa_export.layers.block_sums import BLOCK, BlockSums, block_sums
from lpa_export.layers.controls import Controls
from lpa_export.layers.fixed_pulses import Shares, Teeth
from lpa_export.layers.windows import (
    aperiodic_windows,
    clip_windows,
    periodic_windows,
    positional_windows,
    window_mask,
)

__all__ = ["accelerated_mix"]


def accelerated_mix(
    values: Tensor,
    controls: Controls,
    lengths: Tensor,
    *,
    teeth: Teeth | None,
    shares: Shares | None,
    fused: bool | None = None,
) -> Tensor:
    """Mixture (B, T, H, d) of values (B, T, H, d) that are zero at padding, as `hard_mix` gives it.

    lengths: (B,) int64; teeth and shares: float64, None where a family has no pulse. `fused`: by
    Triton's kernels; None: where they can run. Sums are float32 whatever the dtype of values.
    """
    if fused is None:
        fused = values.is_cuda and find_spec("triton") is not None
    if fused:
        from lpa_export.layers.fused_kernels import mix_local, scan_blocks
    else:
        mix_local, scan_blocks = _mix_local, block_sums
    sums = scan_blocks(values)
    frames = values.shape[1]
    aperiodic = controls.lower.shape[-1]
    local = aperiodic + (0 if teeth is None else teeth.period.shape[-1])
    fixed = None if teeth is None else periodic_windows(*teeth, frames=frames)
    mixed = mix_local(sums, controls, lengths, fixed)
    if shares is not None:
        starts, ends = positional_windows(shares.lower, shares.upper, lengths)
        means = _means(sums, starts, ends)[:, :, None]
        gates = window_mask(starts, ends, frames).permute(0, 1, 3, 2)
        weights = controls.amplitudes[..., local:].float().transpose(1, 2) * gates
        mixed = mixed + (weights[..., None] * means).sum(3)
    return mixed.transpose(1, 2).to(values.dtype)


def _mix_local(
    sums: BlockSums,
    controls: Controls,
    lengths: Tensor,
    fixed: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Part (B, H, T, d) of the aperiodic and the periodic pulses, float32.

    fixed: starts and ends (T, H, K_p) of the teeth, not yet clipped to an utterance.
    """
    batch, frames, heads, aperiodic = controls.lower.shape
    windows = []
    if aperiodic:
        windows.append(aperiodic_windows(controls.lower, controls.upper, lengths))
    if fixed is not None:
        windows.append(clip_windows(*fixed, lengths[:, None, None, None]))
    mixed = sums.local.new_zeros(batch, heads, frames, sums.local.shape[-1])
    edges = [
        pair
        for starts, ends in windows
        for pair in zip(starts.unbind(-1), ends.unbind(-1), strict=True)
    ]
    # A pulse at a time: all of them side by side would be K times the hidden state.
    for (start, end), amplitude in zip(edges, controls.amplitudes.unbind(-1), strict=False):
        means = _means(sums, start.transpose(1, 2), end.transpose(1, 2))
        mixed = mixed + amplitude.float().transpose(1, 2)[..., None] * means
    return mixed


def _means(sums: BlockSums, starts: Tensor, ends: Tensor) -> Tensor:
    """Means (B, H, Q, d) of windows (B, H, Q), int64, start < end."""

    def between(table: Tensor, first: Tensor, last: Tensor) -> Tensor:
        first, last = (
            index[..., None].expand(*index.shape, table.shape[-1]) for index in (first, last)
        )
        return table.gather(2, last) - table.gather(2, first)

    blocks = starts // BLOCK, ends // BLOCK
    total = between(sums.local, starts, ends) + (
        between(sums.high, *blocks) + between(sums.low, *blocks)
    )
    return total / (ends - starts)[..., None]
