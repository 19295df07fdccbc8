"""Attention as one operation, and masks that are not numbers in fp16."""

import numpy as np

from lpa_validate.rules.neural_engine.graph import Graph, Op, Value

__all__ = ["ignored_mask", "infinite_mask", "native_attention"]

_MAX_KEYS = 2048
_MAX_SHORTER_SIDE = 512
_LARGEST_FP16 = 65504.0
# What adds, selects, multiplies or pads with a mask value.
_MASKS = frozenset(
    "add sub mul select concat pad fill maximum minimum scaled_dot_product_attention".split()
)


def native_attention(op: Op, graph: Graph) -> str:
    if op.type != "scaled_dot_product_attention":
        return ""
    queries, keys = (op.shape(name)[-2] or 0 for name in ("query", "key"))
    if keys > _MAX_KEYS:
        return f"{keys} keys > {_MAX_KEYS}"
    if min(queries, keys) >= _MAX_SHORTER_SIDE:
        return f"{queries} queries on {keys} keys"
    mask = op.value("attn_mask")
    return "" if mask is None else _causal(mask)


def ignored_mask(op: Op, graph: Graph) -> str:
    """A mask that comes to the Neural Engine from outside: a constant or an input (cast or not)."""
    mask = op.value("attn_mask")
    if op.type != "scaled_dot_product_attention" or mask is None:
        return ""
    if mask.is_weight:
        return "a constant mask"
    maker = graph.maker(mask)
    while maker is not None and maker.type in _CARRIES:
        mask, maker = maker.activations[0], graph.maker(maker.activations[0])
    return f"the mask is the input {mask.name}" if maker is None else ""


# What hands a mask on as it came.
_CARRIES = frozenset({"cast", "reshape", "expand_dims", "squeeze", "transpose"})


def _causal(mask: Value) -> str:
    """Whether the mask hides later keys from a query; one computed at run time cannot be told."""
    held = mask.constant
    if held is None:
        return "a computed mask: whether it is causal cannot be told"
    if held.ndim < 2 or held.shape[-1] < 2:
        return ""
    hidden = ~held if held.dtype == bool else held < -1e3
    above = np.triu(np.ones(held.shape[-2:], bool), 1)
    return "causal mask" if bool(hidden[..., above].all() and not hidden[..., ~above].any()) else ""


def infinite_mask(op: Op, graph: Graph) -> str:
    """-inf, or a number below fp16's range that becomes it (finfo(float32).min)."""
    if op.type not in _MASKS:
        return ""
    for value in op.read:
        if value.extremes is not None and value.extremes[0] < -_LARGEST_FP16:
            return f"{value.name} holds {value.extremes[0]:g}"
    return ""
