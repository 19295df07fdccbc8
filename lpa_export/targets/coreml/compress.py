"""Constants in fewer bits: stored masks in one, weights as int8 or palettes of 64 or 16 values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lpa_export.formats.schemes import PALETTES
from lpa_export.targets.skeleton import keeps_float

if TYPE_CHECKING:
    from coremltools.models import MLModel

    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.coreml.convert import Program

__all__ = ["GROUP_CHANNELS", "compress"]

GROUP_CHANNELS = 16
"""Output channels that share a palette where the system has grouped ones (iOS 18)."""

# What coremltools compresses at all begins here.
_MASK_ELEMENTS = 2048


def compress(program: Program, scheme: Scheme, deployment_target: str) -> MLModel:
    """The model with its masks packed, and its weights as the scheme wants them.

    Masks of zeros and ones become palettes of two values, one bit each: they grow with the square
    of the bucket and would outweigh a small model, and nothing of them is lost. Ramps and steps
    stay as they are. Before iOS 18 a palette serves a whole tensor. Call within
    `quiet`.
    """
    model = program.model
    if scheme.weights in _WEIGHTS:
        model = _WEIGHTS[scheme.weights](program, deployment_target >= "iOS18")
    masks = list(_masks(program))
    if not masks:
        return model
    from coremltools.optimize import coreml

    # Without an axis coremltools leaves out what several kinds of operations read.
    exactly = coreml.OpPalettizerConfig(mode="unique", channel_axis=0)
    named = coreml.OptimizationConfig(op_name_configs={name: exactly for name in masks})
    return coreml.palettize_weights(model, named)


def _palettes(bits: int) -> Callable[[Program, bool], MLModel]:
    """Weights of convolutions as palettes of 2 ** bits values, for groups of channels or all."""

    def compressor(program: Program, grouped: bool) -> MLModel:
        from coremltools.optimize import coreml

        weights = coreml.OpPalettizerConfig(
            mode="kmeans",
            nbits=bits,
            granularity="per_grouped_channel" if grouped else "per_tensor",
            group_size=GROUP_CHANNELS if grouped else 0,
        )
        return coreml.palettize_weights(program.model, _convolutions(program, weights))

    return compressor


def _int8(program: Program, _grouped: bool) -> MLModel:
    """Weights of convolutions in 8 bits, a scale for each channel."""
    from coremltools.optimize import coreml

    weights = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel"
    )
    return coreml.linear_quantize_weights(program.model, _convolutions(program, weights))


_WEIGHTS: Mapping[str, Callable[[Program, bool], MLModel]] = {
    "int8": _int8,
    **{name: _palettes(int(name.removeprefix("palette"))) for name in PALETTES},
}
"""What a scheme says of weights -> what makes them so; others stay as they are converted."""


def _convolutions(program: Program, weights: Any) -> Any:
    """The configuration `weights` for all convolutions but those that stay in float."""
    from coremltools.optimize import coreml

    return coreml.OptimizationConfig(
        op_type_configs={"conv": weights},
        op_name_configs={name: None for name in _kept_weights(program)},
    )


def _kept_weights(program: Program) -> Iterator[str]:
    """Names of the weights that stay in float16."""
    for operation in program.model._mil_program.functions["main"].operations:
        if operation.op_type != "conv":
            continue
        if keeps_float(program.scopes[operation.outputs[0].name]):
            yield operation.weight.op.name


def _masks(program: Program) -> Iterator[str]:
    """Names of the large constants that hold nothing but zeros and ones."""
    for operation in program.model._mil_program.functions["main"].operations:
        if operation.op_type == "const":
            value = operation.outputs[0].val
            if np.size(value) >= _MASK_ELEMENTS and np.isin(value, (0, 1)).all():
                yield operation.name
