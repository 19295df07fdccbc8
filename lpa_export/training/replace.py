"""From teacher to LPA: layers replaced one after another, then the whole encoder jointly.

Each step of the way the frozen teacher sees the same clips: the replaced layer learns to give the
teacher's hidden states and the model its logits, beside CTC. The gates' temperature falls
geometrically, in frames, so that the windows are near-binary at the end; the joint phase can run
with hard gates in the forward pass. The hard model is the only one that is evaluated for keeping.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from tqdm import tqdm
from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import ReplaceSettings
from lpa_export.hosts import encoder_layers, lpa_layers, replace_layers
from lpa_export.layers import LPAConfig
from lpa_export.training.attention_profile import attention_of, attention_profiles
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.distillation import distillation_loss
from lpa_export.training.evaluate import word_error_rate
from lpa_export.training.files import is_main_process, load_weights, write_tensors
from lpa_export.training.initialise import initial_lpa
from lpa_export.training.loop import BEST, STATE, Settings, optimise
from lpa_export.training.straight_through import hard_forward
from lpa_export.training.trail import Trail
from lpa_export.training.workers import accelerator

__all__ = ["Replacement", "layer_folders"]

DONE = "done.safetensors"


def layer_folders(shared: Path, layers: Sequence[int]) -> list[Path]:
    """Where the phases of `layers`, replaced in this order, lie below a `shared` folder."""
    names = [f"layer-{layer}" for layer in layers]
    return [shared.joinpath(*names[: depth + 1]) for depth in range(len(names))]


@dataclass(frozen=True)
class Replacement:
    """What turns `student`, a copy of `teacher`, into an LPA model; every phase is resumable.

    A phase that is done leaves its weights in `folder`/<phase>/done.safetensors. With `shared`,
    which replacements of the same settings may share, the phases of single layers lie there
    instead, each in the folder of the one before it: what one run has trained no other trains.
    """

    teacher: Wav2Vec2ForCTC
    student: Wav2Vec2ForCTC
    config: LPAConfig
    train: SpeechSet
    dev: SpeechSet
    settings: ReplaceSettings
    folder: Path
    shared: Path | None = None

    def run(self, layers: Sequence[int], layer_loop: Settings, joint_loop: Settings) -> Trail:
        """Replace `layers` in this order until all are, or until one costs too much WER.

        At the end the student holds the weights with the lowest hard WER on `dev`. Raises
        LpaError when the first layer costs too much already.
        """
        self.teacher.eval().requires_grad_(False)
        for model in (self.teacher, self.student):
            model.to(accelerator().device)
        trail = Trail(100 * word_error_rate(self.teacher, self.dev))
        for position, layer in enumerate(layers):
            trail = self._replace(
                layer, trail, replace(layer_loop, seed=layer_loop.seed + position)
            )
            trail.write(self.folder)
            if is_main_process():
                tqdm.write(trail.lines()[-1])
            if trail.stopped:
                break
        if not trail.layers:
            raise LpaError(f"{trail.stopped}; raise the limit, or try other --layers")
        self._phase(self.folder / "joint", joint_loop, None)
        return trail

    def _replace(self, layer: int, trail: Trail, loop: Settings) -> Trail:
        """Put an LPA into `layer`, train it, and take it out again where it costs too much."""
        # Anew for each layer: a resumed run must draw what the killed one drew.
        torch.manual_seed(loop.seed)
        hosts = encoder_layers(self.student)
        before = copy.deepcopy(hosts[layer])
        self._insert(layer)
        folder = self.folder / f"layer-{layer}"
        if self.shared is not None:
            folder = layer_folders(self.shared, (*trail.layers, layer))[-1]
        wer = self._phase(folder, loop, layer)
        trail = trail.take(layer, wer, self.settings)
        if trail.stopped:
            hosts[layer] = before
        return trail

    def _insert(self, layer: int) -> None:
        how = self.settings.initialise
        profile = None
        if how == "attention":
            reach = self.config.band
            profile = attention_profiles(self.teacher, [layer], self.train, reach=reach)[layer]
        lpa = initial_lpa(attention_of(self.teacher, layer), self.config, how, profile)
        replace_layers(self.student, [layer], self.config)
        lpa_layers(self.student)[layer].load_state_dict(lpa.state_dict())
        self.student.to(self.teacher.device)  # type: ignore[arg-type]

    def _phase(self, folder: Path, loop: Settings, layer: int | None) -> float:
        """Train `layer`, or all of them jointly; the hard WER of the weights that are kept."""
        done = folder / DONE
        if not done.is_file():
            self._train(folder, loop, layer)
        load_weights(done, self.student)
        with safe_open(done, framework="pt") as file:
            return float(file.metadata()["wer"])

    def _train(self, folder: Path, loop: Settings, layer: int | None) -> None:
        """Run a phase from wherever it stopped to its done.safetensors."""
        joint = layer is None
        self._require_gradients(layer)
        # A layer alone learns from clean input; the joint phase may be trained as the teacher was.
        augmented = joint and self.settings.joint_augment
        self.student.config.apply_spec_augment = augmented
        hard = joint and self.settings.hard_forward
        with hard_forward(lpa_layers(self.student).values()) if hard else nullcontext():
            progress = optimise(
                self.student,
                self._loss(layer),
                self.train,
                loop,
                folder,
                evaluate=self._evaluate,
                dropout=augmented,
            )
        load_weights(folder / BEST, self.student)
        write_tensors(folder / DONE, self.student.state_dict(), {"wer": repr(progress.best)})
        accelerator().wait_for_everyone()
        (folder / STATE).unlink(missing_ok=True)

    def _loss(self, layer: int | None) -> Callable[[Batch, float], dict[str, torch.Tensor]]:
        settings, replaced = self.settings, lpa_layers(self.student)
        start, end = self._temperatures(layer)

        def loss(batch: Batch, share: float) -> dict[str, torch.Tensor]:
            for index, lpa in replaced.items():
                # Layers replaced before are frozen: they stay as hard as they had become.
                falls = layer is None or index == layer
                lpa.hard, lpa.temperature = False, start * (end / start) ** share if falls else end
            return distillation_loss(
                self.teacher,
                self.student,
                batch,
                replaced,
                hidden_weight=settings.hidden_weight,
                logit_weight=settings.logit_weight,
            )

        return loss

    def _temperatures(self, layer: int | None) -> tuple[float, float]:
        settings = self.settings
        if not settings.curriculum:
            return settings.joint_temperature[1], settings.joint_temperature[1]
        return settings.joint_temperature if layer is None else settings.layer_temperature

    def _evaluate(self) -> dict[str, float]:
        figures = {}
        for hard, name in ((False, "soft_wer"), (True, "wer")):
            for lpa in lpa_layers(self.student).values():
                lpa.hard = hard
            figures[name] = 100 * word_error_rate(self.student, self.dev)
        return figures

    def _require_gradients(self, layer: int | None) -> None:
        """Freeze the student but for what the phase trains."""
        replaced: Any = lpa_layers(self.student)
        parts: Iterable[nn.Module]
        if not self.settings.co_adapt:
            parts = replaced.values() if layer is None else [replaced[layer]]
        elif layer is None:
            parts = [self.student.wav2vec2.encoder, self.student.lm_head]
        else:
            parts = [encoder_layers(self.student)[layer]]
        self.student.requires_grad_(False)
        # The last gradients of what is frozen now would count in the norm that clips the others.
        self.student.zero_grad(set_to_none=True)
        for part in parts:
            part.requires_grad_(True)
