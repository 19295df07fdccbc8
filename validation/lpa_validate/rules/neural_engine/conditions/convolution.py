"""Kernels, strides, dilations and groups of convolutions and pools."""

from lpa_validate.rules.neural_engine.graph import Graph, Op

__all__ = [
    "awkward_dilation",
    "awkward_groups",
    "awkward_pool",
    "awkward_stride",
    "channels_not_divisible",
    "palettized_stride",
    "uneven_transposed_strides",
    "wide_kernel",
]

_CONVOLUTIONS = ("conv", "conv_transpose")
_POOLS = ("max_pool", "avg_pool", "l2_pool")
_MAX_KERNEL_WIDTH = 13
_CORES = 16


def wide_kernel(op: Op, graph: Graph) -> str:
    """Only the width counts, the last axis; 13 is M1's limit in fp16, 16 that of A14 and later."""
    width = (op.shape("weight") or (0,))[-1] if op.type in _CONVOLUTIONS else 0
    return f"kernel width {width} > {_MAX_KERNEL_WIDTH}" if (width or 0) > _MAX_KERNEL_WIDTH else ""


def awkward_stride(op: Op, graph: Graph) -> str:
    return _awkward(op, "strides")


def awkward_dilation(op: Op, graph: Graph) -> str:
    return _awkward(op, "dilations")


def _awkward(op: Op, what: str) -> str:
    factors = op.stated(what) if op.type in _CONVOLUTIONS else None
    return f"{what} {factors}" if factors and not all(map(_of_twos_and_threes, factors)) else ""


def _of_twos_and_threes(number: int) -> bool:
    for factor in (2, 3):
        while number % factor == 0 and number > 1:
            number //= factor
    return number == 1


def awkward_groups(op: Op, graph: Graph) -> str:
    """More groups than one that neither fill the cores evenly nor are a part of them."""
    groups = op.stated("groups") if op.type in _CONVOLUTIONS else None
    if not groups or groups == 1 or _CORES % groups == 0 or groups % _CORES == 0:
        return ""
    return f"{groups} groups on {_CORES} cores"


def channels_not_divisible(op: Op, graph: Graph) -> str:
    groups = op.stated("groups") if op.type in _CONVOLUTIONS else None
    if not groups:
        return ""
    channels = [shape[1] or 0 for shape in (op.shape("x"), op.outputs[0].shape)]
    uneven = [number for number in channels if number % groups]
    return f"{uneven[0]} channels in {groups} groups" if uneven else ""


def awkward_pool(op: Op, graph: Graph) -> str:
    if op.type not in _POOLS:
        return ""
    kernel, strides = op.stated("kernel_sizes") or [], op.stated("strides") or []
    if max(kernel, default=0) > _MAX_KERNEL_WIDTH:
        return f"kernel {kernel}"
    return "" if all(stride in (2, 4) for stride in strides) else f"strides {strides}"


def palettized_stride(op: Op, graph: Graph) -> str:
    weight = op.value("weight")
    if op.type not in _CONVOLUTIONS or weight is None or "lut" not in weight.unpacked_by:
        return ""
    strides = op.stated("strides") or []
    return f"palettized, strides {strides}" if max(strides, default=1) > 2 else ""


def uneven_transposed_strides(op: Op, graph: Graph) -> str:
    strides = op.stated("strides") or []
    uneven = op.type == "conv_transpose" and len(strides) > 1 and len(set(strides)) > 1
    return f"strides {strides}" if uneven else ""
