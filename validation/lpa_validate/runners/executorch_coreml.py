"""Core ML programs out of a ``.pte``, computed by the evaluator of ``lpa_validate.mil``."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_validate.executorch.coreml import BACKEND, unpack
from lpa_validate.executorch.program import Delegate, Method, Program
from lpa_validate.report import Label
from lpa_validate.runners import ArtifactError

if TYPE_CHECKING:
    from lpa_validate.mil import Evaluator

__all__ = ["CoremlEngine"]


@dataclass(frozen=True)
class _Part:
    """The one Core ML program that a method consists of.

    ``inputs`` are its names for the inputs of the method, None for one that it leaves unread.
    """

    evaluator: "Evaluator"
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


class CoremlEngine:
    """Computes methods that are one Core ML program from input to output, with float16 rounding.

    Raises ArtifactError for a method with anything outside that program, and for programs that
    are damaged.
    """

    label: Label = "emulated"

    def __init__(self, program: Program, methods: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lpa-validate-")
        root = Path(self._folder.name)
        self._parts = {
            name: _part(program.method(name), root / str(index))
            for index, name in enumerate(methods)
        }

    def call(self, method: str, inputs: Sequence["np.ndarray[Any, Any]"]) -> list[Any]:
        """The outputs of a method, in its order."""
        part = self._parts[method]
        if len(inputs) != len(part.inputs):
            raise ArtifactError(f"{method} takes {len(part.inputs)} inputs, given {len(inputs)}")
        given = {
            name: values
            for name, values in zip(part.inputs, inputs, strict=True)
            if name is not None
        }
        found = part.evaluator.run(given)
        return [found[name] for name in part.outputs]


def _part(method: Method, folder: Path) -> _Part:
    from lpa_validate.mil import Arithmetic, Evaluator, load_package

    delegate, values = _whole(method)
    folder.mkdir()
    model = unpack(delegate.data, folder)
    names = dict(zip(values, model.inputs + model.outputs, strict=False))
    if len(values) != len(model.inputs + model.outputs) or not names.keys() >= {*method.outputs}:
        raise ArtifactError(f"{method.name} passes its Core ML program other values than it takes")
    package = load_package(model.package)
    return _Part(
        Evaluator(package, function=package.default_function, arithmetic=Arithmetic.FP16),
        tuple(map(names.get, method.inputs)),
        tuple(names[value] for value in method.outputs),
    )


def _whole(method: Method) -> tuple[Delegate, tuple[int, ...]]:
    """The delegate that the method consists of, and the values that it reads and writes."""
    calls = method.delegate_calls
    alone = len(calls) == 1 and not method.kernels and not method.other_instructions
    if not alone or not {*calls[0][1]} <= {*method.inputs, *method.outputs}:
        raise ArtifactError(
            f"{method.name} is not one Core ML program from input to output: {len(calls)} "
            f"delegate calls, {sum(method.kernels.values())} kernel calls; "
            "only a whole one can be emulated"
        )
    index, values = calls[0]
    delegate = method.delegates[index]
    if delegate.backend != BACKEND:
        raise ArtifactError(f"{method.name} is delegated to {delegate.backend}, not to {BACKEND}")
    return delegate, values
