"""An artifact as a benchmark runs it: one waveform in, the seconds that it took out.

How a target is timed is a field of its row (`TargetSpec.timing`): a callable that takes an open
bundle and `threads` and gives a `Timed`. `TimedRunner` serves every target whose runner works in
this process or in processes that it starts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from lpa_export.errors import LpaError
from lpa_export.measures.machine import peak_memory
from lpa_export.runtimes import Array, Runner, pad

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["Timed", "TimedRunner", "untimed"]


class Timed(Protocol):
    """Something open that can be timed. Raises LpaError or ArtifactError where it breaks."""

    def run(self, waveform: Array) -> float:
        """Seconds of one pass over a waveform (samples,), by the device's own events if it has."""
        ...

    def peak(self) -> int:
        """The most bytes of memory held so far, by this process and by those it started."""
        ...


class TimedRunner:
    """A target's runner by the clock: what an app would wait for.

    Raises LpaError for a runner that only emulates.
    """

    def __init__(self, runner: Runner) -> None:
        if runner.label != "measured":
            raise LpaError("what runs this artifact here is an emulator: its times mean nothing")
        self._runner = runner

    def run(self, waveform: Array) -> float:
        padded, lengths = pad([waveform])
        started = time.perf_counter()
        self._runner.run(padded, lengths)
        return time.perf_counter() - started

    def peak(self) -> int:
        return peak_memory()


def untimed(bundle: Bundle, *, threads: int) -> Timed:
    """For a target that nothing here runs but an emulator."""
    raise LpaError(
        f"{bundle.manifest.target} is emulated on this machine: its times need a Mac, or the phone "
        "itself (the app in ios_demo takes them)"
    )
