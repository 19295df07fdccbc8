"""Activations by table: straight lines between knots, as the Neural Engine is reported to compute.

The tables themselves are not public. Knots lie so far apart that the largest error is the one that
was measured (ane-guide, chapter 3: sigmoid 0.0034, gelu 0.0059, tanh 0.0017): a line between two
points h apart is at most h^2 / 8 times the largest curvature off. For softmax no error is reported:
powers of two have 16 lines between whole exponents.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GELU_ERROR", "SIGMOID_ERROR", "TABLES", "TANH_ERROR", "softmax"]

SIGMOID_ERROR, GELU_ERROR, TANH_ERROR = 0.0034, 0.0059, 0.0017
_LINES_PER_OCTAVE = 16


@dataclass(frozen=True)
class _Table:
    """Values at ``start``, ``start + step``, ...; before and behind, the function's limits."""

    start: float
    step: float
    values: Tensor
    before: Callable[[Tensor], Tensor]
    behind: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        place = (x - self.start) / self.step
        last = len(self.values) - 1
        left = place.nan_to_num().floor().clamp(0, last - 1)
        index = left.long()
        found = torch.lerp(self.values[index], self.values[index + 1], place - left)
        found = torch.where(place < 0, self.before(x), found)
        return torch.where(place > last, self.behind(x), found)


def _table(
    function: Callable[[Tensor], Tensor],
    end: float,
    curvature: float,
    error: float,
    *,
    before: Callable[[Tensor], Tensor],
    behind: Callable[[Tensor], Tensor],
) -> _Table:
    """From -end to end, as coarse as the error allows; a knot at 0 puts it where it is largest."""
    step = math.sqrt(8 * error / curvature)
    count = math.ceil(end / step)
    knots = torch.arange(-count, count + 1, dtype=torch.float64) * step
    return _Table(-count * step, step, function(knots).float(), before, behind)


# The largest second derivatives: of the sigmoid 1 / (6 sqrt 3), of tanh 4 / (3 sqrt 3), of gelu
# twice the density of the normal distribution at 0.
_SIGMOID = _table(
    torch.sigmoid,
    8.0,
    1 / (6 * math.sqrt(3)),
    SIGMOID_ERROR,
    before=torch.zeros_like,
    behind=torch.ones_like,
)
_TANH = _table(
    torch.tanh,
    4.5,
    4 / (3 * math.sqrt(3)),
    TANH_ERROR,
    before=lambda x: torch.full_like(x, -1.0),
    behind=torch.ones_like,
)
_GELU = _table(
    functional.gelu,
    4.5,
    2 / math.sqrt(2 * math.pi),
    GELU_ERROR,
    before=torch.zeros_like,
    behind=lambda x: x,
)

TABLES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _GELU,
    "sigmoid": _SIGMOID,
    "silu": lambda x: x * _SIGMOID(x),
    "tanh": _TANH,
}
"""Operation -> itself by table. What is NaN stays NaN."""


def softmax(x: Tensor, axis: int) -> Tensor:
    """Softmax whose powers come from a table: 2 to the whole part exactly, the rest by lines."""
    exponent = (x - x.amax(axis, keepdim=True)) * math.log2(math.e)
    whole = exponent.floor()
    place = (exponent - whole) * _LINES_PER_OCTAVE
    left = place.nan_to_num().floor().clamp(0, _LINES_PER_OCTAVE - 1)
    low, high = torch.exp2(left / _LINES_PER_OCTAVE), torch.exp2((left + 1) / _LINES_PER_OCTAVE)
    powers = torch.lerp(low, high, place - left) * torch.exp2(whole)
    powers = torch.where(exponent.isneginf(), 0.0, powers)
    return powers / powers.sum(axis, keepdim=True)
