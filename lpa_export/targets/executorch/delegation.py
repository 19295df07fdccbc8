"""What only the export knows: which operator went to which delegate, and where it comes from.

Counts are for an utterance of `programs.EXAMPLE_SECONDS` or less where the length is dynamic.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

__all__ = ["delegation_map"]

_PACKAGE = Path(__file__).parents[2]
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_DELEGATE = "executorch_call_delegate"


def delegation_map(program: ExportedProgram) -> dict[str, Any]:
    """The nodes of one delegated edge program, in the order they run.

    Call it before `to_executorch`, which rewrites the program. Sources are relative to this
    package or name the library; no path of the machine is in it.
    """
    nodes: list[dict[str, Any]] = []
    delegates: list[str] = []
    for node in program.graph.nodes:
        lowered = _lowered(program.graph_module, node)
        if lowered is not None:
            inner = lowered.original_module
            nodes.extend(_entries(inner, delegate=len(delegates)))
            delegates.append(lowered.backend_id)
    own = {entry["name"]: entry for entry in _entries(program, delegate=None)}
    return {"delegates": delegates, "nodes": _in_order(program, nodes, own)}


def _in_order(
    program: ExportedProgram, delegated: list[dict[str, Any]], own: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """All entries, those of a delegate where it is called."""
    ordered, number = [], 0
    for node in program.graph.nodes:
        if node.name in own:
            ordered.append(own[node.name])
        elif _lowered(program.graph_module, node) is not None:
            ordered.extend(entry for entry in delegated if entry["delegate"] == number)
            number += 1
    return ordered


def _lowered(module: GraphModule, node: Node) -> Any:
    """The lowered module that a node calls, None for any other node."""
    if node.op != "call_function" or getattr(node.target, "__name__", "") != _DELEGATE:
        return None
    called: Any = node.args[0]
    return getattr(module, called.target)


def _entries(program: ExportedProgram, delegate: int | None) -> Iterator[dict[str, Any]]:
    """One entry per operator on tensors, {name, op, delegate, shape, macs, weight_bytes, ...}."""
    weights = _weights(program)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if getattr(node.target, "__name__", "") == _DELEGATE or not _is_tensor(value):
            continue
        inputs = [weights.pop(source.name, 0) for source in node.all_input_nodes]
        yield {
            "name": node.name,
            "op": _name(node.target),
            "delegate": delegate,
            "dtype": str(_first(value).dtype).removeprefix("torch."),
            "shape": [_size(size) for size in _first(value).shape],
            "macs": _multiplications(node),
            "weight_bytes": sum(inputs),
            "module": _module(node),
            "source": _source(node),
        }


def _weights(program: ExportedProgram) -> dict[str, int]:
    """Placeholder -> bytes, of the constants that the program carries."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    stored = {**program.constants, **program.state_dict}
    return {place: stored[name].nbytes for place, name in names.items() if name in stored}


def _multiplications(node: Node) -> int:
    """Multiply-accumulates of a matrix product or convolution, 0 for anything else."""
    kind = _name(node.target).split(".")[1] if "." in _name(node.target) else ""
    made = math.prod(_size(size) for size in _first(node.meta["val"]).shape)
    if kind == "convolution":
        weight: Any = node.args[1]
        return made * math.prod(_size(size) for size in weight.meta["val"].shape[1:])
    if kind in ("linear", "mm", "bmm", "addmm"):
        left: Any = node.args[1 if kind == "addmm" else 0]
        return made * _size(left.meta["val"].shape[-1])
    return 0


def _name(target: Any) -> str:
    """`aten.linear.default` for an operator of any dialect."""
    name = getattr(target, "__name__", str(target))
    # Those of the edge dialect hold the operator that they stand for.
    for overload in (target, getattr(target, "_op", None)):
        if isinstance(overload, torch._ops.OpOverload):
            return str(overload)
    return name


def _is_tensor(value: Any) -> bool:
    return isinstance(_first(value), torch.Tensor)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and value else value


def _size(size: Any) -> int:
    """A fixed size, or a dynamic one at the length of the example."""
    return size if isinstance(size, int) else int(size.node.hint)


def _module(node: Node) -> str:
    """The innermost module's path in the model, empty for what belongs to none."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _source(node: Node) -> str:
    """`file:line function` of the innermost frame in this package, else of the innermost frame."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    for file, line, function in reversed(frames):
        if Path(file).is_relative_to(_PACKAGE):
            return f"lpa_export/{Path(file).relative_to(_PACKAGE).as_posix()}:{line} {function}"
    if not frames:
        return ""
    file, line, function = frames[-1]
    return f"{_library(file)}:{line} {function}"


def _library(file: str) -> str:
    """A library's file from its package on."""
    parts = Path(file).parts
    place = max((i for i, part in enumerate(parts) if part == "site-packages"), default=None)
    return "/".join(parts[place + 1 :] if place is not None else parts[-1:])
