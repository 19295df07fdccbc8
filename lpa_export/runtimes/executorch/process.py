"""The process that runs an ExecuTorch program."""

from importlib.util import find_spec
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.runtimes.process import SECONDS
from lpa_export.runtimes.process import Worker as AnyWorker

__all__ = ["WORKER", "Worker"]

WORKER = Path(__file__).with_name("worker.py")
"""What the process runs."""


class Worker(AnyWorker):
    """A process with ExecuTorch. Raises LpaError when that is not installed."""

    def __init__(self, *, script: Path = WORKER, seconds: float = SECONDS) -> None:
        if find_spec("executorch") is None:
            raise LpaError(
                "this target runs in executorch, which is not installed; "
                "run: pip install 'lpa-export[executorch]'"
            )
        super().__init__(script, seconds=seconds)
