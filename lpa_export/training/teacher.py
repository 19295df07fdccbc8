"""The attention teacher: the model it starts as, the noise it is trained with, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import ArchitectureSettings, Recipe, TeacherSettings
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import host_of
from lpa_export.training.batches import Batch, SpeechBatches, SpeechSet
from lpa_export.training.evaluate import word_error_rate
from lpa_export.training.loop import Conduct, Progress, Settings, optimise
from lpa_export.training.losses import teacher_loss

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

    from lpa_export.formats.checkpoint import Checkpoint

__all__ = ["CHARACTERS", "augment", "host_config", "require_shape", "train_teacher"]

CHARACTERS = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def host_config(shape: ArchitectureSettings) -> Wav2Vec2Config:
    """The wav2vec2 of a recipe in Hugging Face's words."""
    from transformers import Wav2Vec2Config

    return Wav2Vec2Config(
        vocab_size=len(CHARACTERS),
        pad_token_id=CHARACTERS.blank,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        conv_dim=shape.conv_dim,
        conv_kernel=shape.conv_kernel,
        conv_stride=shape.conv_stride,
        feat_extract_norm=shape.feat_extract_norm,
        conv_bias=shape.conv_bias,
        num_conv_pos_embeddings=shape.positional_kernel,
        num_conv_pos_embedding_groups=shape.positional_groups,
        do_stable_layer_norm=shape.norm == "pre",
        # Dropout of attention weights and inside the FFN costs a quarter of the time on a CPU.
        attention_dropout=0.0,
        activation_dropout=0.0,
        layerdrop=0.0,
    )


_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "do_stable_layer_norm",
    "vocab_size",
)


def require_shape(recipe: Recipe, source: Checkpoint) -> None:
    """LpaError where a recipe describes its teacher, and describes another one than this."""
    if recipe.model.architecture is None:
        return
    expected, found = host_config(recipe.model.architecture), source.model.config
    for name in _SHAPE:
        wanted, has = (_plain(getattr(config, name)) for config in (expected, found))
        if wanted != has:
            raise LpaError(
                f"{source.name}: {name} is {has}, but {recipe.name} describes a model with "
                f"{wanted}; give a teacher that this recipe has trained"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def augment(model: Any, training: TeacherSettings) -> None:
    """Set SpecAugment and dropout, in the config and in the modules that are built already."""
    config, body = model.config, host_of(model).body(model)
    config.hidden_dropout = config.feat_proj_dropout = config.final_dropout = training.dropout
    config.layerdrop = 0.0  # distillation compares layer by layer
    config.mask_time_prob = training.time_mask_probability
    config.mask_time_length = training.time_mask_length
    config.mask_feature_prob = training.feature_mask_probability
    config.mask_feature_length = training.feature_mask_length
    masks = config.mask_time_prob > 0 or config.mask_feature_prob > 0
    if masks and not hasattr(body, "masked_spec_embed"):
        embedding = torch.empty(config.hidden_size).uniform_()
        body.masked_spec_embed = nn.Parameter(embedding)
    for name, module in model.named_modules():
        if hasattr(module, "layerdrop"):
            module.layerdrop = 0.0  # an `add_adapter` would change the number of frames by chance
        if isinstance(module, nn.Dropout) and not name.endswith("intermediate_dropout"):
            module.p = training.dropout


def train_teacher(
    model: Any,
    train: SpeechSet,
    dev: SpeechSet,
    teacher: TeacherSettings,
    settings: Settings,
    folder: Path,
    conduct: Conduct | None = None,
) -> Progress:
    """One rise and fall of the learning rate, in place; state and best weights lie in `folder`."""
    augment(model, teacher)

    def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
        return teacher_loss(model, batch, teacher.intermediate_ctc)

    def evaluate() -> dict[str, float]:
        return {"wer": 100 * word_error_rate(model, dev)}

    batches = SpeechBatches(train, teacher.batch_seconds, settings.seed, teacher.noise_share)
    return optimise(model, loss, batches, settings, folder, evaluate=evaluate, conduct=conduct)
