"""Swapping self-attention for LPA in Hugging Face's Wav2Vec2ForCTC, in either norm style.

The adapter takes what the encoder layer hands to its attention (hidden states and a mask of any
of the forms transformers builds) and returns what it expects back, so that the host's own forward
pass, training mode and dropout keep working unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.layers import LPA, LPAConfig

__all__ = ["LPAAttention", "encoder_layers", "lpa_layers", "replace_layers"]


class LPAAttention(nn.Module):
    """Gives an LPA layer the signature of transformers' Wav2Vec2Attention."""

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        self.lpa = lpa

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
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


def encoder_layers(model: Wav2Vec2ForCTC) -> nn.ModuleList:
    """The encoder layers of the host; LpaError when it is no wav2vec2 CTC model."""
    encoder = getattr(getattr(model, "wav2vec2", None), "encoder", None)
    layers = getattr(encoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise LpaError(
            f"{type(model).__name__}: expected Wav2Vec2ForCTC, whose attention layers are known"
        )
    return layers


def lpa_layers(model: Wav2Vec2ForCTC) -> dict[int, LPA]:
    """Index of the encoder layer -> its LPA, for the layers that have one."""
    return {
        index: layer.attention.lpa
        for index, layer in enumerate(encoder_layers(model))
        if isinstance(layer.attention, LPAAttention)
    }


def replace_layers(model: Wav2Vec2ForCTC, layers: Iterable[int], config: LPAConfig) -> None:
    """Put an LPA in place of the attention of each of `layers`; all others stay untouched.

    Value and output projections are copied from the attention that goes, so that an LPA starts
    by averaging the very values the attention weighed. LpaError for a layer that is not there.
    """
    encoder = encoder_layers(model)
    for index in layers:
        if not 0 <= index < len(encoder):
            raise LpaError(
                f"layer {index} does not exist: the model has layers 0 to {len(encoder) - 1}"
            )
        attention: Any = encoder[index].attention
        if isinstance(attention, LPAAttention):
            raise LpaError(f"layer {index} is an LPA already")
        lpa = LPA(config)
        with torch.no_grad():
            for ours, theirs in ((lpa.value, attention.v_proj), (lpa.output, attention.out_proj)):
                ours.load_state_dict(theirs.state_dict())
        encoder[index].attention = LPAAttention(lpa).train(model.training)
