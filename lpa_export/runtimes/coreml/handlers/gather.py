"""Elements and slices taken at computed positions.

Negative positions count from the end, as they do before iOS17. From iOS17 on they are undefined
but where ``validate_indices`` asks for them to be refused. Positions outside the tensor always
raise IndexError: what a device reads there is undefined.
"""

import math

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE", "positions", "wrapped"]


def positions(call: Call, indices: Tensor, size: int) -> Tensor:
    """As ``wrapped``; where the program wants them validated, negative ones raise too."""
    if call.flag("validate_indices", False) and bool((indices < 0).any()):
        raise IndexError(f"index {int(indices[indices < 0][0])} is negative")
    return wrapped(indices, size)


def wrapped(indices: Tensor, size: int) -> Tensor:
    """Positions in 0..size-1. Raises IndexError when one is outside the axis."""
    indices = indices.long()
    outside = (indices < -size) | (indices >= size)
    if bool(outside.any()):
        raise IndexError(f"index {int(indices[outside][0])} is outside an axis of {size}")
    return torch.where(indices < 0, indices + size, indices)


def _gather(call: Call) -> Tensor:
    """Slices of ``x`` along one axis; the first ``batch_dims`` axes of both go together."""
    x, indices = call.tensor("x"), call.tensor("indices")
    axis, batch_dims = call.integer("axis", 0) % x.dim(), call.integer("batch_dims", 0)
    batch = math.prod(x.shape[:batch_dims])
    places = positions(call, indices, x.shape[axis]).reshape(batch, -1)
    rows = x.reshape(batch, *x.shape[batch_dims:]).movedim(axis - batch_dims + 1, 1)
    taken = rows[torch.arange(batch)[:, None], places].movedim(1, axis - batch_dims + 1)
    return taken.reshape(x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1 :])


def _gather_along_axis(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 0)
    return x.gather(axis, positions(call, call.tensor("indices"), x.shape[axis]))


def _gather_nd(call: Call) -> Tensor:
    """Slices of ``x`` at the positions that the last axis of ``indices`` spells out."""
    x, indices = call.tensor("x"), call.tensor("indices")
    batch_dims, depth = call.integer("batch_dims", 0), indices.shape[-1]
    batch = math.prod(x.shape[:batch_dims])
    places = indices.reshape(batch, -1, depth)
    sizes = x.shape[batch_dims : batch_dims + depth]
    columns = [positions(call, places[..., i], size) for i, size in enumerate(sizes)]
    taken = x.reshape(batch, *x.shape[batch_dims:])[(torch.arange(batch)[:, None], *columns)]
    return taken.reshape(indices.shape[:-1] + x.shape[batch_dims + depth :])


TABLE: dict[str, Handler] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
}
