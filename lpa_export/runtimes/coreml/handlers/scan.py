"""Operations along one axis that keep its order: running sums, sorting, the k largest."""

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.accumulation import running, sequential

__all__ = ["TABLE"]


def _cumsum(call: Call) -> Tensor:
    """Inclusive or exclusive (the element itself left out), from either end."""
    x, axis = call.tensor("x"), call.integer("axis", 0)
    backwards = call.flag("reverse", False)
    ordered = x.flip(axis) if backwards else x
    sums = running(ordered, axis) if sequential(call) else ordered.cumsum(axis)
    if call.flag("exclusive", False):
        first = torch.zeros_like(sums.narrow(axis, 0, 1))
        sums = torch.cat([first, sums.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return (sums.flip(axis) if backwards else sums).to(x.dtype)


def _sorted(call: Call) -> tuple[Tensor, Tensor]:
    """Values and positions; equal elements keep their order."""
    values, positions = torch.sort(
        call.tensor("x"),
        dim=call.integer("axis", -1),
        descending=not call.flag("ascending", False),
        stable=True,
    )
    return values, positions.to(torch.int32)


def _argsort(call: Call) -> Tensor:
    return _sorted(call)[1]


def _topk(call: Call) -> Tensor | tuple[Tensor, ...]:
    """The first k in sorted order (all when k is -1), whether or not order is asked for."""
    axis, k = call.integer("axis", -1), call.integer("k", 1)
    count = call.tensor("x").shape[axis] if k == -1 else k
    values, positions = (found.narrow(axis, 0, count) for found in _sorted(call))
    return (values, positions) if call.flag("return_indices", True) else values


TABLE: dict[str, Handler] = {"argsort": _argsort, "cumsum": _cumsum, "topk": _topk}
