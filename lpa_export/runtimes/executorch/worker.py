"""The process that holds an ExecuTorch program: requests on stdin, answers on stdout.

A damaged program can take its process down with it, and must not take ours.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lpa_export.runtimes.frames import Answer, Arrays, pipes, serve

__all__ = ["main"]


class _Session:
    """The runtime with at most one program in it."""

    def __init__(self, runtime: Any, torch: Any) -> None:
        self._runtime = runtime
        self._torch = torch
        self._module: Any = None

    def threads(self, request: Mapping[str, Any]) -> Answer:
        """Set the size of the runtime's thread pool and say what it is."""
        self._runtime._unsafe_reset_threadpool(request["threads"])
        return {"threads": self._runtime._threadpool_get_thread_count()}, []

    def open(self, request: Mapping[str, Any]) -> Answer:
        """Load a program and name its methods."""
        self._module = self._load(request["path"])
        return {"methods": self._module.method_names()}, []

    def run(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Run a method; numbers come back as arrays of rank 0, texts as bytes of UTF-8."""
        inputs = [self._torch.from_numpy(array.copy()) for array in arrays]
        outputs = self._module.run_method(request["method"], inputs)
        return {}, [_as_array(output) for output in outputs]

    def events(self, request: Mapping[str, Any]) -> Answer:
        """Run a method without inputs, traced; whether this build of the runtime can trace."""
        module = self._load(request["path"], enable_etdump=True)
        module.run_method(request["method"], [])
        module.write_etdump_result_to_file(request["to"])
        return {"recorded": os.path.exists(request["to"])}, []

    def registry(self) -> Answer:
        """The kernels and backends that this build of the runtime has."""
        return {
            "operators": sorted(self._runtime._get_operator_names()),
            "backends": sorted(self._runtime._get_registered_backend_names()),
        }, []

    def replay(self, request: Mapping[str, Any]) -> Answer:
        """Run and compare the test cases of a bundled program; per case what went wrong."""
        with open(request["path"], "rb") as stream:
            bundled = self._runtime._load_bundled_program_from_buffer(stream.read())
        cases = []
        for index in range(request["cases"]):
            try:
                bundled.verify_result_with_bundled_expected_output(
                    request["method"], index, request["rtol"], request["atol"]
                )
                cases.append("")
            except RuntimeError as error:
                cases.append(str(error))
        return {"cases": cases}, []

    def _load(self, path: str, **options: Any) -> Any:
        verification = self._runtime.Verification.InternalConsistency
        return self._runtime._load_for_executorch(
            path, program_verification=verification, **options
        )

    def answer(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Do what the request's ``op`` names."""
        table: dict[str, Callable[[], Answer]] = {
            "threads": lambda: self.threads(request),
            "open": lambda: self.open(request),
            "run": lambda: self.run(request, arrays),
            "events": lambda: self.events(request),
            "registry": self.registry,
            "replay": lambda: self.replay(request),
        }
        return table[request["op"]]()


def _as_array(output: Any) -> "np.ndarray[Any, Any]":
    if isinstance(output, str):
        return np.frombuffer(output.encode(), np.uint8)
    return np.asarray(output)


def main() -> None:
    """Serve requests until stdin ends. What the libraries print goes to stderr, all of it."""
    requests, answers = pipes()
    import torch

    # The bindings themselves: the public wrapper imports the compiler too, which is slow and loud.
    from executorch.extension.pybindings import _portable_lib as runtime

    torch.set_num_threads(1)
    serve(requests, answers, _Session(runtime, torch).answer)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
