"""The stages of a separation recipe: teacher from scratch, sweep, replacement, test mixtures."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lpa_export.errors import LpaError
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.mixing import Draw, read_draws
from lpa_export.formats.separation_recipe import SeparationRecipe, SeparationTeacher, is_named
from lpa_export.formats.separator import Separator, save_separator
from lpa_export.formats.speech import Utterance, data_hash, load_utterances
from lpa_export.hosts import lpa_layers
from lpa_export.hosts.sepformer import SepFormer
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.layers.harden import harden
from lpa_export.training.clips import Clips, Recordings
from lpa_export.training.distributed import accelerator, is_main_process
from lpa_export.training.files import RunFolder, load_weights, round_to_half, write_json
from lpa_export.training.hardening import captured_inputs
from lpa_export.training.loop import BEST, Conduct, Settings, cycles_of, optimise
from lpa_export.training.ranking import (
    AutoLayers,
    KindOfLayers,
    LayerChoice,
    Ranking,
    require_count,
    require_layers,
)
from lpa_export.training.replace import Replacement
from lpa_export.training.separation.evaluate import IMPROVEMENT, improvements, summary
from lpa_export.training.separation.heard import HeardMixtures
from lpa_export.training.separation.losses import separation_loss
from lpa_export.training.separation.mixture_list import write_draws
from lpa_export.training.separation.mixtures import MixtureBatches, Mixtures, Sounds, held_out
from lpa_export.training.separation.objective import Separation
from lpa_export.training.sweep import fit_layers, ranking_of

__all__ = ["FIGURES", "SeparationTrainer"]

FIGURES = "figures.json"
HARDENED_CLIPS = 8  # for gates and PSNR; SI-SNRi is of all held-out mixtures


@dataclass(frozen=True)
class SeparationTrainer:
    """What the stages of a separation recipe share: its sounds, read once, and how runs go."""

    recipe: SeparationRecipe
    conduct: Conduct = field(default_factory=Conduct)
    recordings: Recordings = field(default_factory=Recordings)

    def teacher(
        self,
        folder: Path,
        *,
        start: Separator | None = None,
        cycles: Sequence[int] | None = None,
    ) -> Path:
        """Train the attention teacher; returns its checkpoint, `folder`/checkpoint, in float16.

        `cycles`: which of the recipe's cycles of training, all by default; 0 is `teacher`, from
        scratch, those behind it are `refine`'s. Without 0, `start` is what came of those before.
        Figures of the stored weights on the held-out mixtures lie beside it.
        """
        recipe = self.recipe
        every = (recipe.teacher, *recipe.refine)
        chosen = cycles_of(recipe.name, cycles, len(every), started=start is not None)
        sections = _sections(recipe)
        if cycles is not None:
            sections["cycles"] = list(cycles)
        if start is not None:
            self._require_teacher(start)
        run = RunFolder.of(folder, sections, "teacher", teacher=start.sha256 if start else "")
        if run.checkpoint.is_dir():
            return run.checkpoint
        torch.manual_seed(recipe.teacher.seed)
        model = start.model if start else SepFormer(recipe.model)
        train, dev, draws = self.train, self.dev, self._draws
        run.begin()
        for cycle in chosen:
            place = folder / f"refine{cycle - 1}" if cycle else folder
            self._teach(model, train, every[cycle], place)
        round_to_half(model)
        if is_main_process():
            write_json(folder / FIGURES, summary(improvements(model, dev, draws), draws))
            save_separator(run.checkpoint, model.eval(), None, half=True)
        accelerator().wait_for_everyone()
        return run.checkpoint

    def _teach(
        self, model: SepFormer, train: Sounds, settings: SeparationTeacher, folder: Path
    ) -> None:
        """One cycle; `model` ends with the best weights of it."""
        dev, draws = self.dev, self._draws
        batches = MixtureBatches(
            train,
            self.recipe.mixing,
            settings.clips_per_epoch,
            settings.batch_clips,
            settings.seed,
        )

        def loss(batch: Mixtures, share: float) -> dict[str, torch.Tensor]:
            return separation_loss(model, batch, settings.level_weight)

        optimise(
            model,
            loss,
            batches,
            self._loop(settings),
            folder,
            evaluate=lambda: summary(improvements(model, dev, draws), draws),
            figure=IMPROVEMENT,
            conduct=replace(self.conduct, tensorboard=self.recipe.training.tensorboard),
        )
        load_weights(folder / BEST, model)

    def sweep(self, source: Separator, folder: Path, layers: LayerChoice | None = None) -> Ranking:
        """Fit an LPA to `layers` of the teacher; writes sweep.json and sweep.png.

        By default, and for `auto:N`, those of the recipe's kind.
        """
        recipe = self.recipe
        self._require_teacher(source)
        if layers is None or isinstance(layers, AutoLayers):
            layers = KindOfLayers(recipe.lpa.layers)
        chosen = self._numbers(layers)
        sections = _sections(recipe, lpa=recipe.lpa.shape, sweep=asdict(recipe.sweep))
        sections["replace"] = {"initialise": recipe.replace.initialise}
        run = RunFolder.of(folder, sections, "sweep", teacher=source.sha256)
        return ranking_of(
            folder, chosen, lambda missing, fit: self._rank(source, missing, run, fit)
        )

    def _rank(self, source: Separator, layers: Sequence[int], run: RunFolder, fit: Path) -> Ranking:
        recipe = self.recipe
        heard = HeardMixtures(self.train, self.dev, self._draws, recipe.mixing, recipe.sweep)
        run.begin()
        fits = fit_layers(
            source.model.to(accelerator().device),
            layers,
            self._layer_config,
            heard,
            recipe.sweep,
            recipe.replace.initialise,
            fit,
            replace(self.conduct, tensorboard=recipe.training.tensorboard),
        )
        speech = [item for path in recipe.data.train for item in load_utterances(path)]
        return Ranking(
            recipe=recipe.name,
            teacher_sha256=source.sha256,
            pulses=recipe.lpa.shape,
            initialise=recipe.replace.initialise,
            settings=asdict(recipe.sweep),
            speech={
                "fitted": {"utterances": len(speech), "sha256": data_hash(speech)},
                "held_out": {
                    "utterances": len(heard.draws),
                    "sha256": data_hash(load_utterances(recipe.data.dev)),
                },
            },
            fits=fits,
        )

    def replace(
        self,
        source: Separator,
        folder: Path,
        *,
        layers: LayerChoice | None = None,
        sweep: Path | None = None,
        control: bool = False,
    ) -> Path:
        """Replace `layers` (the recipe's by default) of the teacher; returns the LPA checkpoint.

        Of `auto:N` they are the easiest of the recipe's kind: `sweep` is the folder of the sweep,
        beside `folder` by default, which is run first where it has not been.
        `control`: nothing is replaced, the attention is trained on through the joint phase. The
        figures of the checkpoint (SI-SNRi on the held-out mixtures, hardness) are of the very
        weights that are stored, after rounding to float16.
        """
        recipe = self.recipe
        self._require_teacher(source)
        chosen = self._chosen(source, layers, sweep or folder.with_name("sweep"))
        sections = _sections(recipe, lpa=recipe.lpa.shape | {"layers": chosen})
        stage = "control" if control else "replace"
        run = RunFolder.of(folder, sections, stage, teacher=source.sha256)
        if run.checkpoint.is_dir():
            return run.checkpoint
        replacement = self._replacement(source, run)
        if control:
            replacement.control(chosen)
        else:
            chosen = replacement.run(chosen).layers
        section = self._measured(replacement, chosen)
        if is_main_process():
            write_json(folder / FIGURES, section.figures)
            model = replacement.student.eval()
            save_separator(run.checkpoint, model, None if control else section, half=True)
        accelerator().wait_for_everyone()
        return run.checkpoint

    def _require_teacher(self, source: Separator) -> None:
        if source.model.config != self.recipe.model:
            raise LpaError(f"{source.name}: not the model that {self.recipe.name} describes")
        if source.lpa is not None:
            raise LpaError(f"{source.name}: has LPA layers already; give the attention teacher")

    def _chosen(
        self, source: Separator, layers: LayerChoice | None, sweep: Path
    ) -> tuple[int, ...]:
        """The layers to replace, in their order."""
        kind = KindOfLayers(self.recipe.lpa.layers)
        if not isinstance(layers, AutoLayers):
            return self._numbers(kind if layers is None else layers)
        offered = self._numbers(kind)
        require_count(layers, len(offered), f"{kind.name} layers")
        order = self.sweep(source, sweep).order
        # A sweep of others lies in the folder too, maybe.
        return tuple(layer for layer in order if layer in offered)[: layers.count]

    def _numbers(self, layers: KindOfLayers | tuple[int, ...]) -> tuple[int, ...]:
        model = self.recipe.model
        every = tuple(sorted((*model.intra, *model.inter)))
        if isinstance(layers, KindOfLayers):
            return {"intra": model.intra, "inter": model.inter, "all": every}[layers.name]
        require_layers(layers, len(every))
        return layers

    def _replacement(self, source: Separator, run: RunFolder) -> Replacement:
        """A student beside its teacher, and the mixtures for both."""
        recipe, settings = self.recipe, self.recipe.replace
        weight = recipe.teacher.level_weight
        objective = Separation(self.train, self.dev, self._draws, recipe.mixing, settings, weight)
        run.begin()
        layer_loop = replace(
            self._loop(recipe.teacher),
            epochs=settings.epochs_per_layer,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            average_epochs=0,
            rate_key="replace.learning_rate",
        )
        joint_loop = replace(
            layer_loop,
            epochs=settings.joint_epochs,
            learning_rate=settings.joint_learning_rate,
            average_epochs=settings.average_epochs,
            rate_key="replace.joint_learning_rate",
        )
        return Replacement(
            source.model,
            copy.deepcopy(source.model),
            self._layer_config,
            objective,
            settings,
            layer_loop,
            joint_loop,
            run.folder,
            conduct=replace(self.conduct, tensorboard=recipe.training.tensorboard),
        )

    def _measured(self, replacement: Replacement, layers: Sequence[int]) -> LPASection:
        """Figures of the weights as they will be stored; the student is hard afterwards."""
        student, objective = replacement.student, replacement.objective
        temperature = self.recipe.replace.joint_temperature[1]
        round_to_half(student)
        replaced = lpa_layers(student)
        for lpa in replaced.values():
            lpa.temperature, lpa.hard = temperature, False
        captured: dict[int, Any] = {index: [] for index in replaced}
        figures = {
            "teacher": objective.value(replacement.teacher),
            "soft": objective.value(student),
        }
        with captured_inputs(student, captured):
            improvements(student, self.dev, self._draws[:HARDENED_CLIPS])
        hardness = harden(replaced, captured)
        figures["hard"] = objective.value(student)
        speech = [item for path in self.recipe.data.train for item in load_utterances(path)]
        return LPASection(
            layers=tuple(sorted(layers)),
            pulses=Pulses(**self.recipe.lpa.shape),
            temperature=temperature,
            name=self.recipe.name,
            hardness={
                str(layer.layer): {
                    "soft_share": round(layer.soft_share, 4),
                    "psnr_db": round(layer.psnr_db, 4),
                }
                for layer in hardness
            },
            figures={
                f"{who}_{IMPROVEMENT.name}": round(value, 4) for who, value in figures.items()
            },
            training_data_sha256=data_hash(speech),
        )

    def test(self) -> tuple[Sounds, list[Draw]]:
        """The test mixtures, of the stored list, which is drawn and written where there is none."""
        data, mixing = self.recipe.data, self.recipe.mixing
        if data.test is None or data.test_list is None:
            raise LpaError(f"{self.recipe.name}: 'data' names no 'test' speech and 'test_list'")
        speech = load_utterances(data.test)
        noise = [item for item in self._noise if is_named(item.audio, data.noise.test)]
        sounds = self._sounds(speech, noise, mixing.test_seconds)
        cuts = [item.id for item in speech], [item.id for item in noise], sounds.rate
        if not data.test_list.is_file():
            draws = held_out(sounds, mixing, mixing.test_clips, self.recipe.teacher.seed)
            write_draws(data.test_list, draws, *cuts)
        return sounds, read_draws(data.test_list, *cuts)

    @cached_property
    def train(self) -> Sounds:
        """The speech of all manifests, and the noise that is not held out."""
        data = self.recipe.data
        speech = [item for path in data.train for item in load_utterances(path)]
        held = (*data.noise.dev, *data.noise.test)
        noise = [item for item in self._noise if not is_named(item.audio, held)]
        return self._sounds(speech, noise, self.recipe.mixing.clip_seconds)

    @cached_property
    def dev(self) -> Sounds:
        """Other speakers, and the noise that is held out for them."""
        data = self.recipe.data
        noise = [item for item in self._noise if is_named(item.audio, data.noise.dev)]
        return self._sounds(load_utterances(data.dev), noise, self.recipe.mixing.clip_seconds)

    @cached_property
    def _draws(self) -> list[Draw]:
        """The held-out mixtures, by which weights are chosen."""
        recipe = self.recipe
        return held_out(self.dev, recipe.mixing, recipe.mixing.dev_clips, recipe.teacher.seed)

    @cached_property
    def _noise(self) -> list[Utterance]:
        noise = self.recipe.data.noise
        found = load_utterances(noise.manifest, transcribed=False)
        for pattern in (*noise.dev, *noise.test):
            if not any(is_named(item.audio, [pattern]) for item in found):
                raise LpaError(
                    f"{noise.manifest}: no recording is called {pattern!r}; data.noise holds out "
                    "by patterns of the whole path, as */esc10/003_*"
                )
        return found

    def _sounds(
        self, speech: Sequence[Utterance], noise: Sequence[Utterance], seconds: float
    ) -> Sounds:
        if not noise:
            raise LpaError(
                f"{self.recipe.name}: no noise is left to mix with this speech; see data.noise"
            )
        rate = self.recipe.model.sampling_rate
        return Sounds(self._clips(speech), self._clips(noise), round(seconds * rate), rate)

    def _clips(self, items: Iterable[Utterance]) -> Clips:
        model = self.recipe.model
        return Clips(
            [item.audio for item in items],
            (1.0,),
            receptive_field=model.kernel_size,
            recordings=self.recordings,
            rate=model.sampling_rate,
        )

    @property
    def _layer_config(self) -> LPAConfig:
        model = self.recipe.model
        return LPAConfig(model.hidden_size, model.num_attention_heads, **self.recipe.lpa.shape)

    def _loop(self, settings: SeparationTeacher) -> Settings:
        how = asdict(self.recipe.training)
        del how["tensorboard"]
        return Settings(
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            evaluate_every=1,
            average_epochs=settings.average_epochs,
            **how,
        )


_OF_THE_TEST = {"data": ("test", "test_list"), "mixing": ("test_clips", "test_seconds")}


def _sections(recipe: SeparationRecipe, **replaced: Any) -> dict[str, Any]:
    """What the teacher depends on, or with `replaced` (`lpa`, `sweep`) a later stage."""
    content = asdict(recipe)
    del content["sweep"]
    if not recipe.refine:  # as before there was any
        del content["refine"]
    content |= replaced
    if not replaced:
        del content["lpa"], content["replace"]
    # These change nothing but what is written beside, or measured afterwards.
    del content["training"]["tensorboard"]
    for section, names in _OF_THE_TEST.items():
        for name in names:
            del content[section][name]
    return content
