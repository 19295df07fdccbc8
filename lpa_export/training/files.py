"""Tensor files that are whole or not there: written beside the old one and renamed over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

__all__ = ["load_weights", "save_weights", "write_tensors"]


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors to `path`; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, beside, metadata=metadata)
    beside.replace(path)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's state dict to `path`."""
    write_tensors(path, model.state_dict())


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote."""
    model.load_state_dict(load_file(path))
