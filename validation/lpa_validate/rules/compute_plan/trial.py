"""A prediction in a process of its own: one that Core ML kills is a finding, not our end.

(A prediction can take its process down: apple/coremltools#2758.)
"""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lpa_export.runtimes.coreml.errors import one_line

__all__ = ["TIMEOUT", "Outcome", "Trial", "try_prediction"]

TIMEOUT = 600.0
"""Seconds: the first load on the Neural Engine compiles for it."""

Outcome = Literal["ok", "failed", "killed", "timed out"]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Trial:
    """One prediction. ``outputs`` are there when it ended well; ``seconds`` with the load."""

    function: str
    units: str
    outcome: Outcome
    message: str
    seconds: float
    outputs: Arrays

    @property
    def fault(self) -> str:
        """What is wrong with it, "" when it gave numbers without NaN or infinity."""
        if self.outcome != "ok":
            return f"{self.outcome}: {self.message}"
        if not self.outputs:
            return "no outputs"
        broken = [n for n, values in self.outputs.items() if not np.isfinite(values).all()]
        return f"NaN or infinity in {', '.join(broken)}" if broken else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "units": self.units,
            "outcome": self.outcome,
            "message": self.message,
            "seconds": round(self.seconds, 3),
            "fault": self.fault,
        }


def try_prediction(
    model: Path,
    function: str,
    units: str,
    inputs: Arrays,
    *,
    timeout: float = TIMEOUT,
    command: Sequence[str] = (sys.executable, "-m", "lpa_validate.rules.compute_plan.predict"),
) -> Trial:
    """One prediction of a compiled model on the compute units; never raises for what it does.

    ``command`` is called with the model, the function, the units, the file of inputs and the file
    to write outputs to (both .npz).
    """
    started = monotonic()
    with TemporaryDirectory() as folder:
        given, found = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        arrays: dict[str, Any] = dict(inputs)
        np.savez(given, **arrays)
        arguments = [*command, str(model), function, units, str(given), str(found)]
        outcome, message = _run(arguments, timeout)
        outputs: dict[str, npt.NDArray[Any]] = {}
        if outcome == "ok":
            try:
                with np.load(found, allow_pickle=False) as written:
                    outputs = dict(written)
            except (OSError, ValueError) as error:
                outcome, message = "failed", f"no outputs: {one_line(error)[:200]}"
    return Trial(function, units, outcome, message, monotonic() - started, outputs)


def _run(arguments: Sequence[str], timeout: float) -> tuple[Outcome, str]:
    try:
        ended = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "timed out", f"no result in {timeout:g} s"
    if ended.returncode < 0:
        return "killed", f"ended by {_signal(-ended.returncode)}"
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        return "failed", one_line(said[-1] if said else f"exit code {ended.returncode}")[:200]
    return "ok", ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
