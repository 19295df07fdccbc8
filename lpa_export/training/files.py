"""What a run leaves on disk: files that are whole or not there, in a folder of one recipe's own.

A file is written beside the old one and renamed over it; of a launched group the main process
writes. A run folder says whose it is, so that a resumed run never mixes two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lpa_export.errors import LpaError
from lpa_export.formats.weights import store_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "RunFolder",
    "load_weights",
    "read_json",
    "replace_file",
    "round_to_half",
    "save_weights",
    "write_json",
    "write_tensors",
]

Made = TypeVar("Made")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in the place of `path`.

    A kill or a power cut leaves the old file or the new one. Processes of a launched group but
    the main one write nothing. Raises LpaError when the disk is full or refuses; the old file is
    there still.
    """
    from safetensors import SafetensorError

    from lpa_export.training.distributed import is_main_process

    if not is_main_process():
        return
    beside = _beside(path)
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


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON to `path` in the way of `replace_file`."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_json(path: Path, make: Callable[[Any], Made], what: str) -> Made:
    """What `make` makes of a JSON file; LpaError when it is missing, damaged or no `what`."""
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise LpaError(
            f"{path}: not {what} ({type(error).__name__}: {error}); delete its folder and give "
            "the command that wrote it again"
        ) from error


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors to `path` in the way of `replace_file`."""
    replace_file(path, lambda beside: store_tensors(beside, tensors, metadata))


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's state dict to `path`."""
    write_tensors(path, model.state_dict())


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path))


def round_to_half(model: nn.Module) -> None:
    """Give every weight the value that it will have once it is stored as float16."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


@dataclass(frozen=True)
class RunFolder:
    """A folder and the text of what it belongs to."""

    folder: Path
    text: str

    @classmethod
    def of(
        cls, folder: Path, sections: Mapping[str, Any], stage: str, *, teacher: str = ""
    ) -> RunFolder:
        """The run of `stage` in `folder`, new or begun; LpaError when the folder is another's.

        `sections`: what the stage's result depends on, `teacher`: hash of its checkpoint.
        """
        record = {**sections, "stage": stage, "teacher_sha256": teacher}
        run = cls(folder, json.dumps(record, indent=1, default=_absolute) + "\n")
        if run.record.is_file():
            if not run.is_recorded():
                raise LpaError(
                    f"{folder}: belongs to another recipe, teacher or stage; name another folder, "
                    "or delete it"
                )
        elif folder.exists() and not (folder.is_dir() and run._is_empty()):
            raise LpaError(f"{folder}: exists and is no run of this recipe; name another folder")
        return run

    @property
    def record(self) -> Path:
        """The file that says whose the folder is."""
        return self.folder / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        """Where a stage that trains a model leaves it."""
        return self.folder / "checkpoint"

    def is_recorded(self) -> bool:
        """Whether the folder's record says what this run's would, in whatever order."""
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return bool(found == json.loads(self.text))

    def _is_empty(self) -> bool:
        """But for what is left where a run was killed while it began."""
        return {*self.folder.iterdir()} <= {_beside(self.record)}

    def begin(self) -> None:
        """Make the folder this run's, once its data and model are known to be usable.

        Raises LpaError where it cannot be written. A run that goes on writes nothing.
        """
        from lpa_export.training.distributed import accelerator

        accelerator().wait_for_everyone()  # each process of a group has looked at the folder
        if not self.record.is_file():
            replace_file(self.record, lambda beside: beside.write_text(self.text, encoding="utf-8"))


def _absolute(path: Path) -> str:
    """The same file is the same data, however its recipe was named on the command line."""
    return str(path.resolve())
