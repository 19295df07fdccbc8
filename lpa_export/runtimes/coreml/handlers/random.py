"""Random tensors, from a generator of our own: not the numbers that Apple's would give.

The same program gives the same numbers in every run. Where it states no seed, the name of the
operation takes its place, so that two of them differ.
"""

import zlib

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _generator(call: Call) -> torch.Generator:
    stated = call.integer("seed", -1)
    return torch.Generator().manual_seed(zlib.crc32(call.name.encode()) if stated < 0 else stated)


def _uniform(call: Call) -> Tensor:
    """From ``low`` to ``high``, which is left out."""
    low, high = call.number("low", 0.0), call.number("high", 1.0)
    drawn = torch.rand(call.integers("shape"), generator=_generator(call), dtype=torch.float64)
    return (low + drawn * (high - low)).float()


def _normal(call: Call) -> Tensor:
    drawn = torch.randn(call.integers("shape"), generator=_generator(call), dtype=torch.float64)
    return (call.number("mean", 0.0) + drawn * call.number("stddev", 1.0)).float()


def _bernoulli(call: Call) -> Tensor:
    drawn = torch.rand(call.integers("shape"), generator=_generator(call), dtype=torch.float64)
    return (drawn < call.number("prob", 0.5)).float()


def _categorical(call: Call) -> Tensor:
    """``size`` positions in place of the last axis, drawn with replacement."""
    x = call.tensor("x").double()
    chances = x if call.text("mode", "logits") == "probs" else torch.softmax(x, -1)
    size, rows = call.integer("size", 1), chances.reshape(-1, x.shape[-1])
    drawn = torch.multinomial(rows, size, replacement=True, generator=_generator(call))
    return drawn.reshape(*x.shape[:-1], size).float()


TABLE: dict[str, Handler] = {
    "random_bernoulli": _bernoulli,
    "random_categorical": _categorical,
    "random_normal": _normal,
    "random_uniform": _uniform,
}
