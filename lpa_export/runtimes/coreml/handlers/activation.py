"""Activations: elementwise functions of one tensor, some with parameters."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.tables import TABLES
from lpa_export.runtimes.coreml.handlers.tables import softmax as softmax_by_table

__all__ = ["TABLE"]


def _plain(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda call: function(call.tensor("x"))


def _tabled(function: Callable[[Tensor], Tensor]) -> Handler:
    """``function``, or the table of the operation where those are asked for."""

    def handler(call: Call) -> Tensor:
        return (TABLES[call.op_type] if call.tables else function)(call.tensor("x"))

    return handler


def _with_alpha(function: Callable[[Tensor, float], Tensor]) -> Handler:
    return lambda call: function(call.tensor("x"), call.number("alpha"))


def _with_alpha_and_beta(function: Callable[[Tensor, float, float], Tensor]) -> Handler:
    return lambda call: function(call.tensor("x"), call.number("alpha"), call.number("beta"))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values (channels,) in a shape that goes with ``x`` (batch, channels, ...)."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _prelu(call: Call) -> Tensor:
    x = call.tensor("x")
    return torch.where(x > 0, x, x * _per_channel(call.tensor("alpha"), x))


def _softplus_parametric(call: Call) -> Tensor:
    x = call.tensor("x")
    alpha, beta = (_per_channel(call.tensor(name), x) for name in ("alpha", "beta"))
    return alpha * functional.softplus(beta * x)


_GELU: dict[str, Callable[[Tensor], Tensor]] = {
    "EXACT": functional.gelu,
    "TANH_APPROXIMATION": lambda x: functional.gelu(x, approximate="tanh"),
    "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
}


def _gelu(call: Call) -> Tensor:
    if call.tables:
        return TABLES["gelu"](call.tensor("x"))
    return _GELU[call.text("mode", "EXACT")](call.tensor("x"))


def _softmax(call: Call) -> Tensor:
    computed = softmax_by_table if call.tables else torch.softmax
    return computed(call.tensor("x"), call.integer("axis", -1))


def _clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


TABLE: dict[str, Handler] = {
    "clamped_relu": _with_alpha_and_beta(_clamped_relu),
    "elu": _with_alpha(functional.elu),
    "gelu": _gelu,
    "leaky_relu": _with_alpha(functional.leaky_relu),
    "linear_activation": _with_alpha_and_beta(lambda x, alpha, beta: alpha * x + beta),
    "prelu": _prelu,
    "relu": _plain(torch.relu),
    "relu6": _plain(functional.relu6),
    "scaled_tanh": _with_alpha_and_beta(lambda x, alpha, beta: alpha * torch.tanh(beta * x)),
    "sigmoid": _tabled(torch.sigmoid),
    "sigmoid_hard": _with_alpha_and_beta(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1)),
    "silu": _tabled(functional.silu),
    "softmax": _softmax,
    "softplus": _plain(functional.softplus),
    "softplus_parametric": _softplus_parametric,
    "softsign": _plain(functional.softsign),
    "tanh": _tabled(torch.tanh),
    "thresholded_relu": _with_alpha(lambda x, alpha: torch.where(x >= alpha, x, 0.0)),
}
