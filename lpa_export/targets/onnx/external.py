"""Graphs on disk, weights in the file or beside it: one protobuf message stays below 2 GiB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.runtimes.onnx import every_graph

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

__all__ = ["save", "weight_bytes", "write_external"]

# What shapes are computed from stays in the graph, where readers look for it.
_LEAST_BYTES = 1024


def weight_bytes(graph: onnx.ModelProto) -> int:
    """Bytes of all constants."""
    import math

    from onnx.helper import tensor_dtype_to_np_dtype

    return sum(
        math.prod(tensor.dims) * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for part in every_graph(graph.graph)
        for tensor in part.initializer
    )


def save(graph: onnx.ModelProto, path: Path, *, external: bool) -> tuple[str, ...]:
    """Write the graph to `path`, its weights too or (`external`) beside it; the files' names.

    The same graph gives the same bytes. Its weights leave `graph`.
    """
    _hoist(graph.graph)
    if external:
        return write_external(graph, path)
    with path.open("wb") as file:
        file.writelines(_serialised(graph))
    return (path.name,)


def write_external(graph: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Write the graph to `path` and its weights, which leave `graph`, beside it; the files' names.

    There is one file where all weights are small.
    """
    from onnx.external_data_helper import (
        convert_model_to_external_data,
        write_external_data_tensors,
    )

    beside = f"{path.name}.data"
    convert_model_to_external_data(graph, location=beside, size_threshold=_LEAST_BYTES)
    write_external_data_tensors(graph, str(path.parent))
    path.write_bytes(graph.SerializeToString(deterministic=True))
    if not (path.parent / beside).exists():
        return (path.name,)
    # onnx leaves it readable for its owner alone.
    shutil.copymode(path, path.parent / beside)
    return path.name, beside


def _serialised(model: onnx.ModelProto) -> Iterator[bytes]:
    """What `SerializeToString` gives, weight by weight: at once it takes the memory of three."""
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    before, behind = _around(model.graph, "initializer")
    heads = [_head(model.graph, "initializer", weight.ByteSize()) for weight in weights]
    size = len(before) + len(behind) + sum(map(len, heads)) + sum(w.ByteSize() for w in weights)
    first, last = _around(model, "graph")
    yield first + _head(model, "graph", size) + before
    for head, weight in zip(heads, weights, strict=True):
        yield head + weight.SerializeToString(deterministic=True)
    yield behind + last


def _around(message: Message, field: str) -> tuple[bytes, bytes]:
    """What is written before and behind a field: fields lie by their numbers."""
    place = message.DESCRIPTOR.fields_by_name[field].number
    parts = []
    for kept in (place.__gt__, place.__lt__):
        part = type(message)()
        part.CopyFrom(message)
        for other in message.DESCRIPTOR.fields:
            if not kept(other.number):
                part.ClearField(other.name)
        parts.append(part.SerializeToString(deterministic=True))
    before, behind = parts
    return before, behind


def _head(message: Message, field: str, size: int) -> bytes:
    """What stands before `size` bytes of a field that holds a message: number, kind, size."""
    head = bytearray()
    for number in (message.DESCRIPTOR.fields_by_name[field].number << 3 | 2, size):
        while number > 0x7F:
            head.append(number & 0x7F | 0x80)
            number >>= 7
        head.append(number)
    return bytes(head)


def _hoist(graph: onnx.GraphProto) -> None:
    """Move, in place, the matrices inside of loops to the graph around: a runtime keeps the body of
    a loop beside what it makes of it, and would hold them twice. Kernels of convolutions stay: ONNX
    Runtime takes its fast layout for those that lie beside their node.
    """
    for number, body in enumerate(every_graph(graph)):
        large = [
            tensor
            for tensor in body.initializer
            if len(tensor.dims) == 2 and len(tensor.raw_data) >= _LEAST_BYTES
        ]
        if body is graph or not large:
            continue
        names = {tensor.name: f"{tensor.name}.{number}" for tensor in large}
        for inner in every_graph(body):
            for node in inner.node:
                node.input[:] = [names.get(name, name) for name in node.input]
        kept = [tensor for tensor in body.initializer if tensor.name not in names]
        for tensor in large:
            tensor.name = names[tensor.name]
        graph.initializer.extend(large)
        del body.initializer[:]
        body.initializer.extend(kept)
