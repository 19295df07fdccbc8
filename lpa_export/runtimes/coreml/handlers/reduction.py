"""Reductions over axes, and the position of the largest or smallest element."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.accumulation import running, sequential

__all__ = ["TABLE"]

_Reduce = Callable[[Tensor], Tensor]
"""Over the last axis: (..., n) -> (...)."""


def _total(x: Tensor) -> Tensor:
    return x.sum(-1)


def _product(x: Tensor) -> Tensor:
    return x.prod(-1)


def _total_in_float16(x: Tensor) -> Tensor:
    return running(x, -1)[..., -1]


def _product_in_float16(x: Tensor) -> Tensor:
    return running(x, -1, "product")[..., -1]


def _mean(x: Tensor, total: _Reduce) -> Tensor:
    return total(x) / x.shape[-1]


def _norm_1(x: Tensor, total: _Reduce) -> Tensor:
    return total(x.abs())


def _norm_2(x: Tensor, total: _Reduce) -> Tensor:
    return total(x.square()).sqrt()


def _squares(x: Tensor, total: _Reduce) -> Tensor:
    return total(x.square())


def _log_of_sum(x: Tensor, total: _Reduce) -> Tensor:
    return total(x).log()


def _log_of_sum_of_exponentials(x: Tensor, total: _Reduce) -> Tensor:
    """With the largest element taken out first, as an infinite one must not become NaN."""
    largest = x.amax(-1, keepdim=True)
    largest = torch.where(largest.isinf(), 0.0, largest)
    return total((x - largest).exp()).log() + largest.squeeze(-1)


def _over_axes(compute: Callable[[Call, Tensor], Tensor]) -> Handler:
    """A handler that gives ``compute`` the reduced axes as one last axis.

    Whole numbers are computed in float64 (exact for every int32) and cut towards zero.
    """

    def handler(call: Call) -> Tensor:
        x = call.tensor("x")
        axes = sorted(axis % x.dim() for axis in call.integers("axes", list(range(x.dim()))))
        kept = [axis for axis in range(x.dim()) if axis not in axes]
        count = math.prod(x.shape[axis] for axis in axes)
        rows = x.permute(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), count)
        result = compute(call, rows if x.is_floating_point() else rows.double())
        if call.flag("keep_dims", False):
            result = result.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])
        return result if x.is_floating_point() else _whole(result)

    return handler


def _whole(values: Tensor) -> Tensor:
    """To int32 as its arithmetic does it: what is too large wraps around."""
    return values.trunc().to(torch.int64).to(torch.int32)


def _accumulated(reduce: Callable[[Tensor, _Reduce], Tensor]) -> Handler:
    return _over_axes(
        lambda call, rows: reduce(rows, _total_in_float16 if sequential(call) else _total)
    )


def _multiplied(call: Call, rows: Tensor) -> Tensor:
    return _product_in_float16(rows) if sequential(call) else _product(rows)


def _position(find: Callable[..., Tensor]) -> Handler:
    """Of several equal elements the first: Core ML leaves open which."""

    def handler(call: Call) -> Tensor:
        found = find(
            call.tensor("x"), dim=call.integer("axis", -1), keepdim=call.flag("keep_dims", False)
        )
        return found.to(torch.int32)

    return handler


TABLE: dict[str, Handler] = {
    "reduce_argmax": _position(torch.argmax),
    "reduce_argmin": _position(torch.argmin),
    "reduce_l1_norm": _accumulated(_norm_1),
    "reduce_l2_norm": _accumulated(_norm_2),
    "reduce_log_sum": _accumulated(_log_of_sum),
    "reduce_log_sum_exp": _accumulated(_log_of_sum_of_exponentials),
    "reduce_max": _over_axes(lambda call, rows: rows.amax(-1)),
    "reduce_mean": _accumulated(_mean),
    "reduce_min": _over_axes(lambda call, rows: rows.amin(-1)),
    "reduce_prod": _over_axes(_multiplied),
    "reduce_sum": _accumulated(lambda rows, total: total(rows)),
    "reduce_sum_square": _accumulated(_squares),
}
