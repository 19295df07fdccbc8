"""Types that the Neural Engine does not compute in."""

from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = ["computes_in_wide_type", "widens_to_fp32"]

_WIDE = frozenset({"fp32", "int32", "fp64", "int64"})
_FLOATS = frozenset({"fp16", "fp32"})
# Their positions are integers whatever they look at.
_GIVES_INDICES = frozenset({"reduce_argmax", "reduce_argmin", "topk", "argsort"})


def computes_in_wide_type(op: Op, graph: Graph) -> str:
    """fp32 or int32 going in or coming out. Casts between floating-point types only convert."""
    read = {value.dtype for value in op.activations}
    given = {value.dtype for value in op.outputs}
    if op.type == "cast" and read | given <= _FLOATS:
        return ""
    if op.type in _GIVES_INDICES:
        given -= {"int32"}
    wide = sorted((read | given) & _WIDE)
    return ", ".join(wide)


def widens_to_fp32(op: Op, graph: Graph) -> str:
    """A cast to fp32 whose result the function computes with, or an fp32 literal operand."""
    if op.type == "cast":
        result = op.outputs[0]
        inside = result.name not in graph.border and result.dtype == "fp32"
        return "cast to fp32 inside the function" if inside else ""
    literals = [
        value
        for name in ("x", "y")
        if (value := op.value(name)) is not None and value.is_weight and value.dtype == "fp32"
    ]
    return f"fp32 literal {literals[0].name}" if literals else ""
