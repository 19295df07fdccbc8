"""Tensor files that are whole or not there: written beside the old one and renamed over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lpa_export.errors import LpaError

__all__ = ["is_main_process", "load_weights", "replace_file", "save_weights", "write_tensors"]


def is_main_process() -> bool:
    """Whether this process is the one of a launched group that writes files."""
    return os.environ.get("RANK", "0") == "0"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in the place of `path`.

    A kill or a power cut leaves the old file or the new one. Processes of a launched group but
    the main one write nothing. Raises LpaError when the disk is full or refuses; the old file is
    there still.
    """
    if not is_main_process():
        return
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LpaError(
            f"{path}: cannot be written ({reason}); what was saved before is still good: make "
            "room, then give the same command again"
        ) from error


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors to `path` in the way of `replace_file`."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    replace_file(path, lambda beside: save_file(contiguous, beside, metadata=metadata))


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's state dict to `path`."""
    write_tensors(path, model.state_dict())


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote."""
    model.load_state_dict(load_file(path))
