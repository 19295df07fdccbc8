"""Operations on each element alone: arithmetic, comparisons, functions of one value, casts."""

from collections.abc import Callable

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]

_INT32 = torch.iinfo(torch.int32)


def _unary(function: Callable[[Tensor], Tensor]) -> Handler:
    def handler(call: Call) -> Tensor:
        x = call.tensor("x")
        return _like(function(x), x)

    return handler


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    def handler(call: Call) -> Tensor:
        return function(call.tensor("x"), call.tensor("y"))

    return handler


def _stabilised(function: Callable[[Tensor], Tensor], default: float) -> Handler:
    """``function(x + epsilon)``."""

    def handler(call: Call) -> Tensor:
        return function(call.tensor("x") + call.number("epsilon", default))

    return handler


def _like(result: Tensor, x: Tensor) -> Tensor:
    """Whole numbers stay whole numbers, cut towards zero."""
    if x.is_floating_point() or not result.is_floating_point():
        return result
    return result.trunc().to(x.dtype)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    """The quotient; of whole numbers it has the type of its inputs, so it is cut."""
    whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.div(x, y, rounding_mode="trunc" if whole else None)


def _power(x: Tensor, y: Tensor) -> Tensor:
    """x to the y; whole numbers go through float64, which takes negative exponents too."""
    if x.is_floating_point() or y.is_floating_point():
        return torch.pow(x, y)
    return torch.pow(x.double(), y.double()).trunc().to(torch.int32)


def _clip(call: Call) -> Tensor:
    return torch.minimum(torch.maximum(call.tensor("x"), call.tensor("alpha")), call.tensor("beta"))


def _threshold(call: Call) -> Tensor:
    return torch.maximum(call.tensor("x"), call.tensor("alpha"))


def _identity(call: Call) -> Tensor:
    return call.tensor("x")


def _to_float(x: Tensor) -> Tensor:
    return x.float()


def _to_bool(x: Tensor) -> Tensor:
    return x != 0


def _to_integer(x: Tensor) -> Tensor:
    """Fractions are cut towards zero; what int32 cannot hold becomes its nearest bound."""
    if not x.is_floating_point():
        return x.to(torch.int32)
    whole = x.double().nan_to_num(nan=0.0).trunc()
    return whole.clamp(_INT32.min, _INT32.max).to(torch.int32)


def _to_narrow(bits: int, lowest: int) -> Callable[[Tensor], Tensor]:
    """A narrower type, from ``lowest`` on: what it cannot hold wraps around, as in NumPy."""
    return lambda x: (_to_integer(x) - lowest).remainder(1 << bits) + lowest


_CASTS: dict[str, Callable[[Tensor], Tensor]] = {
    "fp16": _to_float,
    "fp32": _to_float,
    "bool": _to_bool,
    "int8": _to_narrow(8, -(1 << 7)),
    "uint8": _to_narrow(8, 0),
    "int16": _to_narrow(16, -(1 << 15)),
    "uint16": _to_narrow(16, 0),
    "int32": _to_integer,
}


def _cast(call: Call) -> Tensor:
    return _CASTS[call.text("dtype")](call.tensor("x"))


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    # The sign of the divisor, as Python's % has it.
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": _power,
    "real_div": _divide,
    "sub": torch.sub,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    # Halves go to the even neighbour.
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
}

TABLE: dict[str, Handler] = {
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{name: _unary(function) for name, function in _UNARY.items()},
    "cast": _cast,
    "clip": _clip,
    "identity": _identity,
    "inverse": _stabilised(torch.reciprocal, 1e-4),
    "log": _stabilised(torch.log, 1e-45),
    "rsqrt": _stabilised(torch.rsqrt, 1e-12),
    "threshold": _threshold,
}
