"""Operations whose parameters differ in their floating-point type, let into coremltools.

A program may state a normalisation's mean in float16 and leave its epsilon to the default, which
is saved as float32. Core ML runs it; coremltools, which saved it, refuses to build it again.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["mixed_parameters"]


@contextlib.contextmanager
def mixed_parameters() -> Iterator[None]:
    """While it lasts, a constant may be of another floating-point type than those beside it.

    Every input is still checked alone: against the types that the operation admits, and for being
    a constant where it must be one.
    """
    from coremltools.converters.mil.mil.input_type import InputSpec

    checked = InputSpec.validate_inputs

    def validate(spec: Any, name: str, kind: str, given: Mapping[str, Any]) -> None:
        try:
            checked(spec, name, kind, given)
        except ValueError:
            kinds = {_float_type(value) for value in given.values()} - {None}
            if len(kinds) < 2:
                raise
            for key, value in given.items():
                checked(spec, name, kind, {key: value})

    InputSpec.validate_inputs = validate
    try:
        yield
    finally:
        InputSpec.validate_inputs = checked


def _float_type(value: Any) -> str | None:
    """The type of a constant when it is a floating-point one."""
    from coremltools.converters.mil.mil import types

    operation = getattr(value, "op", None)
    if operation is None or operation.op_type != "const":
        return None
    kind: str = types.builtin_to_string(value.dtype)
    return kind if kind in ("fp16", "fp32") else None
