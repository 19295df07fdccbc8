"""Window means as one kernel of a GPU, for Metal and for CUDA: off by default.

Never compiled here: there is no GPU. The body is the same C for both, one thread for a value of the
output, and a test runs it on a CPU, as a C compiler makes it. A model that is to use it compares it
first, on the values of its own layers (`Compared`), and keeps the plain form where the kernel does
not build or gives anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from lpa_export.targets.mlx.lpa import Means, Window, gathered

__all__ = ["INPUTS", "TOLERANCE", "Compared", "body", "gpu_kernel", "window_means"]

TOLERANCE = 1e-4
"""How far the kernel may be from the plain form, as a share of a layer's largest value."""

INPUTS = ("table", "starts", "ends", "weights", "sizes")

_THREADS = 256
# A thread's own number, as each language says it.
_NUMBER = {
    "metal": "thread_position_in_grid.x",
    "cuda": "cooperative_groups::this_grid().thread_rank()",
}
_BODY = """
    unsigned int number = {number};
    unsigned int total = sizes[0], frames = sizes[1], rows = sizes[2];
    unsigned int heads = sizes[3], channels = sizes[4], pulses = sizes[5];
    if (number >= total) return;
    unsigned int channel = number % channels, window = number / channels;
    unsigned int head = window % heads, row = window / (heads * frames) * rows;
    float sum = 0.0f;
    for (unsigned int pulse = 0; pulse < pulses; ++pulse) {{
        unsigned int entry = window * pulses + pulse;
        unsigned int first = ((row + starts[entry]) * heads + head) * channels + channel;
        unsigned int last = ((row + ends[entry]) * heads + head) * channels + channel;
        sum += (table[last] - table[first]) * weights[entry];
    }}
    mixed[number] = sum;
"""


def body(number: str) -> str:
    """The kernel's body; `number`: an expression for the thread's own, of `sizes[0]` or more.

    table (B, rows, H, d); starts, ends, weights (B, T, H, K); sizes: of the output, T, rows, H, d,
    K; mixed (B, T, H, d), which it writes.
    """
    return _BODY.format(number=number)


def gpu_kernel() -> Means:
    """For the GPU that MLX has here. Raises RuntimeError where it has none."""
    makers: Mapping[str, tuple[Any, Any]] = {
        "metal": (mx.metal, mx.fast.metal_kernel),
        "cuda": (mx.cuda, mx.fast.cuda_kernel),
    }
    for language, (backend, make) in makers.items():
        if backend.is_available():
            return window_means(
                make(
                    name="lpa_window_means",
                    input_names=list(INPUTS),
                    output_names=["mixed"],
                    source=body(_NUMBER[language]),
                )
            )
    raise RuntimeError("MLX has no GPU here")


def window_means(kernel: Callable[..., Sequence[mx.array]]) -> Means:
    """`gathered` by a kernel as `mx.fast.metal_kernel` gives one."""

    def means(table: mx.array, windows: Sequence[Window]) -> mx.array:
        batch, rows, heads, channels = table.shape
        frames = windows[0].weight.shape[1]
        place = (batch, frames, heads)
        starts, ends, weights = (
            mx.stack([mx.broadcast_to(part, place) for part in parts], axis=-1)
            for parts in zip(*windows, strict=True)
        )
        total = batch * frames * heads * channels
        sizes = mx.array([total, frames, rows, heads, channels, len(windows)], mx.int32)
        (mixed,) = kernel(
            inputs=[table, starts, ends, weights, sizes],
            grid=(total, 1, 1),
            threadgroup=(min(_THREADS, total), 1, 1),
            output_shapes=[(*place, channels)],
            output_dtypes=[mx.float32],
        )
        return mixed

    return means


class Compared:
    """The plain form, which notes how far a kernel is from it on the same values.

    `worst`: over all calls, as a share of a call's largest value; not a number where the kernel's
    is none. Raises what the kernel raises.
    """

    def __init__(self, kernel: Means) -> None:
        self.worst = 0.0
        self._kernel = kernel

    def __call__(self, table: mx.array, windows: Sequence[Window]) -> mx.array:
        plain, found = gathered(table, windows), self._kernel(table, windows)
        if plain.shape != found.shape:
            raise ValueError(f"it gives {found.shape} for {plain.shape}")
        largest = mx.maximum(mx.abs(plain).max(), 1e-30)
        share = float(mx.abs(found - plain).max() / largest)
        # Not max(): it drops what is not a number.
        if not share <= self.worst:
            self.worst = share
        return plain
