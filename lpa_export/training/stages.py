"""The stages of a recipe: teacher from scratch, then replacement; each ends in a checkpoint.

A run folder belongs to one recipe: its text lies in the folder, and another one is refused, so
that a resumed run never mixes two.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from lpa_export.checkpoint import (
    LPASection,
    load_checkpoint,
    receptive_field,
    save_checkpoint,
)
from lpa_export.ctc import Vocabulary
from lpa_export.errors import LpaError
from lpa_export.layers import LPAConfig
from lpa_export.recipe import ArchitectureSettings, Recipe, TeacherSettings
from lpa_export.speech import data_hash, load_utterances
from lpa_export.surgery import lpa_layers
from lpa_export.training.data import SpeechSet
from lpa_export.training.files import load_weights
from lpa_export.training.frontend import fit_log_mel
from lpa_export.training.hardening import measure_hardening
from lpa_export.training.loop import BEST, STATE, Settings
from lpa_export.training.replace import Distillation, replace_progressively
from lpa_export.training.teacher import train_teacher

__all__ = ["CHARACTERS", "replace_stage", "teacher_stage"]

CHARACTERS = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def teacher_stage(recipe: Recipe, folder: Path) -> Path:
    """Train the attention teacher of `recipe`; returns its checkpoint, `folder`/checkpoint."""
    run = _Run.of(folder, recipe, "teacher")
    if run.checkpoint.is_dir():
        return run.checkpoint
    if recipe.model.architecture is None:
        raise LpaError(
            f"{recipe.name}: 'model' names a checkpoint, so there is no teacher to train"
        )
    settings = recipe.teacher
    torch.manual_seed(settings.seed)
    model = Wav2Vec2ForCTC(host_config(recipe.model.architecture))
    train, dev, _ = _speech(recipe, settings, CHARACTERS, _field(model))
    run.begin()
    if not (folder / STATE).is_file() and settings.frontend_steps:
        fit_log_mel(
            model,
            train,
            steps=settings.frontend_steps,
            learning_rate=settings.frontend_learning_rate,
            seed=settings.seed,
        )
    _train_cycle(model, train, dev, settings, folder)
    if recipe.refine is not None:
        train, dev, _ = _speech(recipe, recipe.refine, CHARACTERS, _field(model))
        _train_cycle(model, train, dev, recipe.refine, folder / "refine")
    return save_checkpoint(run.checkpoint, model, CHARACTERS, None)


def _train_cycle(
    model: Wav2Vec2ForCTC, train: SpeechSet, dev: SpeechSet, settings: TeacherSettings, folder: Path
) -> None:
    """One rise and fall of the learning rate; `model` ends with the best weights of the cycle."""
    _augment(model, settings)
    loop = Settings(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_seconds=settings.batch_seconds,
        seed=settings.seed,
        warmup_share=settings.warmup_share,
        weight_decay=settings.weight_decay,
        noise_share=settings.noise_share,
        average_epochs=settings.average_epochs,
    )
    weight = settings.intermediate_ctc
    train_teacher(model, train, dev, loop, folder, intermediate_weight=weight)
    load_weights(folder / BEST, model)


def replace_stage(recipe: Recipe, teacher: str | Path, folder: Path) -> Path:
    """Replace the recipe's layers of `teacher`; returns the LPA checkpoint, stored as float16.

    Its figures (WER in percent on the recipe's dev set, hardness per layer) are measured on the
    very weights that are stored, after rounding to float16.
    """
    source = load_checkpoint(teacher)
    run = _Run.of(folder, recipe, "replace", teacher=source.sha256)
    if run.checkpoint.is_dir():
        return run.checkpoint
    if not source.do_normalize:
        raise LpaError(f"{teacher}: takes waveforms as they are; training normalises every one")
    if source.lpa is not None:
        raise LpaError(f"{teacher}: has LPA layers already; give the attention teacher")
    section, settings = recipe.lpa, recipe.replace
    pulses = {k: v for k, v in asdict(section).items() if k != "layers"}
    config = LPAConfig(
        hidden_size=source.model.config.hidden_size,
        num_heads=source.model.config.num_attention_heads,
        **pulses,
    )
    augmentation = recipe.refine or recipe.teacher
    train, dev, digest = _speech(recipe, augmentation, source.vocabulary, source.receptive_field)
    run.begin()
    _augment(source.model, augmentation)
    student = copy.deepcopy(source.model)
    layer_settings = Settings(
        epochs=settings.epochs_per_layer,
        learning_rate=settings.learning_rate,
        batch_seconds=settings.batch_seconds,
        seed=settings.seed,
        weight_decay=augmentation.weight_decay,
        noise_share=augmentation.noise_share,
    )
    replace_progressively(
        source.model,
        student,
        section.layers,
        config,
        train,
        dev,
        layer_settings=layer_settings,
        joint_settings=replace(
            layer_settings,
            epochs=settings.joint_epochs,
            learning_rate=settings.joint_learning_rate,
            average_epochs=settings.average_epochs,
        ),
        distillation=Distillation(
            settings.hidden_weight,
            settings.logit_weight,
            settings.layer_temperature,
            settings.joint_temperature,
        ),
        folder=folder,
    )
    _round_to_half(student)
    temperature = settings.joint_temperature[1]
    for lpa in lpa_layers(student).values():
        lpa.temperature = temperature
    figures, hardness = measure_hardening(source.model, student, dev)
    trained = LPASection(
        layers=section.layers,
        pulses=pulses,
        temperature=temperature,
        name=recipe.name,
        hardness=hardness,
        figures=figures,
        training_data_sha256=digest,
    )
    return save_checkpoint(run.checkpoint, student, source.vocabulary, trained, half=True)


def host_config(shape: ArchitectureSettings) -> Wav2Vec2Config:
    """The wav2vec2 of a recipe in Hugging Face's words."""
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


def _augment(model: Wav2Vec2ForCTC, training: TeacherSettings) -> None:
    """Set SpecAugment and dropout, in the config and in the modules that are built already."""
    config = model.config
    config.hidden_dropout = config.feat_proj_dropout = config.final_dropout = training.dropout
    config.layerdrop = 0.0  # distillation compares layer by layer
    config.mask_time_prob = training.time_mask_probability
    config.mask_time_length = training.time_mask_length
    config.mask_feature_prob = training.feature_mask_probability
    config.mask_feature_length = training.feature_mask_length
    masks = config.mask_time_prob > 0 or config.mask_feature_prob > 0
    if masks and not hasattr(model.wav2vec2, "masked_spec_embed"):
        embedding = torch.empty(config.hidden_size).uniform_()
        model.wav2vec2.masked_spec_embed = nn.Parameter(embedding)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and not name.endswith("intermediate_dropout"):
            module.p = training.dropout


def _field(model: Wav2Vec2ForCTC) -> int:
    return receptive_field(model.config.conv_kernel, model.config.conv_stride)


# The sections of a recipe that a stage's result depends on: others may change between runs.
_TEACHER = ("name", "data", "model", "teacher", "refine")
_DECIDES = {"teacher": _TEACHER, "replace": (*_TEACHER, "lpa", "replace")}


@dataclass(frozen=True)
class _Run:
    """A run folder and the text of what it belongs to."""

    folder: Path
    text: str

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, stage: str, *, teacher: str = "") -> _Run:
        """The run in `folder`, new or begun; LpaError when the folder is another's."""
        sections = asdict(recipe)
        record = {name: sections[name] for name in _DECIDES[stage]}
        record |= {"stage": stage, "teacher_sha256": teacher}
        run = cls(folder, json.dumps(record, indent=1, default=_absolute) + "\n")
        if run.record.is_file():
            if run.record.read_text(encoding="utf-8") != run.text:
                raise LpaError(
                    f"{folder}: belongs to another recipe, teacher or stage; give another --out"
                )
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LpaError(f"{folder}: exists and is no run of this recipe; give another --out")
        return run

    @property
    def record(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def begin(self) -> None:
        """Make the folder this run's, once its data and model are known to be usable."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.record.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise LpaError(f"{self.folder}: cannot be written ({error.strerror})") from error


def _absolute(path: Path) -> str:
    """The same file is the same data, however its recipe was named on the command line."""
    return str(path.resolve())


def _speech(
    recipe: Recipe, training: TeacherSettings, vocabulary: Vocabulary, field: int
) -> tuple[SpeechSet, SpeechSet, str]:
    """Training speech at every speed, dev speech, and the hash of the training data."""
    if recipe.data is None:
        raise LpaError(f"{recipe.name}: has no 'data' section, so there is nothing to train on")
    sources = [*recipe.data.train]
    if recipe.data.synthetic is not None:
        voices = recipe.data.synthetic / "manifest.jsonl"
        if not voices.is_file():
            raise LpaError(f"{voices}: no synthetic voices there yet; make them with: make data")
        sources.append(voices)
    utterances = [utterance for source in sources for utterance in load_utterances(source)]
    speeds: Sequence[float] = training.speeds
    train = SpeechSet(utterances, vocabulary, receptive_field=field, speeds=speeds)
    dev = SpeechSet(load_utterances(recipe.data.dev), vocabulary, receptive_field=field)
    return train, dev, data_hash(utterances)


def _round_to_half(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
