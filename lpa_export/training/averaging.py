"""The mean of the weights at the ends of a run's last epochs.

Averaged weights generalise a little better than the last ones (Izmailov et al. 2018, stochastic
weight averaging), which counts where the speech of a few speakers is all there is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from lpa_export.training.files import write_tensors

__all__ = ["WeightAverage"]


class WeightAverage:
    """A running mean in one file, so that a killed run continues it."""

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
