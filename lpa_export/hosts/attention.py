"""What stands in the place of a host's attention, and swapping it in.

The adapter takes what the encoder layer hands to its attention (hidden states and a mask of any
of the forms transformers builds) and returns what it expects back, so that the host's own forward
pass, training mode and dropout keep working unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.hosts.parts import BiasGate
from lpa_export.layers import LPA, LPAConfig

__all__ = [
    "LPAAttention",
    "Layers",
    "Replaceable",
    "lpa_layers_of",
    "replace_layers_of",
    "valid_frames",
]


Layers = nn.ModuleList | list[Any]


class Replaceable(Protocol):
    """A family whose attention can be replaced, whatever its models are for.

    `model_type` as in config.json; `attention`: the attribute of a layer that mixes its frames.
    """

    @property
    def model_type(self) -> str: ...

    @property
    def attention(self) -> str: ...

    def layers(self, model: Any) -> Layers:
        """The layers that have attention, in the order in which they are counted."""
        ...

    def replacement(self, lpa: LPA, attention: Any) -> LPAAttention:
        """What stands for an attention that goes."""
        ...

    def gate(self, attention: Any) -> BiasGate | None:
        """How an attention opens its position bias, None where it has none."""
        ...


class LPAAttention(nn.Module):
    """Gives an LPA layer the signature of transformers' Wav2Vec2Attention and its likes."""

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        self.lpa = lpa

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """(B, T, D) in and out; second of the pair are attention weights: it has none."""
        return self.lpa(hidden_states, valid_frames(attention_mask)), None


def valid_frames(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """(B, T) bool from a key mask: bool (True is valid) or additive, (B, T) or (B, 1, q, T)."""
    if attention_mask is None:
        return None
    keys = attention_mask if attention_mask.dim() == 2 else attention_mask[:, 0, 0]
    if keys.dtype == torch.bool:
        return keys
    return keys > 0 if attention_mask.dim() == 2 else keys > -1.0


def lpa_layers_of(family: Replaceable, model: Any) -> dict[int, LPA]:
    """Index of the encoder layer -> its LPA, for the layers that have one."""
    attentions = (getattr(layer, family.attention) for layer in family.layers(model))
    return {
        index: attention.lpa
        for index, attention in enumerate(attentions)
        if isinstance(attention, LPAAttention)
    }


def replace_layers_of(
    family: Replaceable, model: Any, layers: Iterable[int], config: LPAConfig
) -> None:
    """Put an LPA in place of the attention of each of `layers`; all others stay untouched.

    Value and output projections are copied from the attention that goes, so that an LPA starts
    by averaging the very values the attention weighed. LpaError for a layer that is not there.
    """
    encoder = family.layers(model)
    for index in layers:
        if not 0 <= index < len(encoder):
            raise LpaError(
                f"layer {index} does not exist: the model has layers 0 to {len(encoder) - 1}"
            )
        layer = encoder[index]
        attention = getattr(layer, family.attention)
        if isinstance(attention, LPAAttention):
            raise LpaError(f"layer {index} is an LPA already")
        lpa = LPA(config)
        with torch.no_grad():
            for ours, theirs in ((lpa.value, attention.v_proj), (lpa.output, attention.out_proj)):
                ours.load_state_dict(theirs.state_dict())
        setattr(layer, family.attention, family.replacement(lpa, attention).train(layer.training))
