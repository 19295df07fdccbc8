"""Constants in fewer bits: stored masks in one, weights as int8 or palettes of 64 or 16 values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from coremltools.models import MLModel

    from lpa_export.targets.coreml.convert import Program

__all__ = ["COMPRESSED", "GROUP_CHANNELS", "compress"]

COMPRESSED = ("int8", "palette6", "palette4")
_PALETTE_BITS = {"palette6": 6, "palette4": 4}

GROUP_CHANNELS = 16
"""Output channels that share a palette where the system has grouped ones (iOS 18)."""

# What coremltools compresses at all begins here.
_MASK_ELEMENTS = 2048

# The head, which no later layer forgives, and what leads to window edges: an error there moves
# them by whole frames. All of them are small.
_KEPT = ("head", "controls", "edges", "context")


def compress(program: Program, precision: str, deployment_target: str) -> MLModel:
    """The model with its masks packed, and its weights compressed where the precision says so.

    Masks of zeros and ones become palettes of two values, one bit each: they grow with the square
    of the bucket and would outweigh a small model, and nothing of them is lost. Ramps and steps
    stay as they are. Before iOS 18 a palette serves a whole tensor. Call within
    `quiet_coremltools`.
    """
    model = (
        program.model
        if precision not in COMPRESSED
        else _weights(program, precision, deployment_target)
    )
    masks = list(_masks(program))
    if not masks:
        return model
    from coremltools.optimize import coreml

    # Without an axis coremltools leaves out what several kinds of operations read.
    exactly = coreml.OpPalettizerConfig(mode="unique", channel_axis=0)
    named = coreml.OptimizationConfig(op_name_configs={name: exactly for name in masks})
    return coreml.palettize_weights(model, named)


def _weights(program: Program, precision: str, deployment_target: str) -> MLModel:
    """The model with compressed weights of convolutions."""
    from coremltools.optimize import coreml

    if precision in _PALETTE_BITS:
        grouped = deployment_target >= "iOS18"
        weights: Any = coreml.OpPalettizerConfig(
            mode="kmeans",
            nbits=_PALETTE_BITS[precision],
            granularity="per_grouped_channel" if grouped else "per_tensor",
            group_size=GROUP_CHANNELS if grouped else 0,
        )
        compressor: Any = coreml.palettize_weights
    else:
        weights = coreml.OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype="int8", granularity="per_channel"
        )
        compressor = coreml.linear_quantize_weights
    config = coreml.OptimizationConfig(
        op_type_configs={"conv": weights},
        op_name_configs={name: None for name in _kept_weights(program)},
    )
    return compressor(program.model, config)


def _kept_weights(program: Program) -> Iterator[str]:
    """Names of the weights that stay in float16."""
    for operation in program.model._mil_program.functions["main"].operations:
        if operation.op_type == "conv":
            path = program.scopes[operation.outputs[0].name].split(".")
            if not set(_KEPT).isdisjoint(path):
                yield operation.weight.op.name


def _masks(program: Program) -> Iterator[str]:
    """Names of the large constants that hold nothing but zeros and ones."""
    for operation in program.model._mil_program.functions["main"].operations:
        if operation.op_type == "const":
            value = operation.outputs[0].val
            if np.size(value) >= _MASK_ELEMENTS and np.isin(value, (0, 1)).all():
                yield operation.name
