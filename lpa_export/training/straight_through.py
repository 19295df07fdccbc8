"""Hard gates in the forward pass, the gradient of the soft ones in the backward pass.

The straight-through estimator (Bengio et al. 2013): the model trains on exactly what it will
compute once hardened, and the thresholds, which have no gradient, take that of their soft twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lpa_export.layers import LPA

__all__ = ["hard_forward"]


@contextmanager
def hard_forward(layers: Iterable[LPA]) -> Iterator[None]:
    """While the block runs, soft `layers` that record gradients give their hard output."""
    handles = [lpa.register_forward_hook(_harden) for lpa in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _harden(lpa: Any, inputs: tuple[Any, ...], soft: Tensor) -> Tensor | None:
    if lpa.hard or not torch.is_grad_enabled():
        return None
    lpa.hard = True
    try:
        with torch.no_grad():
            hard: Tensor = lpa.forward(*inputs)
    finally:
        lpa.hard = False
    # The bracket is exactly zero: the sum is the hard output, bit for bit.
    return hard + (soft - soft.detach())
