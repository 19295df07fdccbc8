"""The arrays of a plain model as MLX keeps them in a scheme, and how many bytes that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

from lpa_export.formats.manifest import Compression
from lpa_export.targets.skeleton import keeps_float

if TYPE_CHECKING:
    import numpy as np

    from lpa_export.formats.schemes import Scheme

__all__ = ["BITS", "Kept", "kept"]

BITS = {"int8": 8, "int4": 4}
"""Bits of a weight in the schemes that quantise; in the others none are quantised."""

_FLOAT = 32
"""Bits of a scale, of a bias, and of a weight that is not quantised, in schemes that quantise."""

_TYPES = {"fp32": mx.float32, "fp16": mx.float16, "bf16": mx.bfloat16}
# Looked up by distance and multiplied by a gate: it is small, and its errors are everywhere.
_WIDE = ("position_bias.table",)


@dataclass(frozen=True)
class Kept:
    """The arrays by name, and what was quantised; None: nothing was to be."""

    arrays: dict[str, mx.array]
    compression: Compression | None


def kept(arrays: Mapping[str, np.ndarray], scheme: Scheme, group_size: int) -> Kept:
    """Arrays of `lpa_export.targets.plain` in the scheme.

    Linear maps are quantised, but for those that stay as they are in every scheme; MLX has no
    product of a convolution with quantised weights. An input width that `group_size` does not
    divide is filled up with zeros, where that takes fewer bytes than floats: `Weights.linear` gives
    it zeros to multiply them by.
    """
    bits = BITS.get(scheme.weights)
    made: dict[str, mx.array] = {}
    total = eligible = compressed = 0
    for name, array in arrays.items():
        place = name.rpartition(".")[0]
        wide = keeps_float(place) or name in _WIDE
        value = mx.array(array).astype(mx.float32 if wide else _TYPES[scheme.compute])
        if array.ndim == 3:
            value = mx.contiguous(value.swapaxes(1, 2))
        weighs = array.nbytes if array.ndim > 1 and name.endswith(".weight") else 0
        to_quantise = bits is not None and array.ndim == 2 and not wide and weighs > 0
        total += weighs
        eligible += weighs if to_quantise else 0
        if to_quantise and _saves(array.shape[1], group_size, bits):
            compressed += weighs
            filled = mx.pad(value, [(0, 0), (0, -array.shape[1] % group_size)])
            parts = mx.quantize(filled, group_size=group_size, bits=bits)
            for kind, part in zip(("weight", "scales", "biases"), parts, strict=True):
                made[f"{place}.{kind}"] = part
        else:
            made[name] = value
    mx.eval(list(made.values()))
    counted = Compression(total=total, eligible=eligible, compressed=compressed)
    return Kept(made, None if bits is None else counted)


def _saves(width: int, group_size: int, bits: int | None) -> bool:
    """Whether a row of so many inputs is smaller in groups, a scale and a bias in each."""
    groups = -(-width // group_size)
    return bits is not None and groups * (group_size * bits + 2 * _FLOAT) < width * _FLOAT
