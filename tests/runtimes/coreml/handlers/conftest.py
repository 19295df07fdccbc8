"""One operation at a time: through our handler, and through coremltools' own constant folding."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.runtimes.coreml.call import Call, Handler

MODULES = (
    "activation blocks creation elementwise gather padding pooling recurrent reduction resize "
    "sampling scan scatter select shape slicing"
).split()

Compute = Callable[..., Any]


@pytest.fixture(scope="session")
def handlers() -> dict[str, Handler]:
    """All operations of the modules that these tests are about."""
    table: dict[str, Handler] = {}
    for name in MODULES:
        table |= import_module(f"lpa_export.runtimes.coreml.handlers.{name}").TABLE
    return table


@pytest.fixture(scope="session")
def compute(handlers: dict[str, Handler]) -> Compute:
    """``compute(op, x=..., axis=...)``: NumPy in, NumPy out, as the engine would call it.

    ``declared`` is the type of the output; ``sequential`` asks for sums in float16.
    """

    def run(
        op: str, *, declared: torch.dtype | None = None, sequential: bool = False, **inputs: Any
    ) -> Any:
        given = {name: _given(value) for name, value in inputs.items() if value is not None}
        call = Call(
            op, op, given, (declared or torch.float32,), sequential, declared is torch.float16
        )
        result = handlers[op](call)
        return result.numpy() if isinstance(result, torch.Tensor) else [r.numpy() for r in result]

    return run


@pytest.fixture(scope="session")
def folded() -> Compute:
    """``folded(op, x=..., axis=...)``: what coremltools computes where all inputs are constant."""
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function

    def run(op: str, *, target: str = "iOS15", **inputs: Any) -> Any:
        with np.errstate(all="ignore"), Function({}, opset_version=coremltools.target[target]):
            result = getattr(Builder, op)(**inputs)
        if isinstance(result, list | tuple):
            return [one.val for one in result]
        assert result.val is not None, "coremltools does not fold this operation"
        return result.val

    return run


def _given(value: Any) -> Any:
    """As a handler is given it: floats in float32, whole numbers in int32."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return [_given(item) for item in value]
    array = np.asarray(value)
    if array.dtype == np.bool_:
        return torch.tensor(array)
    kind = torch.float32 if np.issubdtype(array.dtype, np.floating) else torch.int32
    return torch.tensor(array, dtype=kind)
