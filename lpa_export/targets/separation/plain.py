"""A separator as plain values and named arrays, for runtimes that do not start from torch.

As `lpa_export.targets.plain` of recognisers, whose entries of layers and norms are the same.

    encoder; norm; narrow; blocks.0.intra.layers.0. (as an encoder's layer), blocks.0.intra.norm,
    blocks.0.intra_norm, and the same of inter; slope; split; signal; gate; widen; head

`head` (kernel, filters) is what a frame adds to the waveform.
"""

from __future__ import annotations

from typing import Any

from lpa_export.hosts.sepformer import SeparatorParts
from lpa_export.targets.plain import (
    Named,
    Plain,
    layer_structure,
    named_layer,
    named_of,
    norm_structure,
)

__all__ = ["STACKS", "plain_separator"]

STACKS = ("intra", "inter")
"""Of a block, in the order of computation."""


def plain_separator(parts: SeparatorParts) -> Plain:
    """The whole model. Raises LpaError as `plain_model` does."""
    arrays = {name: value.detach().float().numpy() for name, value in _named(parts)}
    return Plain(_structure(parts), arrays)


def _structure(parts: SeparatorParts) -> dict[str, Any]:
    config = parts.config
    return {
        "task": "separation",
        "kernel": config.kernel_size,
        "stride": config.stride,
        "chunk": config.chunk,
        "sources": config.sources,
        "blocks": [
            {
                name: {
                    "layers": [layer_structure(layer) for layer in getattr(block, name).layers],
                    "norm": norm_structure(getattr(block, name).norm),
                }
                for name in STACKS
            }
            for block in parts.blocks
        ],
    }


def _named(parts: SeparatorParts) -> Named:
    yield from named_of("encoder", parts.encoder)
    yield from named_of("norm", parts.norm)
    yield from named_of("narrow", parts.narrow)
    for number, block in enumerate(parts.blocks):
        for name in STACKS:
            place, stack = f"blocks.{number}.{name}", getattr(block, name)
            for index, layer in enumerate(stack.layers):
                yield from named_layer(f"{place}.layers.{index}", layer)
            yield from named_of(f"{place}.norm", stack.norm)
            yield from named_of(f"{place}_norm", getattr(block, f"{name}_norm"))
    yield "slope", parts.slope
    for name in ("split", "signal", "gate", "widen"):
        yield from named_of(name, getattr(parts, name))
    yield from named_of("head", parts.synthesis)
