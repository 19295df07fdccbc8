"""A function of a Core ML program as the rules see it: its operations, without its constants.

Constants and the ``constexpr_*`` operations that unpack compressed weights are no operations
here: Core ML evaluates them when it loads the model. They appear as the inputs they feed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function

__all__ = ["Flexibility", "Graph", "Op", "Shape", "Value", "read_graph"]

Shape = tuple[int | None, ...]
"""Sizes, outermost first; None for one that is not fixed."""

Flexibility = Literal["enumerated", "range"]
"""How an input varies: over a list of shapes, or over every shape within bounds."""


@dataclass(frozen=True)
class Value:
    """An input or output of an operation. ``dtype`` is MIL's: fp16, fp32, int32, bool, list ...

    ``constant`` holds what the program states for it; ``unpacked_by`` names the ``constexpr_*``
    operation behind a compressed weight, whose values are not materialised.
    """

    name: str
    shape: Shape
    dtype: str
    constant: npt.NDArray[Any] | None = None
    unpacked_by: str = ""
    bits: int | None = None
    """Width of the integers behind a weight with scales, None for others."""

    @property
    def is_weight(self) -> bool:
        """Whether it is known before the model runs."""
        return self.constant is not None or bool(self.unpacked_by)

    @cached_property
    def extremes(self) -> tuple[float, float] | None:
        """Smallest and largest of a floating-point constant (NaN if one is in it), else None."""
        held = self.constant
        if held is None or held.size == 0 or held.dtype.kind != "f":
            return None
        # Along an axis without a stride the same values repeat.
        held = held[tuple(slice(None) if step else slice(1) for step in held.strides)]
        return float(held.min()), float(held.max())


@dataclass(frozen=True)
class Op:
    """One operation. An input that is a tuple of values (concat) keeps them in order."""

    type: str
    name: str
    inputs: Mapping[str, tuple[Value, ...]]
    outputs: tuple[Value, ...]

    def value(self, name: str) -> Value | None:
        """The input of that name, None when the program leaves it out."""
        given = self.inputs.get(name)
        return given[0] if given else None

    def shape(self, name: str) -> Shape:
        """The shape of that input, () when the program leaves it out."""
        given = self.value(name)
        return () if given is None else given.shape

    def stated(self, name: str) -> Any:
        """What the program states for that input: a scalar, a list, a text; None when nothing."""
        given = self.value(name)
        if given is None or given.constant is None:
            return None
        return given.constant.tolist()

    @property
    def read(self) -> tuple[Value, ...]:
        """Everything it reads, weights too."""
        return tuple(value for group in self.inputs.values() for value in group)

    @property
    def activations(self) -> tuple[Value, ...]:
        """What it reads that is computed while the model runs."""
        return tuple(value for value in self.read if not value.is_weight)


@dataclass(frozen=True)
class Graph:
    """A function: ``ops`` in program order, those of nested blocks before the op that holds them.

    ``activations`` maps a value's name to the largest magnitude seen while the program ran,
    where it was measured. ``flexible`` says of the inputs without one fixed shape how they vary;
    ``size`` is the package's, in bytes, ``largest_file`` that of its largest file of weights.
    ``engine`` names the chip where it is known: "M1", "A17".
    """

    name: str
    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    flexible: Mapping[str, Flexibility] = field(default_factory=dict)
    size: int | None = None
    activations: Mapping[str, float] = field(default_factory=dict)
    largest_file: int | None = None
    engine: str | None = None

    @cached_property
    def makers(self) -> dict[str, Op]:
        """Name of a value -> the operation that computes it."""
        return {value.name: op for op in self.ops for value in op.outputs}

    @cached_property
    def border(self) -> frozenset[str]:
        """Names of the inputs and outputs of the function."""
        return frozenset(value.name for value in (*self.inputs, *self.outputs))

    @cached_property
    def _readers(self) -> dict[str, list[Op]]:
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for value in op.activations:
                found.setdefault(value.name, []).append(op)
        return found

    def readers(self, op: Op) -> list[Op]:
        """The operations that read what ``op`` computes."""
        return [reader for value in op.outputs for reader in self._readers.get(value.name, ())]

    def maker(self, value: Value | None) -> Op | None:
        """The operation that computes ``value``; None for inputs, weights and nothing."""
        return None if value is None else self.makers.get(value.name)


def read_graph(
    function: Function,
    *,
    name: str = "main",
    flexible: Mapping[str, Flexibility] | None = None,
    size: int | None = None,
    activations: Mapping[str, float] | None = None,
    largest_file: int | None = None,
    engine: str | None = None,
) -> Graph:
    """``function`` of a loaded program.

    A program does not say whether an input varies over a range of shapes or a list of them, and
    nothing once its shapes are fixed (``with_shapes``): ``flexible`` does, input by input. Without
    it every size that is not fixed is taken for a range.
    """
    inputs = tuple(_value(var) for var in function.inputs.values())
    if flexible is None:
        flexible = {value.name: "range" for value in inputs if None in value.shape}
    return Graph(
        name,
        tuple(_walk(function)),
        inputs,
        tuple(_value(var) for var in function.outputs),
        flexible,
        size,
        activations or {},
        largest_file,
        engine,
    )


def _walk(block: Any) -> Iterator[Op]:
    for operation in block.operations:
        for nested in operation.blocks:
            yield from _walk(nested)
        if not _is_constant(operation):
            yield _op(operation)


def _is_constant(operation: Any) -> bool:
    kind: str = operation.op_type
    return kind == "const" or kind.startswith("constexpr_")


def _op(operation: Any) -> Op:
    inputs: dict[str, tuple[Value, ...]] = {}
    for name, given in operation.inputs.items():
        if given is not None:
            group = given if isinstance(given, (list, tuple)) else (given,)
            inputs[name] = tuple(map(_value, group))
    return Op(
        operation.op_type,
        operation.name,
        inputs,
        tuple(map(_value, operation.outputs)),
    )


def _value(var: Any) -> Value:
    from coremltools.converters.mil.mil import types

    if types.is_list(var.sym_type):
        return Value(var.name, (), "list")
    maker = var.op
    constant = maker is not None and maker.op_type == "const"
    unpacked = maker is not None and maker.op_type.startswith("constexpr_")
    return Value(
        var.name,
        tuple(int(size) if isinstance(size, (int, np.integer)) else None for size in var.shape),
        types.builtin_to_string(var.dtype),
        np.asarray(var.val) if constant else None,
        maker.op_type if unpacked else "",
        _integer_bits(maker) if unpacked else None,
    )


def _integer_bits(unpacking: Any) -> int | None:
    """How wide the integers are that scales belong to; None for palettes and plain numbers."""
    from coremltools.converters.mil.mil import types

    name = {
        "constexpr_affine_dequantize": "quantized_data",
        "constexpr_blockwise_shift_scale": "data",
        "constexpr_sparse_blockwise_shift_scale": "nonzero_data",
    }.get(unpacking.op_type)
    if name is None:
        return None
    kind = unpacking.inputs[name].dtype
    return int(kind.get_bitwidth()) if types.is_int(kind) else None
