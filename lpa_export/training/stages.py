"""The stages of a recipe: teacher from scratch, sweep, replacement.

A run folder belongs to one recipe: its text lies in the folder, and another one is refused, so
that a resumed run never mixes two.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import (
    Checkpoint,
    LPASection,
    load_checkpoint,
    save_checkpoint,
)
from lpa_export.formats.recipe import Recipe, TeacherSettings, TrainingSettings
from lpa_export.formats.speech import data_hash
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import encoder_layers, lpa_layers
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.training.chart import draw_sweep
from lpa_export.training.data import SpeechSet
from lpa_export.training.files import is_main_process, load_weights
from lpa_export.training.frontend import fit_log_mel
from lpa_export.training.hardening import measure_hardening
from lpa_export.training.host import CHARACTERS, augment, host_config
from lpa_export.training.layer_choice import Easiest, LayerChoice, require_layers
from lpa_export.training.loop import BEST, STATE, Settings
from lpa_export.training.ranking import SWEEP, Ranking, read_ranking, write_ranking
from lpa_export.training.recipe_speech import spliced_speech, sweep_speech, training_speech
from lpa_export.training.replace import Replacement
from lpa_export.training.run_folder import RunFolder
from lpa_export.training.sweep import easiest_first, fit_layers
from lpa_export.training.teacher import train_teacher
from lpa_export.training.transcripts import write_transcripts
from lpa_export.training.workers import accelerator

__all__ = ["CHARACTERS", "attention_teacher", "replace_stage", "sweep_stage", "teacher_stage"]


def teacher_stage(recipe: Recipe, folder: Path) -> Path:
    """Train the attention teacher of `recipe`; returns its checkpoint, `folder`/checkpoint.

    It is stored as float16.
    """
    run = RunFolder.of(folder, _sections(recipe, _TEACHER), "teacher")
    if run.checkpoint.is_dir():
        return run.checkpoint
    if recipe.model.architecture is None:
        raise LpaError(
            f"{recipe.name}: 'model' names a checkpoint, so there is no teacher to train"
        )
    settings = recipe.teacher
    torch.manual_seed(settings.seed)
    model = Wav2Vec2ForCTC(host_config(recipe.model.architecture))
    train, dev, _ = training_speech(recipe, settings, CHARACTERS, _field(model))
    run.begin()
    if not (folder / STATE).is_file() and settings.frontend_steps:
        fit_log_mel(
            model,
            train,
            steps=settings.frontend_steps,
            learning_rate=settings.frontend_learning_rate,
            seed=settings.seed,
        )
    _train_cycle(model, train, dev, settings, recipe.training, folder)
    for number, cycle in enumerate(recipe.refine):
        spliced = partial(spliced_speech, recipe, model, CHARACTERS, run, number)
        train, dev, _ = training_speech(recipe, cycle, CHARACTERS, _field(model), spliced)
        _train_cycle(model, train, dev, cycle, recipe.training, folder / f"refine{number}")
    _round_to_half(model)
    return _save(run, model, CHARACTERS, None, half=True)


def _train_cycle(
    model: Wav2Vec2ForCTC,
    train: SpeechSet,
    dev: SpeechSet,
    settings: TeacherSettings,
    training: TrainingSettings,
    folder: Path,
) -> None:
    """One rise and fall of the learning rate; `model` ends with the best weights of the cycle."""
    augment(model, settings)
    loop = Settings(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_seconds=settings.batch_seconds,
        seed=settings.seed,
        warmup_share=settings.warmup_share,
        weight_decay=settings.weight_decay,
        noise_share=settings.noise_share,
        average_epochs=settings.average_epochs,
        **asdict(training),
    )
    weight = settings.intermediate_ctc
    train_teacher(model, train, dev, loop, folder, intermediate_weight=weight)
    load_weights(folder / BEST, model)


def sweep_stage(
    recipe: Recipe, teacher: str | Path, folder: Path, layers: Sequence[int] | None = None
) -> Ranking:
    """Fit an LPA to `layers` of `teacher` (default: all); writes sweep.json and sweep.png.

    Layers that `folder` holds figures of already are not fitted again.
    """
    source = attention_teacher(teacher)
    count = len(encoder_layers(source.model))
    layers = range(count) if layers is None else layers
    require_layers(layers, count)
    sections = _sections(recipe, ("data", "sweep"))
    sections |= {"lpa": recipe.lpa.shape, "initialise": recipe.replace.initialise}
    run = RunFolder.of(folder, sections, "sweep", teacher=source.sha256)
    path, picture = folder / SWEEP, (folder / SWEEP).with_suffix(".png")
    known = read_ranking(path).fits if path.is_file() else ()
    missing = [layer for layer in layers if layer not in {fit.layer for fit in known}]
    if missing:
        made = _rank(recipe, source, missing, run)
        write_ranking(path, replace(made, fits=easiest_first((*known, *made.fits))))
        accelerator().wait_for_everyone()
    ranking = read_ranking(path)
    if missing or not picture.is_file():
        draw_sweep(picture, ranking)
    return ranking


def _rank(recipe: Recipe, source: Checkpoint, layers: Sequence[int], run: RunFolder) -> Ranking:
    """Fit an LPA to each of `layers`; `run` begins once the speech is known to be usable."""
    chosen = sweep_speech(recipe)
    fitted, held_out = (
        SpeechSet(part, source.vocabulary, receptive_field=source.receptive_field)
        for part in chosen.values()
    )
    run.begin()
    source.model.to(accelerator().device)
    settings, how = recipe.sweep, recipe.replace.initialise
    config = _lpa_config(recipe, source.model)
    return Ranking(
        recipe=recipe.name,
        teacher_sha256=source.sha256,
        pulses=recipe.lpa.shape,
        initialise=how,
        settings=asdict(settings),
        speech={
            name: {"utterances": len(part), "sha256": data_hash(part)}
            for name, part in chosen.items()
        },
        fits=fit_layers(source.model, layers, config, fitted, held_out, settings, how),
    )


def replace_stage(
    recipe: Recipe,
    teacher: str | Path,
    folder: Path,
    *,
    layers: LayerChoice | None = None,
    sweep: Path | None = None,
    shared: Path | None = None,
) -> Path:
    """Replace `layers` of `teacher`; returns the LPA checkpoint, stored as float16.

    `layers`: the recipe's by default; for the easiest ones the sweep's folder is `sweep`, beside
    `folder` by default, and the sweep is run first where it has not been. `shared`: see
    `Replacement`. The checkpoint's figures (WER in percent on the recipe's dev set, hardness per
    layer) and the transcripts beside it are of the very weights that are stored, after rounding
    to float16.
    """
    source = attention_teacher(teacher)
    count = len(encoder_layers(source.model))
    if isinstance(layers, Easiest):
        if layers.count > count:
            raise LpaError(f"auto:{layers.count} asks for more than the model's {count} layers")
        ranking = sweep_stage(recipe, teacher, sweep or folder.with_name("sweep"))
        layers = ranking.order[: layers.count]
    layers = recipe.lpa.layers if layers is None else layers
    require_layers(layers, count)
    if not layers:
        raise LpaError(
            f"{recipe.name}: no layer to replace; give --layers or the recipe's lpa.layers"
        )
    recipe = replace(recipe, lpa=replace(recipe.lpa, layers=layers))
    run = RunFolder.of(
        folder,
        _sections(recipe, (*_TEACHER, "lpa", "replace")),
        "replace",
        teacher=source.sha256,
    )
    if run.checkpoint.is_dir():
        return run.checkpoint
    settings = recipe.replace
    augmentation = (recipe.teacher, *recipe.refine)[-1]
    spliced = partial(spliced_speech, recipe, source.model, source.vocabulary, run)
    train, dev, digest = training_speech(
        recipe, augmentation, source.vocabulary, source.receptive_field, spliced
    )
    run.begin()
    augment(source.model, augmentation)
    layer_loop = Settings(
        epochs=settings.epochs_per_layer,
        learning_rate=settings.learning_rate,
        batch_seconds=settings.batch_seconds,
        seed=settings.seed,
        weight_decay=augmentation.weight_decay,
        noise_share=augmentation.noise_share,
        **asdict(recipe.training),
    )
    joint_loop = replace(
        layer_loop,
        epochs=settings.joint_epochs,
        learning_rate=settings.joint_learning_rate,
        average_epochs=settings.average_epochs,
    )
    student = copy.deepcopy(source.model)
    config = _lpa_config(recipe, source.model)
    replacement = Replacement(source.model, student, config, train, dev, settings, folder, shared)
    trail = replacement.run(layers, layer_loop, joint_loop)
    _round_to_half(student)
    temperature = settings.joint_temperature[1]
    for lpa in lpa_layers(student).values():
        lpa.temperature = temperature
    hardening = measure_hardening(source.model, student, dev)
    write_transcripts(folder, dev.utterances, hardening.transcripts)
    trained = LPASection(
        layers=tuple(sorted(trail.layers)),
        pulses=Pulses(**recipe.lpa.shape),
        temperature=temperature,
        name=recipe.name,
        hardness=dict(hardening.layers),
        figures=dict(hardening.figures),
        training_data_sha256=digest,
    )
    return _save(run, student, source.vocabulary, trained, half=True)


def attention_teacher(teacher: str | Path) -> Checkpoint:
    """The checkpoint whose attention is to be replaced; LpaError when it cannot be."""
    source = load_checkpoint(teacher)
    if not source.do_normalize:
        raise LpaError(f"{teacher}: takes waveforms as they are; training normalises every one")
    if source.lpa is not None:
        raise LpaError(f"{teacher}: has LPA layers already; give the attention teacher")
    return source


def _lpa_config(recipe: Recipe, host: Wav2Vec2ForCTC) -> LPAConfig:
    sizes = host.config.hidden_size, host.config.num_attention_heads
    return LPAConfig(*sizes, **recipe.lpa.shape)


def _save(
    run: RunFolder,
    model: Wav2Vec2ForCTC,
    vocabulary: Vocabulary,
    section: LPASection | None,
    *,
    half: bool = False,
) -> Path:
    """Write the checkpoint of a stage; of a launched group one process does."""
    if is_main_process():
        save_checkpoint(run.checkpoint, model, vocabulary, section, half=half)
    accelerator().wait_for_everyone()
    return run.checkpoint


def _field(model: Wav2Vec2ForCTC) -> int:
    return FrameArithmetic.of(model.config).receptive_field


# The sections of a recipe that a stage's result depends on: others may change between runs.
_TEACHER = ("name", "data", "model", "teacher", "refine", "training")


def _sections(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    content = asdict(recipe)
    del content["training"]["tensorboard"]  # changes nothing but what is written beside
    return {name: content[name] for name in names}


def _round_to_half(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
