"""The order of `Parts` as a plain forward pass of one utterance: what a skeleton has to equal."""

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.hosts.parts import Attention, Layer, LengthAdapter, Parts, PositionalLayer


def forward(parts: Parts, waveform: Tensor) -> Tensor:
    """(samples,) -> logits (frames, V)."""
    if parts.do_normalize:
        waveform = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
    image = waveform[None, None]
    for feature in parts.features:
        image = feature.conv(image)
        if isinstance(feature.norm, torch.nn.LayerNorm):
            image = feature.norm(image.transpose(1, 2)).transpose(1, 2)
        elif feature.norm is not None:
            image = feature.norm(image)
        image = feature.activation(image)
    hidden = image[0].T
    if parts.feature_norm is not None:
        hidden = parts.feature_norm(hidden)
    hidden = parts.projection(hidden)
    embedded = hidden
    for positional in parts.positional:
        embedded = _positional(positional, embedded)
    hidden = hidden + embedded
    if not parts.norm_first:
        hidden = parts.norm(hidden)
    bias = None if parts.position_bias is None else parts.position_bias.of_pairs(len(hidden))
    for layer in parts.layers:
        hidden = _layer(layer, hidden, bias, norm_first=parts.norm_first)
    if parts.norm_first:
        hidden = parts.norm(hidden)
    if parts.length_adapter is not None:
        hidden = _length_adapter(parts.length_adapter, hidden)
    return parts.head(hidden)


def _positional(layer: PositionalLayer, hidden: Tensor) -> Tensor:
    frames = len(hidden)
    if layer.affine is not None:
        scale, shift = layer.affine
        hidden = hidden * scale + shift
    image = layer.conv(hidden.T[None])
    hidden = image[0, :, : image.shape[2] - layer.trim].T
    assert len(hidden) == frames
    if layer.norm is not None:
        assert layer.norm.weight is not None and layer.norm.bias is not None
        hidden = layer.norm(hidden)
    return layer.activation(hidden)


def _layer(layer: Layer, hidden: Tensor, bias: Tensor | None, *, norm_first: bool) -> Tensor:
    mixed = layer.norm(hidden) if norm_first else hidden
    if layer.lpa is not None:
        assert layer.attention is None
        mixed = layer.lpa(mixed[None])[0]
    else:
        assert layer.attention is not None
        mixed = _attention(layer.attention, mixed, bias)
    forward = layer.feed_forward

    def fed(x: Tensor) -> Tensor:
        return forward.contract(forward.activation(forward.expand(x)))

    if norm_first:
        hidden = hidden + mixed
        hidden = hidden + fed(layer.final_norm(hidden))
    else:
        hidden = layer.norm(hidden + mixed)
        hidden = layer.final_norm(hidden + fed(hidden))
    if layer.adapter is not None:
        adapter = layer.adapter
        hidden = hidden + adapter.up(adapter.activation(adapter.down(adapter.norm(hidden))))
    return hidden


def _attention(attention: Attention, hidden: Tensor, bias: Tensor | None) -> Tensor:
    def heads(x: Tensor) -> Tensor:
        return x.view(len(x), attention.heads, -1).transpose(0, 1)

    query, key, value = (
        heads(part(hidden)) for part in (attention.query, attention.key, attention.value)
    )
    scores = attention.scaling * (query @ key.transpose(1, 2))
    if attention.gate is not None:
        assert bias is not None
        a, b = attention.gate.linear(heads(hidden)).sigmoid().split(1, dim=-1)
        scores = scores + (a * (b * attention.gate.constant - 1.0) + 2.0) * bias
    mixed = scores.softmax(dim=-1) @ value
    return attention.output(mixed.transpose(0, 1).reshape(len(hidden), -1))


def _length_adapter(adapter: LengthAdapter, hidden: Tensor) -> Tensor:
    if adapter.projection is not None and adapter.norm is not None:
        hidden = adapter.norm(adapter.projection(hidden))
    image = hidden.T[None]
    for conv in adapter.convolutions:
        image = functional.glu(conv(image), dim=1)
    return image[0].T
