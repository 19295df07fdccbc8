"""A run folder belongs to one recipe: its text lies in it, so that a resumed run mixes no two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.training.files import is_main_process
from lpa_export.training.workers import accelerator

__all__ = ["RunFolder"]


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
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LpaError(f"{folder}: exists and is no run of this recipe; name another folder")
        return run

    def is_recorded(self) -> bool:
        """Whether the folder's record says what this run's would, in whatever order."""
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return bool(found == json.loads(self.text))

    @property
    def record(self) -> Path:
        """The file that says whose the folder is."""
        return self.folder / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        """Where a stage that trains a model leaves it."""
        return self.folder / "checkpoint"

    def begin(self) -> None:
        """Make the folder this run's, once its data and model are known to be usable."""
        accelerator().wait_for_everyone()  # each process of a group has looked at the folder
        if not is_main_process():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.record.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise LpaError(f"{self.folder}: cannot be written ({error.strerror})") from error


def _absolute(path: Path) -> str:
    """The same file is the same data, however its recipe was named on the command line."""
    return str(path.resolve())
