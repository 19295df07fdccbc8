"""From teacher to LPA: layers replaced one after another, then the whole encoder jointly.

Each step of the way the frozen teacher sees the same clips: the replaced layer learns to give the
teacher's hidden states, and the model what its task asks for (`objective.py`). The temperature of
the gates falls geometrically, in frames, so that the windows are near-binary at the end; the joint
phase can run with hard gates in the forward pass. The hard model is the only one that is evaluated
for keeping.

The control is the joint phase alone, with every attention in its place: what training on gains.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import ReplacePhases
from lpa_export.hosts import encoder_layers, family_of, lpa_layers, replace_layers
from lpa_export.layers import LPAConfig
from lpa_export.training.attention_profile import attention_of
from lpa_export.training.distributed import accelerator, is_main_process
from lpa_export.training.files import load_weights, write_tensors
from lpa_export.training.hardening import hard_forward
from lpa_export.training.initialise import initial_lpa
from lpa_export.training.loop import BEST, STATE, Conduct, Loss, Progress, Settings, optimise
from lpa_export.training.objective import Objective
from lpa_export.training.replacement_log import ReplacementLog

__all__ = ["Replacement", "layer_folders", "phase_record"]

DONE = "done.safetensors"


def layer_folders(shared: Path, layers: Sequence[int]) -> list[Path]:
    """Where the phases of `layers`, replaced in this order, lie below a `shared` folder."""
    names = [f"layer-{layer}" for layer in layers]
    return [shared.joinpath(*names[: depth + 1]) for depth in range(len(names))]


def phase_record(folder: Path) -> dict[str, str]:
    """Of a phase that is done: the hard `cost` of its weights, and `batches_sha256` in order."""
    with safe_open(folder / DONE, framework="pt") as file:
        return dict(file.metadata())


@dataclass(frozen=True)
class Replacement:
    """What turns `student`, a copy of `teacher`, into an LPA model; every phase is resumable.

    `layer_loop` trains a layer alone, `joint_loop` all of them. A phase that is done leaves its
    weights in `folder`/<phase>/done.safetensors. With `shared`, which replacements of the same
    settings may share, the phases of single layers lie there instead, each in the folder of the
    one before it: what one run has trained no other trains. `train_phase` is the loop of every
    phase.
    """

    teacher: Any
    student: Any
    config: LPAConfig
    objective: Objective
    settings: ReplacePhases
    layer_loop: Settings
    joint_loop: Settings
    folder: Path
    shared: Path | None = None
    conduct: Conduct = field(default_factory=Conduct)
    train_phase: Callable[..., Progress] = optimise

    def run(self, layers: Sequence[int]) -> ReplacementLog:
        """Replace `layers` in this order until all are, or until one costs too much.

        At the end the student holds the weights with the best hard figure on held-out data. Raises
        LpaError when the first layer costs too much already.
        """
        self._to_device()
        log = ReplacementLog(self.objective.value(self.teacher), self.objective.figure)
        for position, layer in enumerate(layers):
            log = self._replace(layer, log, position)
            log.write(self.folder)
            if is_main_process():
                tqdm.write(log.lines()[-1])
            if log.stopped:
                break
        if not log.layers:
            raise LpaError(f"{log.stopped}; raise the limit, or try other --layers")
        self._phase(self.folder / "joint", self.joint_loop, None, log.layers)
        return log

    def control(self, layers: Sequence[int]) -> None:
        """The joint phase of `run` without a replaced layer: attention trained on.

        Data, order, learning rates and looks at `dev` are those of `run`, and so is the loss:
        hidden states are compared after `layers`, where `run` would have replaced them.
        """
        if not self.settings.co_adapt:
            raise LpaError("a control trains what stands around an LPA, and co_adapt is false")
        self._to_device()
        self._phase(self.folder / "joint", self.joint_loop, None, layers)

    def _to_device(self) -> None:
        self.teacher.eval().requires_grad_(False)
        for model in (self.teacher, self.student):
            model.to(accelerator().device)

    def _replace(self, layer: int, log: ReplacementLog, position: int) -> ReplacementLog:
        """Put an LPA into `layer`, train it, and take it out again where it costs too much."""
        loop = replace(self.layer_loop, seed=self.layer_loop.seed + position)
        # Anew for each layer: a resumed run must draw what the killed one drew.
        torch.manual_seed(loop.seed)
        host, place = encoder_layers(self.student)[layer], family_of(self.student).attention
        attention, before = getattr(host, place), copy.deepcopy(host.state_dict())
        self._insert(layer)
        folder = self.folder / f"layer-{layer}"
        if self.shared is not None:
            folder = layer_folders(self.shared, (*log.layers, layer))[-1]
        value = self._phase(folder, loop, layer, (*log.layers, layer))
        log = log.take(layer, value, self.settings)
        if log.stopped:
            setattr(host, place, attention)
            host.load_state_dict(before)
        return log

    def _insert(self, layer: int) -> None:
        how = self.settings.initialise
        profile = None
        if how == "attention":
            profile = self.objective.profile(self.teacher, layer, self.config.band)
        lpa = initial_lpa(attention_of(self.teacher, layer), self.config, how, profile)
        replace_layers(self.student, [layer], self.config)
        lpa_layers(self.student)[layer].load_state_dict(lpa.state_dict())
        self.student.to(next(self.teacher.parameters()).device)

    def _phase(
        self, folder: Path, loop: Settings, layer: int | None, compared: Sequence[int]
    ) -> float:
        """Train `layer`, or all of them jointly; the hard figure of the weights that are kept."""
        done = folder / DONE
        if not done.is_file():
            self._train(folder, loop, layer, compared)
        load_weights(done, self.student)
        return self.objective.figure.cost(float(phase_record(folder)["cost"]))

    def _train(
        self, folder: Path, loop: Settings, layer: int | None, compared: Sequence[int]
    ) -> None:
        """Run a phase from wherever it stopped to its done.safetensors."""
        joint = layer is None
        self._require_gradients(layer)
        # A layer alone learns from clean input; the joint phase may be trained as the teacher was.
        augmented = joint and self.objective.augments
        self.objective.augment(self.student, augmented)
        hard = joint and self.settings.hard_forward
        batches = self.objective.batches(loop.seed)
        with hard_forward(lpa_layers(self.student).values()) if hard else nullcontext():
            progress = self.train_phase(
                self.student,
                self._loss(layer, compared),
                batches,
                loop,
                folder,
                evaluate=self._evaluate,
                figure=self.objective.figure,
                dropout=augmented,
                conduct=self.conduct,
            )
        load_weights(folder / BEST, self.student)
        order = [list(batches.plan(epoch)) for epoch in range(loop.epochs)]
        record = {"cost": repr(progress.best), "batches_sha256": _hash(order)}
        write_tensors(folder / DONE, self.student.state_dict(), record)
        accelerator().wait_for_everyone()
        if is_main_process():
            (folder / STATE).unlink(missing_ok=True)

    def _loss(self, layer: int | None, compared: Sequence[int]) -> Loss:
        replaced = lpa_layers(self.student)
        start, end = self._temperatures(layer)

        def loss(batch: Any, share: float) -> dict[str, torch.Tensor]:
            for index, lpa in replaced.items():
                # Layers replaced before are frozen: they stay as hard as they had become.
                falls = layer is None or index == layer
                lpa.hard, lpa.temperature = False, start * (end / start) ** share if falls else end
            return self.objective.loss(self.teacher, self.student, batch, sorted(compared))

        return loss

    def _temperatures(self, layer: int | None) -> tuple[float, float]:
        settings = self.settings
        if not settings.curriculum:
            return settings.joint_temperature[1], settings.joint_temperature[1]
        return settings.joint_temperature if layer is None else settings.layer_temperature

    def _evaluate(self) -> dict[str, float]:
        figures, replaced = {}, lpa_layers(self.student)
        name = self.objective.figure.name
        if not replaced:
            value = self.objective.value(self.student)
            return {f"soft_{name}": value, name: value}
        for hard, key in ((False, f"soft_{name}"), (True, name)):
            for lpa in replaced.values():
                lpa.hard = hard
            figures[key] = self.objective.value(self.student)
        return figures

    def _require_gradients(self, layer: int | None) -> None:
        """Freeze the student but for what the phase trains."""
        replaced: Any = lpa_layers(self.student)
        parts: Iterable[nn.Module]
        if not self.settings.co_adapt:
            parts = replaced.values() if layer is None else [replaced[layer]]
        elif layer is None:
            parts = self.objective.joint_parts(self.student)
        else:
            parts = [encoder_layers(self.student)[layer]]
        self.student.requires_grad_(False)
        # The last gradients of what is frozen now would count in the norm that clips the others.
        self.student.zero_grad(set_to_none=True)
        for part in parts:
            part.requires_grad_(True)


def _hash(order: Any) -> str:
    return hashlib.sha256(repr(order).encode()).hexdigest()
