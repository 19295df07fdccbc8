"""The process that holds an ExecuTorch program: requests on stdin, answers on stdout.

It is run as a file of its own, apart from this package: a damaged program can take its process
down with it, and must not take ours. Frames are a length, a JSON header, and the raw arrays that
the header lists; nothing is ever unpickled.
"""

import json
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import IO, Any

import numpy as np

__all__ = ["DTYPES", "FrameEnd", "FrameError", "main", "read_frame", "write_frame"]

DTYPES = ("<f4", "<f2", "<f8", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
"""Kinds of arrays that pass."""

_LENGTH = struct.Struct("<I")
_MAX_HEADER_BYTES = 16 * 1024 * 1024
_MAX_ARRAY_BYTES = 4 * 1024 * 1024 * 1024
_MAX_ARRAYS = 4096

Arrays = Sequence["np.ndarray[Any, Any]"]
Answer = tuple[dict[str, Any], list["np.ndarray[Any, Any]"]]


class FrameError(Exception):
    """The other side sent something that is no frame."""


class FrameEnd(FrameError):
    """The other side ended before a frame was complete."""


def write_frame(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays = ()) -> None:
    """Send ``header`` (JSON values) and ``arrays`` behind it."""
    plain = [np.require(array, requirements="C") for array in arrays]
    stated = [{"dtype": array.dtype.str, "shape": array.shape} for array in plain]
    text = json.dumps({**header, "arrays": stated}).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in plain:
        stream.write(array.tobytes())
    stream.flush()


def read_frame(stream: IO[bytes]) -> Answer:
    """The next header and its arrays. Raises FrameEnd at the end, else FrameError."""
    length = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    if length > _MAX_HEADER_BYTES:
        raise FrameError("no frame")
    try:
        header = json.loads(_exactly(stream, length))
        stated = [(entry["dtype"], tuple(entry["shape"])) for entry in header["arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FrameError("no frame") from error
    if len(stated) > _MAX_ARRAYS:
        raise FrameError("no frame")
    return header, [_array(stream, dtype, shape) for dtype, shape in stated]


def _array(stream: IO[bytes], dtype: Any, shape: tuple[Any, ...]) -> "np.ndarray[Any, Any]":
    if dtype not in DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise FrameError("no frame")
    count = prod(shape) * np.dtype(dtype).itemsize
    if count > _MAX_ARRAY_BYTES:
        raise FrameError("no frame")
    return np.frombuffer(_exactly(stream, count), dtype).reshape(shape)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise FrameEnd("no more frames")
    return data


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
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import resource

        # A crash is expected of a damaged program: no core file for it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:
        pass
    import torch

    # The bindings themselves: the public wrapper imports the compiler too, which is slow and loud.
    from executorch.extension.pybindings import _portable_lib as runtime

    torch.set_num_threads(1)
    session = _Session(runtime, torch)
    write_frame(answers, {"ready": True})
    while True:
        try:
            request, arrays = read_frame(requests)
        except FrameError:
            return
        try:
            header, found = session.answer(request, arrays)
        except Exception as error:
            header, found = {"error": f"{type(error).__name__}: {error}"}, []
        write_frame(answers, header, found)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
