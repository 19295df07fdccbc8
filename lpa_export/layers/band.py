"""Hard aperiodic windows as 0/1 masks over a local band: no cumulative sum, no gather.

For runtimes that delegate neither. A query block of Q frames sees the Q + 2L keys of its band.
Edges are compared with a stored ramp of offsets s - t. All numbers in the comparison are small
integers, so the mask is exact in float16 too, and it is written as a clamp: comparisons that give
booleans are delegated by fewer runtimes than minimum and clamp.
"""

import torch
from torch import Tensor


def band_offsets(band: int, block: int) -> Tensor:
    """Offsets s - t of a block's queries (rows) and keys (columns), (Q, Q + 2L), int64."""
    return torch.arange(block + 2 * band) - band - torch.arange(block)[:, None]


def relative_windows(
    lower: Tensor, upper: Tensor, first: Tensor, left: Tensor
) -> tuple[Tensor, Tensor]:
    """Clipped windows relative to their own frame, integers in the float dtype of the edges.

    lower, upper: (B, H, T, K), edges relative to the centre of frame t. first: (T, 1), max(-t, -L),
    the offset of frame 0 (all that lies beyond the band is alike). left: (B, 1, T, 1), n - t.
    Returns starts, ends (B, H, T, K): the same windows as `windows.aperiodic_windows` minus t.
    """
    starts = torch.minimum(torch.maximum(lower.ceil(), first), left - 1)
    return starts, torch.maximum(torch.minimum(upper.ceil(), left), starts + 1)


def inside(ramp: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """1 where start <= ramp < end, else 0; integers in a float dtype, broadcast."""
    return torch.minimum(ramp - (starts - 1), ends - ramp).clamp(0, 1)


def band_mix(
    values: Tensor, starts: Tensor, ends: Tensor, amplitudes: Tensor, offsets: Tensor
) -> Tensor:
    """Sum over pulses of amplitude times window mean, (B, H, T, d).

    values: (B, H, T, d), zero at padding; starts, ends: (B, H, T, K) of `relative_windows`;
    amplitudes: (B, H, T, K); offsets: (Q, Q + 2L) of `band_offsets`, in the dtype of values.
    One matmul per block: the pulses of a head share it, their masks weighted and added.
    """
    frames = values.shape[2]
    block = offsets.shape[0]
    band = (offsets.shape[1] - block) // 2
    weights = amplitudes / (ends - starts)
    mixed = []
    for begin in range(0, frames, block):
        stop = min(begin + block, frames)
        low, high = max(0, begin - band), min(frames, stop + band)
        ramp = offsets[: stop - begin, low - begin + band : high - begin + band]
        rows = slice(begin, stop)
        # A slice of one pulse keeps its axis, which the keys then fill: no gather, no transpose.
        pulses = [slice(k, k + 1) for k in range(weights.shape[3])]
        terms = [
            weights[:, :, rows, k] * inside(ramp, starts[:, :, rows, k], ends[:, :, rows, k])
            for k in pulses
        ]
        mixed.append(sum(terms[1:], terms[0]) @ values[:, :, low:high])
    return torch.cat(mixed, dim=2)
