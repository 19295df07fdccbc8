"""A family of hosts: where its models keep their parts, in one table row per family.

All families descend from wav2vec2 and name most of their modules alike; what differs between them
is a field of `Host`, and its default is wav2vec2's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from lpa_export.errors import LpaError
from lpa_export.hosts import pieces
from lpa_export.hosts.attention import LPAAttention
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.hosts.parts import BiasGate, Parts, PositionalLayer, PositionBias

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["Host"]


@dataclass(frozen=True)
class Host:
    """One family. `model_type` as in config.json; the classes by their names in transformers.

    `backbone`: the attribute of the CTC model that holds all but the head; `attention`: that of an
    encoder layer that holds its attention. `positional` takes the module of the position embedding
    apart. `gate` and `position_bias` are for relative positions,
    None where a family has none. `replacement` makes what stands for an attention that goes.
    """

    model_type: str
    model_class: str
    config_class: str
    backbone: str
    attention: str = "attention"
    positional: Callable[[Any], tuple[PositionalLayer, ...]] = pieces.weight_normed
    gate: Callable[[Any], BiasGate | None] = pieces.no_gate
    position_bias: Callable[[nn.ModuleList], PositionBias | None] = pieces.no_position_bias
    replacement: Callable[[Any, Any], LPAAttention] = pieces.plain_replacement

    def config(self, content: dict[str, Any]) -> PretrainedConfig:
        """The configuration that `content` of a config.json describes."""
        import transformers

        return getattr(transformers, self.config_class).from_dict(content)

    def build(self, config: PretrainedConfig) -> PreTrainedModel:
        """A model of `config` with a CTC head, as transformers initialises it."""
        import transformers

        return getattr(transformers, self.model_class)(config)

    def body(self, model: PreTrainedModel) -> Any:
        """The model without its head."""
        return getattr(model, self.backbone)

    def layers(self, model: Any) -> nn.ModuleList:
        """The encoder layers; LpaError when the model has none where this family keeps them."""
        layers = getattr(getattr(self.body(model), "encoder", None), "layers", None)
        if not isinstance(layers, nn.ModuleList) or not isinstance(
            getattr(model, "lm_head", None), nn.Linear
        ):
            raise LpaError(f"{type(model).__name__}: expected {self.model_class}, with a CTC head")
        return layers

    def frames(self, config: PretrainedConfig) -> FrameArithmetic:
        """How many frames a model of `config` makes of so many samples."""
        return FrameArithmetic.of(config)

    def taps(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Tap name -> the module whose output it is, in the order of the model, without logits.

        (B, T, width), `features` (B, width, T); where a module returns several, it is the first.
        """
        body = self.body(model)
        return {
            "features": body.feature_extractor,
            "projection": body.feature_projection,
            # Identity in eval mode, and called exactly where both norm styles have embedded.
            "encoder.embed": body.encoder.dropout,
        } | {f"encoder.layers.{i}": layer for i, layer in enumerate(self.layers(model))}

    def parts(self, model: PreTrainedModel, *, do_normalize: bool) -> Parts:
        """What `model` is made of; `do_normalize` is its feature extractor's."""
        body, layers = self.body(model), self.layers(model)
        encoder = body.encoder
        return Parts(
            features=tuple(map(pieces.feature_layer, body.feature_extractor.conv_layers)),
            feature_norm=getattr(body.feature_projection, "layer_norm", None),
            projection=body.feature_projection.projection,
            positional=self.positional(encoder.pos_conv_embed),
            norm=encoder.layer_norm,
            norm_first=bool(getattr(model.config, "do_stable_layer_norm", False)),
            layers=tuple(pieces.encoder_layer(layer, self.gate) for layer in layers),
            length_adapter=pieces.length_adapter(getattr(body, "adapter", None)),
            head=cast(nn.Linear, model.lm_head),
            position_bias=self.position_bias(layers),
            do_normalize=do_normalize,
        )
