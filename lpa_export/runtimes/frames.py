"""Frames: what goes between a worker process and its owner, over pipes.

A frame is a length, a JSON header, and the raw arrays that the header lists; nothing is ever
unpickled. Only numpy is imported here.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import IO, Any

import numpy as np

__all__ = [
    "DTYPES",
    "Answer",
    "Arrays",
    "FrameEnd",
    "FrameError",
    "pipes",
    "read_frame",
    "serve",
    "write_frame",
]

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
    except (ValueError, LookupError, TypeError, RecursionError) as error:
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


def serve(
    requests: IO[bytes], answers: IO[bytes], answer: Callable[[dict[str, Any], Arrays], Answer]
) -> None:
    """Say that the process is ready, then answer requests until they end.

    What `answer` raises becomes a header with `error`, one text.
    """
    write_frame(answers, {"ready": True})
    while True:
        try:
            request, arrays = read_frame(requests)
        except FrameError:
            return
        try:
            header, found = answer(request, arrays)
        except Exception as error:
            header, found = {"error": f"{type(error).__name__}: {error}"}, []
        write_frame(answers, header, found)


def pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Requests and answers of this process; what libraries print goes to stderr from now on.

    A crash is expected of a damaged artifact: no core file for it.
    """
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:
        pass
    return requests, answers
