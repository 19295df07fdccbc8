"""Core ML programs out of a ``.pte``, computed by the evaluator of Core ML programs."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.runtimes import ArtifactError, Label
from lpa_export.runtimes.executorch.coreml_delegate import BACKEND, CoremlModel, reference, unpack
from lpa_export.runtimes.executorch.program import Delegate, Method, Program, named_data

if TYPE_CHECKING:
    from lpa_export.runtimes.coreml import Evaluator, Package

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
    """Computes methods that are one Core ML program from input to output.

    What the program declares float16 is rounded to it. Raises ArtifactError for a method with
    anything outside that program, and for programs that are damaged.
    """

    label: Label = "emulated"

    def __init__(self, path: Path, program: Program, methods: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lpa-validate-")
        models = _Models(path, Path(self._folder.name))
        self._parts = {name: _part(program.method(name), models) for name in methods}

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


class _Models:
    """Core ML models by the data that holds them: methods may share one."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._opened: dict[bytes, tuple[CoremlModel, Package]] = {}

    def of(self, delegate: Delegate) -> tuple[CoremlModel, "Package", str | None]:
        """The model of a delegate, and the function that is its own."""
        from lpa_export.runtimes.coreml import load_package

        found = reference(delegate.data)
        key = found.key.encode() if found else delegate.data
        if key not in self._opened:
            folder = self._folder / str(len(self._opened))
            folder.mkdir()
            model = unpack(named_data(self._path, found.key) if found else delegate.data, folder)
            self._opened[key] = model, load_package(model.package)
        return *self._opened[key], found.function if found else None


def _part(method: Method, models: _Models) -> _Part:
    from lpa_export.runtimes.coreml import Arithmetic, Evaluator

    delegate, values = _whole(method)
    model, package, function = models.of(delegate)
    called = model.names(function)
    names = dict(zip(values, called.inputs + called.outputs, strict=False))
    if len(values) != len(called.inputs + called.outputs) or not names.keys() >= {*method.outputs}:
        raise ArtifactError(f"{method.name} passes its Core ML program other values than it takes")
    chosen = function or package.default_function
    return _Part(
        Evaluator(package, function=chosen, arithmetic=Arithmetic.FP16),
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
