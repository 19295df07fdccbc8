"""What a run continues from: its state, and the mean of the weights of its last epochs.

Each is one safetensors file, never a pickle, replaced whole.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.training.files import write_tensors
from lpa_export.training.optimiser import Optimiser

__all__ = ["STATE", "EpochSums", "Progress", "WeightAverage", "restore", "save"]

STATE = "state.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run is: the next batch is number `batch` of `epoch`; `step` updates are done.

    `best`: the lowest cost on held-out speech so far, see `records.Figure`.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = math.inf


@dataclass
class EpochSums:
    """What an epoch has come to so far: terms of the loss summed over `steps` updates.

    `seconds` by the clock, `waited` of them for batches; `audio`: seconds of speech, over all
    processes.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    audio: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)

    def add(self, terms: dict[str, float], *, seconds: float, waited: float, audio: float) -> None:
        """Count one update."""
        self.steps += 1
        self.seconds += seconds
        self.waited += waited
        self.audio += audio
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The mean of each term, and how fast the updates were."""
        means = {name: value / max(1, self.steps) for name, value in self.terms.items()}
        seconds = max(self.seconds, 1e-9)
        return means | {
            "seconds": self.seconds,
            "audio_hours_per_hour": self.audio / seconds,
            "waiting_share": self.waited / seconds,
        }


def save(
    folder: Path,
    model: nn.Module,
    optimiser: Optimiser,
    progress: Progress,
    sums: EpochSums,
) -> None:
    """Write weights, the optimiser's moments and the progress; LpaError when the disk refuses."""
    tensors = {f"model:{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= optimiser.moments()
    record = {"progress": json.dumps(asdict(progress)), "sums": json.dumps(asdict(sums))}
    write_tensors(folder / STATE, tensors, record)


def restore(
    folder: Path,
    model: nn.Module,
    optimiser: Optimiser,
) -> tuple[Progress, EpochSums]:
    """Put back what `save` wrote, if anything. LpaError for a state of another model or none."""
    path = folder / STATE
    if not path.is_file():
        return Progress(), EpochSums()
    try:
        with safe_open(path, framework="pt") as state:
            record = state.metadata() or {}
            progress = Progress(**json.loads(record["progress"]))
            sums = EpochSums(**json.loads(record.get("sums", "{}")))
            tensors = {key: state.get_tensor(key) for key in state.keys()}  # noqa: SIM118 - not a dict
        prefix = "model:"
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        optimiser.restore({k: v for k, v in tensors.items() if not k.startswith(prefix)})
        model.load_state_dict(weights)
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise LpaError(
            f"{path}: expected the state of this run, found another model's or a damaged file; "
            "remove it to start over, or give another --out"
        ) from error
    return progress, sums


class WeightAverage:
    """A running mean of the weights at the ends of epochs, in one file.

    Averaged weights generalise a little better than the last ones (Izmailov et al. 2018,
    stochastic weight averaging), which counts where the speech of a few speakers is all there is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, model: nn.Module, epoch: int) -> None:
        """Take in the weights at the end of `epoch`; an epoch counts once however often it ran."""
        count, last, mean = self._read()
        if epoch <= last:
            return
        weights = {name: t.detach().cpu() for name, t in model.state_dict().items()}
        if count:
            weights = {name: mean[name].lerp(t, 1 / (count + 1)) for name, t in weights.items()}
        write_tensors(self._path, weights, {"count": str(count + 1), "epoch": str(epoch)})

    def load_into(self, model: nn.Module) -> bool:
        """Give `model` the mean; False when no epoch was taken in."""
        count, _, mean = self._read()
        if count:
            model.load_state_dict(mean)
        return count > 0

    def _read(self) -> tuple[int, int, dict[str, torch.Tensor]]:
        """How many epochs, the last of them, their mean."""
        if not self._path.is_file():
            return 0, -1, {}
        with safe_open(self._path, framework="pt") as file:
            metadata = file.metadata()
            mean = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        return int(metadata["count"]), int(metadata["epoch"]), mean
