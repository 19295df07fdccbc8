"""The state of a run: one safetensors file, never pickle, replaced whole."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.training.files import write_tensors
from lpa_export.training.optimiser import Optimiser

__all__ = ["STATE", "EpochSums", "Progress", "restore", "save"]

STATE = "state.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run is: the next batch is number `batch` of `epoch`; `step` updates are done."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = math.inf


@dataclass
class EpochSums:
    """What an epoch has come to so far: terms of the loss summed over `steps` updates."""

    steps: int = 0
    seconds: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)

    def add(self, terms: dict[str, float], seconds: float) -> None:
        """Count one update."""
        self.steps += 1
        self.seconds += seconds
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The mean of each term, and the seconds."""
        means = {name: value / max(1, self.steps) for name, value in self.terms.items()}
        return means | {"seconds": self.seconds}


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
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise LpaError(
            f"{path}: expected the state of this run, found another model's or a damaged file; "
            "remove it to start over, or give another --out"
        ) from error
    return progress, sums
