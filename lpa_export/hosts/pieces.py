"""Taking the modules of transformers' wav2vec2 and its descendants apart, piece by piece."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lpa_export.hosts.attention import LPAAttention
from lpa_export.hosts.parts import (
    Adapter,
    Attention,
    BiasGate,
    FeatureLayer,
    FeedForward,
    Layer,
    LengthAdapter,
    PositionalLayer,
    PositionBias,
)
from lpa_export.layers import LPA

__all__ = [
    "attention_of",
    "encoder_layer",
    "feature_layer",
    "length_adapter",
    "no_gate",
    "no_position_bias",
    "plain_replacement",
    "positional_layer",
    "weight_normed",
]


def feature_layer(layer: Any) -> FeatureLayer:
    """One convolution of the front end; its norm is called `layer_norm`, of either kind."""
    norm = getattr(layer, "layer_norm", None)
    conv = _without_bias(layer.conv) if isinstance(norm, nn.GroupNorm) else layer.conv
    return FeatureLayer(conv, norm, layer.activation)


def _without_bias(conv: nn.Conv1d) -> nn.Conv1d:
    """A copy for a norm over time, which takes any constant out of a channel again.

    Left in it costs digits: under quiet speech a mean over thousands of frames is all bias.
    """
    if conv.bias is None:
        return conv
    bare = copy.deepcopy(conv)
    bare.bias = None
    return bare


def positional_layer(
    layer: Any, *, affine: tuple[torch.Tensor, torch.Tensor] | None = None
) -> PositionalLayer:
    """One convolution of the position embedding with what follows it.

    It is built anew: a copy of a weight-normed one shares its generated class, and removing the
    parametrisation there would take it from the model too.
    """
    source: nn.Conv1d = layer.conv
    conv = nn.Conv1d(
        source.in_channels,
        source.out_channels,
        source.kernel_size[0],
        padding=int(source.padding[0]),
        groups=source.groups,
        bias=source.bias is not None,
        device="meta",
    )
    state = {"weight": source.weight} | ({} if source.bias is None else {"bias": source.bias})
    conv.load_state_dict({name: t.detach().clone() for name, t in state.items()}, assign=True)
    norm = getattr(layer, "layer_norm", None)
    return PositionalLayer(
        conv=conv.requires_grad_(False),
        trim=int(layer.padding.num_pad_remove),
        affine=affine,
        norm=None if norm is None else _with_weight_and_bias(norm),
        activation=layer.activation,
    )


def weight_normed(embedding: Any) -> tuple[PositionalLayer, ...]:
    """wav2vec2's position embedding: one convolution under weight norm."""
    return (positional_layer(embedding),)


def _with_weight_and_bias(norm: nn.LayerNorm) -> nn.LayerNorm:
    """The norm itself, or where it has no weights of its own one that has ones and zeros."""
    if norm.elementwise_affine:
        return norm
    return nn.LayerNorm(norm.normalized_shape, eps=norm.eps).requires_grad_(False)


def encoder_layer(layer: Any, gate: Callable[[Any], BiasGate | None]) -> Layer:
    """One encoder layer with its attention or LPA."""
    attention, feed_forward = layer.attention, layer.feed_forward
    replaced = isinstance(attention, LPAAttention)
    return Layer(
        attention=None if replaced else attention_of(attention, gate(attention)),
        lpa=attention.lpa if replaced else None,
        norm=layer.layer_norm,
        feed_forward=FeedForward(
            feed_forward.intermediate_dense,
            feed_forward.intermediate_act_fn,
            feed_forward.output_dense,
        ),
        final_norm=layer.final_layer_norm,
        adapter=_adapter(getattr(layer, "adapter_layer", None)),
    )


def attention_of(attention: Any, gate: BiasGate | None = None) -> Attention:
    """The projections of an attention module with transformers' names for them."""
    return Attention(
        query=attention.q_proj,
        key=attention.k_proj,
        value=attention.v_proj,
        output=attention.out_proj,
        heads=attention.num_heads,
        scaling=attention.scaling,
        gate=gate,
    )


def _adapter(adapter: Any) -> Adapter | None:
    if adapter is None:
        return None
    return Adapter(adapter.norm, adapter.linear_1, adapter.act_fn, adapter.linear_2)


def length_adapter(adapter: Any) -> LengthAdapter | None:
    """The convolutions behind the encoder, None where there are none."""
    if adapter is None:
        return None
    convolutions = tuple(layer.conv for layer in adapter.layers)
    return LengthAdapter(adapter.proj, adapter.proj_layer_norm, convolutions)


def no_gate(_: Any) -> BiasGate | None:
    """The attention adds no position bias."""
    return None


def no_position_bias(_: nn.ModuleList) -> PositionBias | None:
    """The model has no relative positions."""
    return None


def plain_replacement(lpa: LPA, _: Any) -> LPAAttention:
    """What stands for wav2vec2's attention: nothing of it is needed further."""
    return LPAAttention(lpa)
