"""The ``.pte`` of a bundle of any task, open in ExecuTorch's own runtime.

Programs for Core ML run nowhere but on Apple's systems: their Core ML program is taken out of the
file and computed by the evaluator of ``lpa_export.runtimes.coreml``, and labelled emulated.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError, Label, Runner
from lpa_export.runtimes.executorch.process import Worker
from lpa_export.runtimes.executorch.program import Program, constant_methods, read_program
from lpa_export.runtimes.executorch.section import file_of, runtime_of

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["OpenProgram", "worker_of"]

_COREML = "coreml"


class _Engine(Protocol):
    """Something that computes a method of the program."""

    label: Label

    def call(self, method: str, inputs: Sequence["np.ndarray[Any, Any]"]) -> list[Any]: ...


class OpenProgram:
    """The program, its section of the manifest, and the process that runs it.

    ``label``: ``measured``, or ``emulated`` where the runtime of the backend is not here. Raises
    ArtifactError when the file does not open as a program with the manifest's methods, and LpaError
    when ExecuTorch is not installed.
    """

    label: Label

    def __init__(self, bundle: "AnyBundle", *, threads: int) -> None:
        self.runtime = runtime_of(bundle)
        self.path = file_of(bundle, self.runtime.program)
        self.program: Program = read_program(self.path)
        for method in self.runtime.methods:
            self.program.method(method)
        self.worker = Worker()
        self.threads = int(self.worker.ask("threads", threads=threads)[0]["threads"])
        self._open()
        self._engine = self._engine_for(self.runtime.backend)
        self.label = self._engine.label

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """What the program's constant methods give, by name: numbers and texts as text."""
        return {name: self._stated(name) for name in constant_methods(self.program)}

    def compute(
        self,
        method: str,
        inputs: Sequence["np.ndarray[Any, Any]"],
        engine: _Engine | None = None,
    ) -> list[Any]:
        """The outputs of a method. Raises ArtifactError in one line where it breaks."""
        found = (engine or self._engine).call(method, inputs)
        if not found:
            raise ArtifactError(f"{method} gives no output")
        return found

    def _stated(self, method: str) -> str:
        values = self.compute(method, [], engine=_RuntimeEngine(self.worker))[0]
        if values.dtype == np.uint8 and values.ndim == 1:
            return bytes(values).decode("utf-8", "replace")
        return str(values.item()) if values.size == 1 else str(values.tolist())

    def _open(self) -> None:
        try:
            self.worker.ask("open", path=str(self.path))
        except ArtifactError as error:
            raise ArtifactError(f"ExecuTorch refuses {self.path.name}: {error}") from error

    def _engine_for(self, backend: str) -> _Engine:
        if backend == _COREML:
            from lpa_export.runtimes.executorch.coreml_runner import CoremlEngine

            return CoremlEngine(self.path, self.program, self.runtime.methods)
        here = self.worker.ask("registry")[0]["backends"]
        wanted = {
            delegate.backend
            for method in self.runtime.methods
            for delegate in self.program.method(method).delegates
        }
        if not wanted <= {*here}:
            raise LpaError(
                f"the executorch installed here cannot run {', '.join(sorted(wanted - {*here}))}: "
                f"the program can be looked into (--checks ops) but not run on this machine"
            )
        return _RuntimeEngine(self.worker)


def worker_of(runner: Runner | None) -> Worker:
    """The process of an open runner, else a fresh one: for questions to the runtime itself."""
    return runner.worker if isinstance(runner, OpenProgram) else Worker()


class _RuntimeEngine:
    """The runtime itself."""

    label: Label = "measured"

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def call(self, method: str, inputs: Sequence["np.ndarray[Any, Any]"]) -> list[Any]:
        return self._worker.ask("run", inputs, method=method)[1]
