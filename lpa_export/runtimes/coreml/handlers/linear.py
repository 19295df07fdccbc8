"""Matrix products. Sums are wide (float32), whatever the program rounds to afterwards.

From iOS17 on whole numbers may meet floating-point ones: they are then computed with as such.
"""

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x, y) if x.dtype == y.dtype else (x.float(), y.float())


def _linear(call: Call) -> Tensor:
    x, weight = _alike(call.tensor("x"), call.tensor("weight"))
    bias = call.optional("bias")
    if x.is_floating_point():
        return functional.linear(x, weight, None if bias is None else bias.float())
    product = torch.matmul(x, weight.mT)
    return product if bias is None else product + bias


def _matmul(call: Call) -> Tensor:
    x, y = _alike(call.tensor("x"), call.tensor("y"))
    if x.ndim > 1 and call.flag("transpose_x", False):
        x = x.mT
    if y.ndim > 1 and call.flag("transpose_y", False):
        y = y.mT
    return torch.matmul(x, y)


def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.text("equation"), *call.tensors("values"))


TABLE: dict[str, Handler] = {"einsum": _einsum, "linear": _linear, "matmul": _matmul}
