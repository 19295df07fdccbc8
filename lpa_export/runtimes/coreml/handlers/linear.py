"""Matrix products. Sums are wide (float32), whatever the program rounds to afterwards.

From iOS17 on whole numbers may meet floating-point ones: they are then computed with as such.
"""

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.accumulation import added, tiles

__all__ = ["TABLE"]


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x, y) if x.dtype == y.dtype else (x.float(), y.float())


def _linear(call: Call) -> Tensor:
    x, weight = _alike(call.tensor("x"), call.tensor("weight"))
    bias = call.optional("bias")
    if x.is_floating_point() and not call.tile:
        return functional.linear(x, weight, None if bias is None else bias.float())
    product = _product(call, x, weight.mT)
    return product if bias is None else product + bias


def _matmul(call: Call) -> Tensor:
    x, y = _alike(call.tensor("x"), call.tensor("y"))
    if x.ndim > 1 and call.flag("transpose_x", False):
        x = x.mT
    if y.ndim > 1 and call.flag("transpose_y", False):
        y = y.mT
    return _product(call, x, y)


def _product(call: Call, x: Tensor, y: Tensor) -> Tensor:
    """x by y, in tiles where those are asked for."""
    if not call.tile or not x.shape[-1]:
        return torch.matmul(x, y)
    rows = -2 if y.ndim > 1 else -1
    return added(
        torch.matmul(x[..., part], y.narrow(rows, part.start, x[..., part].shape[-1]))
        for part in tiles(x.shape[-1], call.tile)
    )


def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.text("equation"), *call.tensors("values"))


TABLE: dict[str, Handler] = {"einsum": _einsum, "linear": _linear, "matmul": _matmul}
