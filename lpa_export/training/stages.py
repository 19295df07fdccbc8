"""The stages of a recipe, each on one page: teacher from scratch, sweep, replacement.

A run folder belongs to one recipe: its text lies in the folder, and another one is refused, so
that a resumed run never mixes two.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint, LPASection, load_checkpoint, save_checkpoint
from lpa_export.formats.recipe import Recipe, TeacherSettings
from lpa_export.formats.speech import data_hash
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import encoder_layers, host_of, lpa_layers
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.training.batches import SpeechSet
from lpa_export.training.clips import Recordings
from lpa_export.training.distributed import accelerator, is_main_process
from lpa_export.training.evaluate import require_usable, write_transcripts
from lpa_export.training.files import RunFolder, load_weights, round_to_half
from lpa_export.training.frontend import fit_log_mel
from lpa_export.training.hardening import Hardening, measure_hardening
from lpa_export.training.heard import HeardSpeech
from lpa_export.training.loop import BEST, STATE, Conduct, Settings, cycles_of
from lpa_export.training.objective import Recognition
from lpa_export.training.ranking import (
    AutoLayers,
    LayerChoice,
    Ranking,
    numbered,
    require_count,
    require_layers,
)
from lpa_export.training.replace import Replacement
from lpa_export.training.speech import RecipeSpeech
from lpa_export.training.sweep import fit_layers, ranking_of
from lpa_export.training.teacher import (
    CHARACTERS,
    augment,
    host_config,
    require_shape,
    train_teacher,
)

__all__ = ["Trainer", "attention_teacher"]


@dataclass(frozen=True)
class Trainer:
    """What the stages of a recipe share: its speech, read once, and how runs are conducted.

    `recordings`: speech that trainers of other recipes have decoded already.
    """

    recipe: Recipe
    conduct: Conduct = field(default_factory=Conduct)
    recordings: Recordings = field(default_factory=Recordings)

    @cached_property
    def speech(self) -> RecipeSpeech:
        """The speech that the recipe names."""
        return RecipeSpeech(self.recipe, self.recordings)

    # -- the attention teacher ------------------------------------------------------------------

    def teacher(
        self,
        folder: Path,
        *,
        start: Checkpoint | None = None,
        cycles: Sequence[int] | None = None,
    ) -> Path:
        """Train the attention teacher; returns its checkpoint, `folder`/checkpoint, in float16.

        `cycles`: which of the recipe's cycles of training, all by default; 0 is `teacher`, from
        scratch, those behind it are `refine`'s. Without 0, `start` is what came of those before.
        """
        recipe = self.recipe
        if recipe.model.architecture is None:
            raise LpaError(
                f"{recipe.name}: 'model' names a checkpoint, so there is no teacher to train"
            )
        count, started = 1 + len(recipe.refine), start is not None
        chosen = cycles_of(recipe.name, cycles, count, started=started)
        if start is not None:
            require_shape(recipe, start)
            if start.vocabulary.tokens != CHARACTERS.tokens:
                raise LpaError(f"{start.name}: has other tokens than a teacher of {recipe.name}")
        sections = _sections(recipe, _TEACHER)
        if cycles is not None:
            sections["cycles"] = list(cycles)
        run = RunFolder.of(folder, sections, "teacher", teacher=start.sha256 if start else "")
        if run.checkpoint.is_dir():
            return run.checkpoint
        from transformers import Wav2Vec2ForCTC

        torch.manual_seed(recipe.teacher.seed)
        model: Any = (
            start.model if start else Wav2Vec2ForCTC(host_config(recipe.model.architecture))
        )
        field_ = host_of(model).frames(model.config).receptive_field
        self.speech.require_words()
        dev = self.speech.of(self.speech.held_out, CHARACTERS, field_)
        for cycle in chosen:
            if cycle == 0:
                self._from_scratch(model, dev, field_, run)
            else:
                self._refine(model, dev, field_, run, cycle - 1)
        round_to_half(model)
        return _save(run, model, CHARACTERS, None)

    def _from_scratch(self, model: Any, dev: SpeechSet, field_: int, run: RunFolder) -> None:
        settings, folder = self.recipe.teacher, run.folder
        train = self.speech.of(self.speech.training, CHARACTERS, field_, settings.speeds)
        run.begin()
        if settings.frontend_steps and not (folder / STATE).is_file():
            self._fit_frontend(model, train, folder / "frontend")
        self._teach(model, train, dev, settings, folder)

    def _refine(self, model: Any, dev: SpeechSet, field_: int, run: RunFolder, number: int) -> None:
        settings = self.recipe.refine[number]
        run.begin()
        spliced = self.speech.spliced(model, CHARACTERS, run, number)
        utterances = [*self.speech.training, *spliced]
        train = self.speech.of(utterances, CHARACTERS, field_, settings.speeds)
        self._teach(model, train, dev, settings, run.folder / f"refine{number}")

    def _fit_frontend(self, model: Any, train: SpeechSet, folder: Path) -> None:
        settings = self.recipe.teacher
        fit_log_mel(
            model,
            train,
            folder,
            steps=settings.frontend_steps,
            learning_rate=settings.frontend_learning_rate,
            seed=settings.seed,
            conduct=self._conduct,
        )

    def _teach(
        self, model: Any, train: SpeechSet, dev: SpeechSet, settings: TeacherSettings, folder: Path
    ) -> None:
        """One cycle of the teacher; `model` ends with the best weights of it."""
        require_usable(model, train)
        loop = Settings(
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            average_epochs=settings.average_epochs,
            **self._how,
        )
        train_teacher(model, train, dev, settings, loop, folder, self._conduct)
        load_weights(folder / BEST, model)

    # -- the sweep ------------------------------------------------------------------------------

    def sweep(
        self, source: Checkpoint, folder: Path, layers: Sequence[int] | None = None
    ) -> Ranking:
        """Fit an LPA to `layers` of the teacher (default: all); writes sweep.json and sweep.png.

        Layers that `folder` holds figures of already are not fitted again.
        """
        recipe, count = self.recipe, len(encoder_layers(source.model))
        layers = range(count) if layers is None else layers
        require_layers(layers, count)
        sections = _sections(recipe, ("data", "sweep"))
        sections |= {"lpa": recipe.lpa.shape, "initialise": recipe.replace.initialise}
        run = RunFolder.of(folder, sections, "sweep", teacher=source.sha256)
        return ranking_of(
            folder, layers, lambda missing, fit: self._rank(source, missing, run, fit)
        )

    def _rank(
        self, source: Checkpoint, layers: Sequence[int], run: RunFolder, fit: Path
    ) -> Ranking:
        """Fit an LPA to each of `layers`; `run` begins once the speech is known to be usable."""
        recipe, chosen = self.recipe, self.speech.for_sweep()
        fitted, held_out = (
            self.speech.of(part, source.vocabulary, source.receptive_field)
            for part in chosen.values()
        )
        run.begin()
        source.model.to(accelerator().device)
        fits = fit_layers(
            source.model,
            layers,
            self._layer_config(source),
            HeardSpeech(fitted, held_out, recipe.sweep),
            recipe.sweep,
            recipe.replace.initialise,
            fit,
            self._conduct,
        )
        return Ranking(
            recipe=recipe.name,
            teacher_sha256=source.sha256,
            pulses=recipe.lpa.shape,
            initialise=recipe.replace.initialise,
            settings=asdict(recipe.sweep),
            speech={
                name: {"utterances": len(part), "sha256": data_hash(part)}
                for name, part in chosen.items()
            },
            fits=fits,
        )

    # -- the replacement ------------------------------------------------------------------------

    def replace(
        self,
        source: Checkpoint,
        folder: Path,
        *,
        layers: LayerChoice | None = None,
        sweep: Path | None = None,
        shared: Path | None = None,
        control: bool = False,
    ) -> Path:
        """Replace `layers` of the teacher; returns the LPA checkpoint, stored as float16.

        `layers`: the recipe's by default; for the easiest ones the sweep's folder is `sweep`,
        beside `folder` by default, and the sweep is run first where it has not been. `shared`: see
        `Replacement`. `control`: nothing is replaced, the attention is trained on through the
        joint phase. The checkpoint's figures (WER in percent on the recipe's dev set, hardness per
        layer) and the transcripts beside it are of the very weights that are stored, after
        rounding to float16.
        """
        chosen = self._choose(source, layers, sweep or folder.with_name("sweep"))
        recipe = replace(self.recipe, lpa=replace(self.recipe.lpa, layers=chosen))
        run = RunFolder.of(
            folder,
            _sections(recipe, (*_TEACHER, "lpa", "replace")),
            "control" if control else "replace",
            teacher=source.sha256,
        )
        if run.checkpoint.is_dir():
            return run.checkpoint
        replacement, dev, digest = self._prepare(source, run, shared)
        if control:
            replacement.control(chosen)
        else:
            chosen = replacement.run(chosen).layers
        hardening = self._measure(replacement, dev, folder)
        section = None if control else self._section(chosen, hardening, digest)
        return _save(run, replacement.student, source.vocabulary, section)

    def _choose(
        self, source: Checkpoint, layers: LayerChoice | None, sweep: Path
    ) -> tuple[int, ...]:
        """The layers to replace, in their order."""
        count = len(encoder_layers(source.model))
        layers = numbered(layers)
        if isinstance(layers, AutoLayers):
            require_count(layers, count)
            layers = self.sweep(source, sweep).order[: layers.count]
        chosen = self.recipe.lpa.layers if layers is None else layers
        require_layers(chosen, count)
        if not chosen:
            raise LpaError(
                f"{self.recipe.name}: no layer to replace; give --layers or the recipe's lpa.layers"
            )
        return chosen

    def _prepare(
        self, source: Checkpoint, run: RunFolder, shared: Path | None
    ) -> tuple[Replacement, SpeechSet, str]:
        """A student beside its teacher, held-out speech, and the hash of the training speech."""
        settings, augmentation = self.recipe.replace, self.recipe.last_cycle
        self.speech.require_words()
        dev = self.speech.of(self.speech.held_out, source.vocabulary, source.receptive_field)
        utterances = [
            *self.speech.training,
            *self.speech.spliced(source.model, source.vocabulary, run),
        ]
        train = self.speech.of(
            utterances, source.vocabulary, source.receptive_field, augmentation.speeds
        )
        require_usable(source.model, train)
        run.begin()
        torch.manual_seed(settings.seed)  # a host without masking gets an embedding for it
        student = copy.deepcopy(source.model)
        augment(student, augmentation)
        layer_loop = Settings(
            epochs=settings.epochs_per_layer,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            weight_decay=augmentation.weight_decay,
            rate_key="replace.learning_rate",
            **self._how,
        )
        joint_loop = replace(
            layer_loop,
            epochs=settings.joint_epochs,
            learning_rate=settings.joint_learning_rate,
            average_epochs=settings.average_epochs,
            rate_key="replace.joint_learning_rate",
        )
        replacement = Replacement(
            source.model,
            student,
            self._layer_config(source),
            Recognition(train, dev, settings, augmentation.noise_share),
            settings,
            layer_loop,
            joint_loop,
            run.folder,
            shared,
            self._conduct,
        )
        return replacement, dev, data_hash(utterances)

    def _measure(self, replacement: Replacement, dev: SpeechSet, folder: Path) -> Hardening:
        """Figures and transcripts of the weights as they will be stored."""
        student = replacement.student
        round_to_half(student)
        for lpa in lpa_layers(student).values():
            lpa.temperature = self.recipe.replace.joint_temperature[1]
        hardening = measure_hardening(replacement.teacher, student, dev)
        write_transcripts(folder, dev.utterances, hardening.transcripts)
        return hardening

    def _section(self, layers: Sequence[int], hardening: Hardening, data_sha256: str) -> LPASection:
        return LPASection(
            layers=tuple(sorted(layers)),
            pulses=Pulses(**self.recipe.lpa.shape),
            temperature=self.recipe.replace.joint_temperature[1],
            name=self.recipe.name,
            hardness=dict(hardening.layers),
            figures=dict(hardening.figures),
            training_data_sha256=data_sha256,
        )

    # -------------------------------------------------------------------------------------------

    @cached_property
    def _conduct(self) -> Conduct:
        return replace(self.conduct, tensorboard=self.recipe.training.tensorboard)

    @property
    def _how(self) -> dict[str, Any]:
        """What the recipe says of all updates."""
        return _sections(self.recipe, ("training",))["training"]

    def _layer_config(self, source: Checkpoint) -> LPAConfig:
        config = source.model.config
        shape = self.recipe.lpa.shape
        return LPAConfig(config.hidden_size, config.num_attention_heads, **shape)


def attention_teacher(teacher: str | Path) -> Checkpoint:
    """The checkpoint whose attention is to be replaced; LpaError when it cannot be."""
    source = load_checkpoint(teacher)
    if not source.do_normalize:
        raise LpaError(f"{teacher}: takes waveforms as they are; training normalises every one")
    if source.lpa is not None:
        raise LpaError(f"{teacher}: has LPA layers already; give the attention teacher")
    return source


def _save(run: RunFolder, model: Any, vocabulary: Vocabulary, section: LPASection | None) -> Path:
    """Write the checkpoint of a stage in float16; of a launched group one process does."""
    if is_main_process():
        save_checkpoint(run.checkpoint, model, vocabulary, section, half=True)
    accelerator().wait_for_everyone()
    return run.checkpoint


# The sections of a recipe that a stage's result depends on: others may change between runs.
_TEACHER = ("name", "data", "model", "teacher", "refine", "training")


def _sections(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    content = asdict(recipe)
    del content["training"]["tensorboard"]  # changes nothing but what is written beside
    return {name: content[name] for name in names}
