"""How tensors lie in memory: (B, C, 1, S), the last axis a multiple of 64 bytes."""

from lpa_validate.rules.neural_engine.graph import Graph, Op, Shape
from lpa_validate.rules.neural_engine.macs import macs

__all__ = ["channels_last", "moves_innermost_axis", "padded_last_axis", "strided_outputs"]

_ALIGNMENT = 64
_BYTES = {"fp16": 2, "fp32": 4, "int32": 4, "int16": 2, "uint16": 2, "int8": 1, "uint8": 1}
_LARGE_MACS = 1_000_000
"""Below, a layer is too little work for its layout to matter."""


def padded_last_axis(graph: Graph) -> list[str]:
    if graph.flexible:
        return []
    found = []
    for value in (*graph.inputs, *graph.outputs):
        last = value.shape[-1] if value.shape else None
        width = _BYTES.get(value.dtype)
        if last == 1:
            found.append(f"{value.name}: last axis of one element")
        elif last is not None and width and last * width % _ALIGNMENT:
            found.append(f"{value.name}: last axis of {last * width} bytes")
    return found


def channels_last(op: Op, graph: Graph) -> str:
    """A large layer on (B, S, C): ``linear``, which knows no other form, or matmul of rank < 4."""
    if op.type not in ("linear", "matmul") or len(op.shape("x")) > 3:
        return ""
    count = macs(op)
    large = count is None or count >= _LARGE_MACS
    return f"{op.type} of rank {len(op.shape('x'))}" if large else ""


def moves_innermost_axis(op: Op, graph: Graph) -> str:
    """Not at the border of the function, where the layout is the caller's choice."""
    touched = {value.name for value in (*op.activations, *op.outputs)}
    if touched & graph.border or not op.outputs:
        return ""
    before, after = op.shape("x"), op.outputs[0].shape
    if op.type == "transpose":
        order = op.stated("perm") or []
        return "" if _stays_last(order) else f"transpose {order}"
    if op.type == "reshape" and before[-1:] != after[-1:]:
        return f"reshape {_text(before)} to {_text(after)}"
    return ""


def _stays_last(order: list[int]) -> bool:
    return bool(order) and order[-1] in (-1, len(order) - 1)


def _text(shape: Shape) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def strided_outputs(graph: Graph) -> list[str]:
    return [f"output {value.name}" for value in graph.outputs if len(value.shape) > 1]
