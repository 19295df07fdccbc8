"""A program in the runtime, for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpa_export.runtimes.executorch.process import Worker


def run_program(
    program: Path, method: str, clips: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Outputs of each clip's inputs, batch axis and all."""
    worker = Worker()
    worker.ask("open", path=str(program))
    try:
        return {name: worker.ask("run", given, method=method)[1] for name, given in clips.items()}
    finally:
        worker.close()
