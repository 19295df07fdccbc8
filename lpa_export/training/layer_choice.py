"""Which layers a command is about: named, or the easiest of the sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lpa_export.errors import LpaError

__all__ = ["Easiest", "LayerChoice", "parse_layers", "require_layers"]


@dataclass(frozen=True)
class Easiest:
    """The first `count` layers of the sweep's order."""

    count: int


LayerChoice = Easiest | tuple[int, ...]


def parse_layers(text: str) -> LayerChoice:
    """`auto:4` or `0,1,2`; LpaError for anything else, and for a layer that is there twice."""
    if match := re.fullmatch(r"auto:([1-9][0-9]{0,3})", text):
        return Easiest(int(match[1]))
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", text):
        raise LpaError(f"expected layers as 0,1,2 or auto:4, found {text!r}")
    layers = tuple(map(int, text.split(",")))
    if len(set(layers)) != len(layers):
        raise LpaError(f"layers must differ, found {text}")
    return layers


def require_layers(layers: Sequence[int], count: int) -> None:
    """Raise LpaError for a layer that a model of `count` layers does not have."""
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside:
        raise LpaError(
            f"layer {outside[0]} does not exist: the model has layers 0 to {count - 1}; "
            "correct --layers or the recipe's lpa.layers"
        )
