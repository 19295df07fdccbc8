"""Weights in a file beside the graph: one protobuf message, the graph's, stays below 2 GiB."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.runtimes.onnx import every_graph

if TYPE_CHECKING:
    import onnx

__all__ = ["save", "weight_bytes"]

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

    The same graph gives the same bytes. The weights leave `graph` itself when they go beside it.
    """
    _hoist(graph.graph)
    if not external:
        path.write_bytes(graph.SerializeToString(deterministic=True))
        return (path.name,)
    from onnx.external_data_helper import (
        convert_model_to_external_data,
        write_external_data_tensors,
    )

    beside = f"{path.name}.data"
    convert_model_to_external_data(graph, location=beside, size_threshold=_LEAST_BYTES)
    write_external_data_tensors(graph, str(path.parent))
    path.write_bytes(graph.SerializeToString(deterministic=True))
    # onnx leaves it readable for its owner alone.
    shutil.copymode(path, path.parent / beside)
    return (path.name, beside)


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
