"""Runs a Core ML program on the CPU of any system, in its own arithmetic or emulating float16."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.arithmetic import Arithmetic, round_to_half
from lpa_export.runtimes.coreml.constants import Constants
from lpa_export.runtimes.coreml.errors import InputError
from lpa_export.runtimes.coreml.execution import Executed, Run
from lpa_export.runtimes.coreml.features import check_inputs
from lpa_export.runtimes.coreml.handlers import HANDLERS
from lpa_export.runtimes.coreml.package import Package
from lpa_export.runtimes.coreml.plan import Step, plan_block

if TYPE_CHECKING:
    from lpa_export.runtimes.coreml.monitor import Monitor

__all__ = ["Evaluator", "State"]

State = dict[str, Tensor]
"""The state of a stateful function: name to values, changed by every run that is given it."""


class Evaluator:
    """One function of a package, ready to run any number of times.

    The figures it gives are emulated: nothing here runs on Apple hardware. Raises PackageError
    for a function that is not there or cannot be built, UnsupportedOp for an operation that has
    no handler.
    """

    def __init__(
        self,
        package: Package,
        function: str | None = None,
        arithmetic: Arithmetic = Arithmetic.FP16,
    ) -> None:
        self.function = package.default_function if function is None else function
        self.arithmetic = arithmetic
        self._built = package.function(self.function)
        self.features = package.features(self.function)
        self._plan = plan_block(self._built, HANDLERS, self.function)
        shared = _SHARED.setdefault(package, weakref.WeakValueDictionary())
        self._constants = Constants(HANDLERS, package.constant_keys(self.function), shared)
        self._variables = {
            variable.name: variable for step in self._plan.steps for variable in step.outputs
        }
        self._variables.update({variable.name: variable for variable in self._plan.inputs})

    @property
    def values(self) -> frozenset[str]:
        """Names of all values that can be tapped (those of nested blocks cannot)."""
        return frozenset(self._variables)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the function's outputs, in the order of the program."""
        return tuple(variable.name for variable in self._plan.outputs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The operations of the function in the order in which they run, constants left out."""
        return self._plan.steps

    def state(self) -> State:
        """A fresh state: zeros, as Core ML's ``makeState`` gives."""
        return {
            variable.name: torch.zeros(tuple(variable.sym_type.wrapped_type().get_shape()))
            for variable in self._plan.inputs
            if variable.name not in self.features
        }

    def run(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        taps: Sequence[str] = (),
        monitor: "Monitor | None" = None,
        state: State | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Outputs and tapped values by name: float32 (float16 values too), int32 or bool.

        ``monitor`` watches every operation, nested blocks included. Without ``state`` a
        stateful function starts from zeros. Raises InputError when the inputs do not fit,
        PackageError when an operation cannot be computed.
        """
        wanted = [*self.outputs, *taps]
        run = self._run(inputs, frozenset(wanted), wide=monitor is not None, state=state)
        for executed in run.block(self._plan):
            if monitor is not None:
                monitor.observe(executed)
            # What an operation was made of must not live on while the next one is computed.
            del executed
        found = {}
        for name in wanted:
            value = run.value(self._variable(name))
            found[name] = value.numpy().copy() if isinstance(value, Tensor) else value
        return found

    def trace(
        self, inputs: Mapping[str, npt.NDArray[Any]], *, wide: bool = False
    ) -> Iterator[Executed]:
        """Run step by step; each operation is handed out as soon as it is computed.

        With ``wide`` the results before rounding are kept beside the rounded ones.
        """
        return self._run(inputs, frozenset(), wide=wide, state=None).block(self._plan)

    def _run(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        kept: frozenset[str],
        *,
        wide: bool,
        state: State | None,
    ) -> Run:
        check_inputs(self.features, inputs, self.function)
        given: dict[str, Tensor] = self._checked(state)
        given |= {name: self._given(name, value) for name, value in inputs.items()}
        return Run(
            self._constants,
            self.arithmetic,
            function=self.function,
            kept=frozenset(self._variable(name) for name in kept),
            wide=wide,
            values={variable: given[variable.name] for variable in self._plan.inputs},
        )

    def _checked(self, state: State | None) -> State:
        """A state as a run may change it. Raises InputError when it is another function's."""
        fresh = self.state()
        if state is None:
            return fresh
        for name, expected in fresh.items():
            found = state.get(name)
            if not isinstance(found, Tensor) or found.shape != expected.shape:
                raise InputError(
                    f"state {name} of {self.function}: expected a tensor {tuple(expected.shape)}, "
                    f"found {tuple(found.shape) if isinstance(found, Tensor) else type(found)}"
                )
        return dict(state)

    def _given(self, name: str, value: npt.NDArray[Any]) -> Tensor:
        """An input as the first operation sees it: on the float16 grid where it is declared so."""
        array = np.array(value, np.float32 if value.dtype.kind == "f" else None)
        if array.dtype.kind in "iu":
            array = array.astype(np.int32)
        tensor = torch.from_numpy(array)
        if self.arithmetic.rounds and self.features[name].dtype == "fp16":
            return round_to_half(tensor)
        return tensor

    def _variable(self, name: str) -> Any:
        for variable in self._plan.outputs:
            if variable.name == name:
                return variable
        if name not in self._variables:
            raise InputError(f"function {self.function} has no value {name}")
        return self._variables[name]


_SHARED: weakref.WeakKeyDictionary[Package, weakref.WeakValueDictionary[bytes, Tensor]] = (
    weakref.WeakKeyDictionary()
)
