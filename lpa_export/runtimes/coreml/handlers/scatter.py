"""Elements and slices written at computed positions, alone or combined with what is there.

Positions follow the rules of ``gather``. Where several updates meet in one element they are
combined in their order.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.gather import positions

__all__ = ["TABLE"]

_COMBINE: dict[str, Any] = {
    "add": np.add,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "sub": np.subtract,
}


def _combined(call: Call, places: Tensor) -> Tensor:
    """``data`` with each update put at its place, counted in the flattened data."""
    data, updates = call.tensor("data"), call.tensor("updates")
    flat = data.reshape(-1).double().numpy().copy()
    targets, values = places.reshape(-1).numpy(), updates.reshape(-1).double().numpy()
    mode = call.text("mode", "add")
    if mode == "update":
        flat[targets] = values
    else:
        _COMBINE[mode].at(flat, targets, values)
    result = torch.from_numpy(flat).reshape(data.shape)
    return (result if data.is_floating_point() else result.trunc()).to(data.dtype)


def _scatter(call: Call) -> Tensor:
    """Whole slices along one axis, at positions ``indices`` (C,)."""
    data = call.tensor("data")
    axis = call.integer("axis", 0) % data.dim()
    indices = positions(call, call.tensor("indices"), data.shape[axis])
    return _combined(call, _numbered(data).index_select(axis, indices))


def _scatter_along_axis(call: Call) -> Tensor:
    data, axis = call.tensor("data"), call.integer("axis", 0)
    indices = positions(call, call.tensor("indices"), data.shape[axis])
    return _combined(call, _numbered(data).gather(axis, indices))


def _scatter_nd(call: Call) -> Tensor:
    """Slices at the positions that the last axis of ``indices`` spells out."""
    data, indices = call.tensor("data"), call.tensor("indices")
    columns = [positions(call, indices[..., i], data.shape[i]) for i in range(indices.shape[-1])]
    return _combined(call, _numbered(data)[tuple(columns)])


def _numbered(data: Tensor) -> Tensor:
    """The place of every element in the flattened data, in the shape of the data."""
    return torch.arange(math.prod(data.shape)).reshape(data.shape)


TABLE: dict[str, Handler] = {
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
