"""A function of a program made ready to run: its steps in order, and what each one may free."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lpa_export.runtimes.coreml.call import Handler
from lpa_export.runtimes.coreml.errors import UnsupportedOp
from lpa_export.runtimes.coreml.handlers.unsupported import UNSUPPORTED

__all__ = ["CONTROL", "Plan", "Step", "declared", "is_constant", "plan_block"]

CONTROL = frozenset({"cond", "while_loop", "read_state", "coreml_update_state"})
"""Operations that need the run itself, not their inputs alone."""

# What the program declares, for the sake of rounding; sub-byte integers are only stored so.
_TYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.uint16,
    "int32": torch.int32,
}

_OPSET = re.compile(r"\.iOS(\d+)\.")


# Constants that say where something lies, not what is computed with: float32 to the end.
_PLACES = frozenset(
    "boxes coordinates scale_factor_height scale_factor_width spatial_scale".split()
)


@dataclass(frozen=True)
class Step:
    """One operation: how it is computed, from what, and which values end with it.

    ``arguments``, ``outputs`` and ``ends`` hold variables of coremltools (identity is what
    tells them apart). ``handler`` is None for the operations in CONTROL. ``narrowed`` names the
    arguments that are float32 constants of an operation in float16: an epsilon of 1e-8 is zero
    there.
    """

    op_type: str
    name: str
    opset: int
    handler: Handler | None
    arguments: Mapping[str, Any]
    outputs: tuple[Any, ...]
    types: tuple[torch.dtype, ...]
    blocks: tuple["Plan", ...]
    ends: tuple[Any, ...]
    narrowed: frozenset[str]

    @property
    def output(self) -> str:
        """The name of the first value it puts out."""
        return str(self.outputs[0].name) if self.outputs else self.name


@dataclass(frozen=True)
class Plan:
    """A block: the values it is given, its steps, the values it puts out."""

    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Any, ...]


def plan_block(block: Any, handlers: Mapping[str, Handler], function: str) -> Plan:
    """The steps of a block or function of coremltools, constants left out.

    Raises UnsupportedOp for the first operation that no handler computes.
    """
    operations = [operation for operation in block.operations if not _folded(operation)]
    outputs = tuple(block.outputs)
    given = block.inputs.values() if isinstance(block.inputs, Mapping) else block.inputs
    inputs = tuple(given)
    needed = set(outputs)
    own = {value for operation in operations for value in operation.outputs} | set(inputs)
    steps: list[Step] = []
    for operation in reversed(operations):
        touched = set(_used(operation)) | set(operation.outputs)
        ends = tuple((touched - needed) & own)
        needed |= touched
        steps.append(_step(operation, ends, handlers, function))
    return Plan(inputs, tuple(reversed(steps)), outputs)


def is_constant(value: Any) -> bool:
    """Whether a variable is known without running: a constant, plain or compressed."""
    return value.op is not None and _folded(value.op)


def _folded(operation: Any) -> bool:
    kind: str = operation.op_type
    return kind == "const" or kind.startswith("constexpr_")


def _step(
    operation: Any, ends: tuple[Any, ...], handlers: Mapping[str, Handler], function: str
) -> Step:
    kind: str = operation.op_type
    outputs = tuple(operation.outputs)
    if kind not in handlers and kind not in CONTROL:
        names = ", ".join(value.name for value in outputs)
        reason = UNSUPPORTED.get(kind, "no rule to compute it")
        raise UnsupportedOp(
            f"function {function}: {kind} (operation {operation.name}, output {names}) cannot be "
            f"computed: {reason}"
        )
    opset = _OPSET.search(type(operation).__module__)
    arguments, types = dict(_arguments(operation)), tuple(map(declared, outputs))
    return Step(
        kind,
        operation.name,
        int(opset[1]) if opset else 18,
        handlers.get(kind),
        arguments,
        outputs,
        types,
        tuple(plan_block(block, handlers, function) for block in operation.blocks),
        ends,
        frozenset(_narrowed(arguments)) if torch.float16 in types else frozenset(),
    )


def _narrowed(arguments: Mapping[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        single = name not in _PLACES and not isinstance(value, tuple)
        if single and is_constant(value) and declared(value) is torch.float32:
            yield name


def _arguments(operation: Any) -> Iterator[tuple[str, Any]]:
    for name, value in operation.inputs.items():
        if isinstance(value, list | tuple):
            yield name, tuple(value)
        elif value is not None and not name.startswith("_"):
            yield name, value


def _used(operation: Any) -> Iterator[Any]:
    """Every variable that an operation or a block inside it reads."""
    for _, value in _arguments(operation):
        yield from value if isinstance(value, tuple) else (value,)
    for block in operation.blocks:
        yield from _inside(block.operations)
        yield from block.outputs


def _inside(operations: Iterable[Any]) -> Iterator[Any]:
    for operation in operations:
        yield from _used(operation)


def declared(value: Any) -> torch.dtype:
    """The element type of a variable (of a list, of what is in it)."""
    from coremltools.converters.mil.mil import types

    if types.is_list(value.sym_type):
        return torch.float32
    return _TYPES.get(types.builtin_to_string(value.dtype), torch.int32)
