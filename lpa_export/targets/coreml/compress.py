"""Constants in fewer bits: stored masks in one, weights as int8 or palettes of 64 or 16 values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.formats.manifest import Compression
from lpa_export.formats.schemes import PALETTES
from lpa_export.targets.skeleton import keeps_float

if TYPE_CHECKING:
    from coremltools.models import MLModel

    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.coreml.convert import Program

__all__ = ["GROUP_CHANNELS", "Compressed", "compress", "group_size"]

GROUP_CHANNELS = 16
"""Output channels that share a palette where the system has grouped ones (iOS 18), at most."""

# What coremltools compresses at all begins here.
_LEAST_ELEMENTS = 2048


@dataclass(frozen=True)
class Compressed:
    """A model, and how much of its weights is stored in fewer bits."""

    model: MLModel
    share: Compression


def compress(program: Program, scheme: Scheme, deployment_target: str) -> Compressed:
    """The model with its masks packed, and its weights as the scheme wants them.

    Masks of zeros and ones become palettes of two values, one bit each: they grow with the square
    of the bucket and would outweigh a small model, and nothing of them is lost. Ramps and steps
    stay as they are. Before iOS 18 a palette serves a whole tensor. Call within
    `quiet`.
    """
    model = program.model
    if scheme.weights in _WEIGHTS:
        model = _WEIGHTS[scheme.weights](program, deployment_target >= "iOS18")
    share = _counted(model, program.scopes)
    masks = list(_masks(program))
    if not masks:
        return Compressed(model, share)
    from coremltools.optimize import coreml

    # Without an axis coremltools leaves out what several kinds of operations read.
    exactly = coreml.OpPalettizerConfig(mode="unique", channel_axis=0)
    named = coreml.OptimizationConfig(op_name_configs={name: exactly for name in masks})
    return Compressed(coreml.palettize_weights(model, named), share)


def group_size(channels: int) -> int:
    """The most channels, up to `GROUP_CHANNELS`, that divide so many into whole groups."""
    return next(size for size in range(GROUP_CHANNELS, 0, -1) if channels % size == 0)


def _palettes(bits: int) -> Callable[[Program, bool], MLModel]:
    """Weights of convolutions as palettes of 2 ** bits values, for groups of channels or all."""

    def compressor(program: Program, grouped: bool) -> MLModel:
        from coremltools.optimize import coreml

        def weights(channels: int) -> Any:
            return coreml.OpPalettizerConfig(
                mode="kmeans",
                nbits=bits,
                granularity="per_grouped_channel" if grouped else "per_tensor",
                group_size=group_size(channels) if grouped else 0,
            )

        return coreml.palettize_weights(program.model, _convolutions(program, weights))

    return compressor


def _int8(program: Program, _grouped: bool) -> MLModel:
    """Weights of convolutions in 8 bits, a scale for each channel."""
    from coremltools.optimize import coreml

    weights = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel"
    )
    return coreml.linear_quantize_weights(
        program.model, _convolutions(program, lambda channels: weights)
    )


_WEIGHTS: Mapping[str, Callable[[Program, bool], MLModel]] = {
    "int8": _int8,
    **{name: _palettes(int(name.removeprefix("palette"))) for name in PALETTES},
}
"""What a scheme says of weights -> what makes them so; others stay as they are converted."""


def _convolutions(program: Program, weights: Callable[[int], Any]) -> Any:
    """The configuration `weights` (of so many channels) for each weight that is to be compressed.

    Weight by weight: by their kind of operation it would hold for biases too, and coremltools
    refuses a constant that a convolution shares with anything else, as all-zero biases and the
    shifts of norms are.
    """
    from coremltools.optimize import coreml

    wanted: dict[str, Any] = {}
    kept: set[str] = set()
    for operation in _operations(program.model, "conv"):
        weight = operation.weight
        if keeps_float(program.scopes[operation.outputs[0].name]):
            kept.add(weight.op.name)
        elif weight.op.op_type == "const":
            wanted[weight.op.name] = weights(weight.shape[0])
    chosen = {name: config for name, config in wanted.items() if name not in kept}
    return coreml.OptimizationConfig(op_name_configs=chosen)


def _counted(model: MLModel, scopes: Mapping[str, str]) -> Compression:
    """What became of the weights: looked up in the compressed program, not in what was asked."""
    from coremltools.converters.mil.mil import types

    counts = dict.fromkeys(("total", "eligible", "compressed"), 0)
    seen: set[str] = set()
    for operation in _operations(model, "conv"):
        weight = operation.weight
        if weight.name in seen:
            continue
        seen.add(weight.name)
        elements = int(np.prod(weight.shape))
        size = elements * np.dtype(types.nptype_from_builtin(weight.dtype)).itemsize
        counts["total"] += size
        if elements >= _LEAST_ELEMENTS and not keeps_float(scopes[operation.outputs[0].name]):
            counts["eligible"] += size
            counts["compressed"] += size * weight.op.op_type.startswith("constexpr_")
    return Compression(**counts)


def _operations(model: MLModel, kind: str) -> Iterator[Any]:
    for operation in model._mil_program.functions["main"].operations:
        if operation.op_type == kind:
            yield operation


def _masks(program: Program) -> Iterator[str]:
    """Names of the large constants that hold nothing but zeros and ones."""
    for operation in _operations(program.model, "const"):
        value = operation.outputs[0].val
        if np.size(value) >= _LEAST_ELEMENTS and np.isin(value, (0, 1)).all():
            yield operation.name
