"""One run of a function: values come and go step by step."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.arithmetic import Arithmetic, round_to_half, round_to_half_
from lpa_export.runtimes.coreml.call import Call
from lpa_export.runtimes.coreml.constants import Constants
from lpa_export.runtimes.coreml.errors import PackageError, one_line
from lpa_export.runtimes.coreml.plan import Plan, Step, is_constant

__all__ = ["EXACT", "Executed", "Run", "compute"]

EXACT = frozenset(
    "abs batch_to_space concat crop depth_to_space expand_dims flatten2d gather "
    "gather_along_axis gather_nd identity max_pool maximum minimum pixel_shuffle "
    "pixel_unshuffle read_state reduce_max reduce_min relu relu6 reshape reshape_like reverse "
    "reverse_sequence select sign slice_by_index slice_by_size slice_update sliding_windows "
    "space_to_batch space_to_depth split squeeze stack tile topk transpose coreml_update_state "
    "cond while_loop list_gather list_length list_read list_scatter list_write "
    "make_list".split()
)
"""Operations whose result is on the float16 grid when their inputs are: not rounded again."""

_MOST_ROUNDS = 1_000_000


@dataclass(frozen=True)
class Executed:
    """A step that was just computed. ``wide`` holds the results before they were rounded
    (the rounded ones where nobody asked to keep them)."""

    step: Step
    inputs: Mapping[str, Any]
    wide: tuple[Any, ...]
    outputs: tuple[Any, ...]
    seconds: float


class Run:
    """The values of one run. ``kept`` are variables that outlive their last use."""

    def __init__(
        self,
        constants: Constants,
        arithmetic: Arithmetic,
        *,
        function: str,
        kept: frozenset[Any],
        wide: bool,
        values: dict[Any, Any],
    ) -> None:
        self.values = values
        self._constants = constants
        self._arithmetic = arithmetic
        self._function = function
        self._kept = kept
        self._wide = wide

    def block(self, plan: Plan) -> Iterator[Executed]:
        """Compute a block; afterwards its outputs are in ``values``."""
        for step in plan.steps:
            if step.op_type in _CONTROL:
                yield from _CONTROL[step.op_type](self, step)
            else:
                yield self._executed(step)
            for variable in step.ends:
                if variable not in self._kept:
                    self.values.pop(variable, None)

    def value(self, variable: Any) -> Any:
        """What a variable holds now, or its constant."""
        if variable in self.values:
            return self.values[variable]
        if is_constant(variable):
            return self._constants.value(variable)
        raise PackageError(f"function {self._function}: {variable.name} is read before it is made")

    def inputs(self, step: Step) -> dict[str, Any]:
        """The values of a step's inputs by name."""
        return {
            name: [self.value(item) for item in given]
            if isinstance(given, tuple)
            else self.value(given)
            for name, given in step.arguments.items()
        }

    def _executed(self, step: Step) -> Executed:
        inputs = self.inputs(step)
        start = time.perf_counter()
        wide, outputs = compute(step, inputs, self._arithmetic, self._function, keep=self._wide)
        seconds = time.perf_counter() - start
        self.values.update(zip(step.outputs, outputs, strict=True))
        return Executed(step, inputs, wide, outputs, seconds)

    def _cond(self, step: Step) -> Iterator[Executed]:
        chosen = step.blocks[0 if bool(self.value(step.arguments["pred"])) else 1]
        yield from self.block(chosen)
        self._put_out(step, chosen)

    def _while_loop(self, step: Step) -> Iterator[Executed]:
        condition, body = step.blocks
        carried = [self.value(item) for item in step.arguments["loop_vars"]]
        for _ in range(_MOST_ROUNDS):
            self.values.update(zip(condition.inputs, carried, strict=True))
            yield from self.block(condition)
            if not bool(self._taken(condition)[0]):
                self.values.update(zip(step.outputs, carried, strict=True))
                return
            self.values.update(zip(body.inputs, carried, strict=True))
            yield from self.block(body)
            carried = self._taken(body)
        raise PackageError(f"function {self._function}: the loop {step.output} does not end")

    def _read_state(self, step: Step) -> Iterator[Executed]:
        self.values[step.outputs[0]] = self.value(step.arguments["input"]).clone()
        yield from ()

    def _update_state(self, step: Step) -> Iterator[Executed]:
        state, new = self.value(step.arguments["state"]), self.value(step.arguments["value"])
        state.copy_(new)
        self.values[step.outputs[0]] = new
        yield from ()

    def _put_out(self, step: Step, block: Plan) -> None:
        self.values.update(zip(step.outputs, self._taken(block), strict=True))

    def _taken(self, block: Plan) -> list[Any]:
        return [self.value(variable) for variable in block.outputs]


_CONTROL = {
    "cond": Run._cond,
    "while_loop": Run._while_loop,
    "read_state": Run._read_state,
    "coreml_update_state": Run._update_state,
}


def compute(
    step: Step, inputs: Mapping[str, Any], arithmetic: Arithmetic, function: str, *, keep: bool
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The results of one step as computed, and as the program keeps them.

    With ``keep`` the two never share memory where rounding changes values. Raises PackageError,
    which names the step, when it cannot be computed from these inputs.
    """
    half = torch.float16 in step.types
    if arithmetic.rounds and step.narrowed:
        rounded = {name: _narrow(inputs[name]) for name in step.narrowed}
        inputs = {**inputs, **rounded}
    call = Call(
        step.op_type,
        step.name,
        inputs,
        step.types,
        sequential_fp16=arithmetic.sequential and half,
        rounds=arithmetic.rounds and half,
        tile=arithmetic.tile if half else 0,
        tables=arithmetic.tables and half,
        opset=step.opset,
    )
    assert step.handler is not None
    try:
        results = step.handler(call)
    except MemoryError:
        raise
    except Exception as error:
        raise PackageError(
            f"function {function}: {step.op_type} (operation {step.name}, output {step.output}) "
            f"cannot be computed ({type(error).__name__}: {one_line(error)[:200]})"
        ) from error
    found = results if isinstance(results, tuple) else (results,)
    if len(found) != len(step.outputs):
        raise PackageError(
            f"function {function}: {step.op_type} {step.output} gave {len(found)} results, "
            f"the program declares {len(step.outputs)}"
        )
    wide = tuple(_typed(value, kind) for value, kind in zip(found, step.types, strict=True))
    if not (arithmetic.rounds and half and step.op_type not in EXACT):
        return wide, wide
    taken = set() if keep else _storages(inputs)
    kept = tuple(
        _rounded(value, keep or value.untyped_storage().data_ptr() in taken)
        if kind is torch.float16 and isinstance(value, Tensor)
        else value
        for value, kind in zip(wide, step.types, strict=True)
    )
    return (wide if keep else kept), kept


def _narrow(value: Any) -> Any:
    return round_to_half(value) if isinstance(value, Tensor) else value


def _typed(value: Any, declared: torch.dtype) -> Any:
    """A result as values are held: float32, int32 or bool."""
    if not isinstance(value, Tensor):
        return value
    if declared.is_floating_point:
        return value.float()
    return value.to(torch.bool if declared is torch.bool else torch.int32)


def _rounded(value: Tensor, copy: bool) -> Tensor:
    return round_to_half(value) if copy or not value.is_contiguous() else round_to_half_(value)


def _storages(inputs: Mapping[str, Any]) -> set[int]:
    """Memory that a result may share with what it was made of, so not to be written to."""
    flat = [item for v in inputs.values() for item in (v if isinstance(v, list) else [v])]
    return {item.untyped_storage().data_ptr() for item in flat if isinstance(item, Tensor)}
