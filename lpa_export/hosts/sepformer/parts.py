"""What a SepFormer is made of: only names and numbers, as `lpa_export.hosts.parts` of recognisers.

`lpa_export.hosts.sepformer.model` has the order in which they are computed. The modules are the
model's own, but those that a line calls a copy; whoever changes one copies it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.hosts.attention import LPAAttention
from lpa_export.hosts.parts import FeedForward, Layer
from lpa_export.hosts.pieces import attention_of
from lpa_export.hosts.sepformer.config import SepFormerConfig
from lpa_export.hosts.sepformer.model import GlobalNorm, SepFormer, TransformerLayer

__all__ = ["Block", "SeparatorParts", "Stack", "separator_parts"]


@dataclass(frozen=True)
class Stack:
    """Sinusoids, layers with their norms first, a norm. `position_bias`: as in other hosts."""

    layers: tuple[Layer, ...]
    norm: nn.LayerNorm
    position_bias: None = None


@dataclass(frozen=True)
class Block:
    """Layers within each chunk and a global norm, then across chunks and a norm; a skip each."""

    intra: Stack
    intra_norm: GlobalNorm
    inter: Stack
    inter_norm: GlobalNorm


@dataclass(frozen=True)
class SeparatorParts:
    """A whole model. The linear maps and those of attention are copies.

    `narrow`: filters to hidden; `split`: hidden to hidden of each source, behind a PReLU of
    `slope` (1,); `mask` = tanh(`signal`) sigmoid(`gate`), then `widen` to filters and a ReLU.
    `synthesis` (kernel, filters): what a frame adds to the waveform is the frame times it.
    """

    config: SepFormerConfig
    encoder: nn.Conv1d
    norm: GlobalNorm
    narrow: nn.Linear
    blocks: tuple[Block, ...]
    slope: Tensor
    split: nn.Linear
    signal: nn.Linear
    gate: nn.Linear
    widen: nn.Linear
    synthesis: nn.Linear

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All transformer layers, in the order of computation."""
        return tuple(
            layer
            for block in self.blocks
            for stack in (block.intra, block.inter)
            for layer in stack.layers
        )

    @property
    def taps(self) -> dict[str, str]:
        """Each tap and what ends there (frontend, lpa, attention or head), in the model's order.

        A tap behind every stack: one behind every layer would make golden clips weigh megabytes.
        """
        kinds = {"encoder": "frontend"}
        for number, block in enumerate(self.blocks):
            for name, stack in (("intra", block.intra), ("inter", block.inter)):
                replaced = any(layer.lpa is not None for layer in stack.layers)
                kinds[f"blocks.{number}.{name}"] = "lpa" if replaced else "attention"
        return kinds | {"sources": "head"}


def separator_parts(model: SepFormer) -> SeparatorParts:
    """Take a model apart."""
    masker: Any = model.masknet
    blocks: Any = masker.dual_mdl
    return SeparatorParts(
        config=model.config,
        encoder=model.encoder.conv1d,
        norm=masker.norm,
        narrow=_linear(masker.conv1d),
        blocks=tuple(
            Block(
                intra=_stack(block.intra_mdl),
                intra_norm=block.intra_norm,
                inter=_stack(block.inter_mdl),
                inter_norm=block.inter_norm,
            )
            for block in blocks
        ),
        slope=masker.prelu.weight,
        split=_linear(masker.conv2d),
        signal=_linear(masker.output[0]),
        gate=_linear(masker.output_gate[0]),
        widen=_linear(masker.end_conv1x1),
        synthesis=_of(model.decoder.weight[:, 0].T, None),
    )


def _stack(stack: Any) -> Stack:
    return Stack(tuple(map(_layer, stack.mdl.layers)), stack.mdl.norm.norm)


def _layer(layer: TransformerLayer) -> Layer:
    attention: Any = layer.self_att
    replaced = isinstance(attention, LPAAttention)
    expand, activation, _, contract = layer.pos_ffn.ffn
    return Layer(
        attention=None if replaced else attention_of(attention),
        lpa=attention.lpa if replaced else None,
        norm=layer.norm1.norm,
        feed_forward=FeedForward(_as(nn.Linear, expand), activation, _as(nn.Linear, contract)),
        final_norm=layer.norm2.norm,
        adapter=None,
    )


def _as(kind: type[nn.Linear], module: nn.Module) -> nn.Linear:
    assert isinstance(module, kind)
    return module


def _linear(conv: Any) -> nn.Linear:
    """A convolution of one frame as the linear map that it is."""
    return _of(conv.weight.flatten(1), conv.bias)


def _of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    state = {"weight": weight} | ({} if bias is None else {"bias": bias})
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    made.load_state_dict(copies, assign=True)
    return made.requires_grad_(False)
