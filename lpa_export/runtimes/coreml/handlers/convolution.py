"""Convolutions over one to three axes, and their transposes."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.accumulation import added, tiles

__all__ = ["TABLE"]

_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


def _conv(call: Call) -> Tensor:
    x, weight = call.tensor("x"), call.tensor("weight")
    axes = x.ndim - 2
    strides = call.integers("strides", [1] * axes)
    dilations = call.integers("dilations", [1] * axes)
    before, after = _conv_pads(call, x.shape[2:], weight.shape[2:], strides, dilations)
    if before != after:
        # The last axis comes first in torch's list of pads.
        pairs = zip(reversed(before), reversed(after), strict=True)
        x, before = functional.pad(x, [size for pair in pairs for size in pair]), [0] * axes
    bias, groups = call.optional("bias"), call.integer("groups", 1)
    convolve = _CONV[axes - 1]
    if not call.tile:
        return convolve(x, weight, bias, strides, before, dilations, groups)
    # Channels of each group in tiles, so that a sum of one tile has about as many terms.
    grouped = x.unflatten(1, (groups, -1))
    whole = added(
        convolve(
            grouped[:, :, part].flatten(1, 2),
            weight[:, part],
            None,
            strides,
            before,
            dilations,
            groups,
        )
        for part in tiles(weight.shape[1], call.tile // math.prod(weight.shape[2:]))
    )
    return whole if bias is None else whole + bias.reshape(-1, *(1,) * axes)


def _conv_pads(
    call: Call,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Zeros before and after each axis.

    "same" is TensorFlow's rule: as many as make the output ceil(size / stride) long, the odd
    one behind ("same_lower": in front).
    """
    kind = call.text("pad_type", "valid")
    if kind == "valid":
        return [0] * len(sizes), [0] * len(sizes)
    if kind == "custom":
        pad = call.integers("pad", [0] * 2 * len(sizes))
        return pad[0::2], pad[1::2]
    spans = _spans(kernel, dilations)
    total = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, stride, span in zip(sizes, strides, spans, strict=True)
    ]
    less, more = [count // 2 for count in total], [(count + 1) // 2 for count in total]
    return (more, less) if kind == "same_lower" else (less, more)


def _conv_transpose(call: Call) -> Tensor:
    x, weight, bias = call.tensor("x"), call.tensor("weight"), call.optional("bias")
    axes = x.ndim - 2
    strides = call.integers("strides", [1] * axes)
    dilations = call.integers("dilations", [1] * axes)
    groups = call.integer("groups", 1)
    spread = _TRANSPOSED[axes - 1]
    whole: Tensor = spread(x, weight, None, strides, 0, 0, groups, dilations)
    starts, sizes = _window(call, x, weight, strides, dilations, whole.shape[2:])
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), 2):
        whole = whole.narrow(axis, start, min(size, whole.shape[axis] - start))
    # An output may be asked for that is longer than what the kernel reaches.
    missing = [size - have for size, have in zip(sizes, whole.shape[2:], strict=True)]
    if any(missing):
        whole = functional.pad(whole, [n for count in reversed(missing) for n in (0, count)])
    return whole if bias is None else whole + bias.reshape(-1, *(1,) * axes)


def _window(
    call: Call,
    x: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    whole: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Which part of the unpadded transpose is the output: first element and size per axis."""
    axes = x.ndim - 2
    kind = call.text("pad_type", "valid")
    shape = call.integers("output_shape")[-axes:] if call.has("output_shape") else None
    if kind == "custom":
        pad = call.integers("pad", [0] * 2 * axes)
        left = [
            size - before - after
            for size, before, after in zip(whole, pad[0::2], pad[1::2], strict=True)
        ]
        return pad[0::2], shape or left
    if kind == "valid":
        return [0] * axes, shape or list(whole)
    sizes = shape or [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    starts = [max(have - size, 0) // 2 for have, size in zip(whole, sizes, strict=True)]
    return starts, sizes


def _spans(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """How many elements a dilated kernel covers."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


TABLE: dict[str, Handler] = {"conv": _conv, "conv_transpose": _conv_transpose}
