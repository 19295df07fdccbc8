"""A flexible function at one size: so that its multiply-accumulates can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lpa_export.environment import quiet

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function

__all__ = ["with_shapes"]

_FIXED = "fixed"


def with_shapes(function: Function, shapes: Mapping[str, tuple[int, ...]]) -> Function | None:
    """``function`` with these shapes for its flexible inputs; itself stays as it is.

    None when its operations do not take them.
    """
    with quiet():
        from coremltools.converters.mil.mil import Program
        from coremltools.converters.mil.mil.passes.defs.symbol_transform import (
            materialize_symbolic_shape_program,
        )

        program = Program()
        program.add_function("main", function)
        # One of our own: the registry's keeps its options for whoever converts next.
        fixing = materialize_symbolic_shape_program()
        fixing.function_name_to_materialization_map = {_FIXED: dict(shapes)}
        try:
            fixing.apply(program)
        except MemoryError:
            raise
        except Exception:  # type inference of the ops raises ValueError, AssertionError and others
            return None
    fixed: Function = program.functions[_FIXED]
    return fixed
