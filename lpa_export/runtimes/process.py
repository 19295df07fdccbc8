"""A worker process as its owner sees it: started, asked, and ended whatever becomes of it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lpa_export.environment import child_environment
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.frames import Answer, FrameEnd, FrameError, read_frame, write_frame

__all__ = ["SECONDS", "Worker"]

SECONDS = 600.0
"""How long an answer may take before the artifact counts as hung."""

_DYING_SECONDS = 5.0
_LOG_BYTES = 8192
# "[operator_registry.cpp:273] kernel 'x' not found." -> what it says.
_LOG_PLACE = re.compile(r"^\[[\w./-]+:\d+\] ")
# Written on every start where the machine has no such file; no news.
_LOG_NOISE = re.compile(r"cpuinfo|CPU info|threadpool")


class Worker:
    """A process that runs one artifact. Every method raises ArtifactError when it breaks.

    ``script`` is what the process runs, with the modules that this process has; ``seconds`` how
    long an answer may take; ``environment`` is put into the process's own.
    """

    def __init__(
        self,
        script: Path,
        *,
        seconds: float = SECONDS,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._seconds = seconds
        log, place = tempfile.mkstemp(prefix="lpa-validate-")
        os.unlink(place)
        self._log = log
        # -P: the folder of the script stays out of its path, or its modules would hide others.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(**environment),
        )
        self.close = weakref.finalize(self, _end, self._process, log)
        self._exchange(None, ())

    def ask(self, op: str, arrays: Sequence[Any] = (), **request: Any) -> Answer:
        """The answer to one request: its header, and the arrays behind it.

        Raises ArtifactError in one line when the worker reports an error, dies, hangs or sends
        something else.
        """
        return self._exchange({"op": op, **request}, arrays)

    def _exchange(self, request: dict[str, Any] | None, arrays: Sequence[Any]) -> Answer:
        logged = self._logged
        hung = threading.Event()
        timer = threading.Timer(self._seconds, _stop, [self._process, hung])
        timer.daemon = True
        timer.start()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            if request is not None:
                write_frame(self._process.stdin, request, arrays)
            header, found = read_frame(self._process.stdout)
        except (FrameError, OSError, ValueError) as error:
            if hung.is_set():
                raise ArtifactError(f"no answer within {self._seconds:g} s") from error
            raise ArtifactError(self._ending(error, logged)) from error
        finally:
            timer.cancel()
        if "error" in header:
            raise ArtifactError(" ".join(f"{header['error']} {self._said(logged)}".split()))
        return header, found

    def _ending(self, error: Exception, logged: int) -> str:
        """How the process ended, which sent no proper answer."""
        if not isinstance(error, FrameEnd):
            self._process.kill()
        try:
            code = self._process.wait(_DYING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if not isinstance(error, FrameEnd | OSError):
            return "its process sent no proper answer"
        how = f"crashed ({_signal(-code)})" if code < 0 else "ended without an answer"
        return f"its process {how} {self._said(logged)}".rstrip()

    @property
    def _logged(self) -> int:
        return os.fstat(self._log).st_size

    def _said(self, start: int) -> str:
        """The last line of news that the runtime logged from ``start`` on, in parentheses."""
        # The process writes where the shared file position is: it must not be moved.
        start = max(start, self._logged - _LOG_BYTES)
        text = os.pread(self._log, _LOG_BYTES, start).decode("utf-8", "replace")
        news = [line for line in text.splitlines() if line.strip() and not _LOG_NOISE.search(line)]
        return f"({_LOG_PLACE.sub('', news[-1])[:200]})" if news else ""


def _stop(process: "subprocess.Popen[bytes]", hung: threading.Event) -> None:
    hung.set()
    process.kill()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: "subprocess.Popen[bytes]", log: int) -> None:
    """Leave no process and no open file behind."""
    process.kill()
    process.wait()
    os.close(log)
    for stream in (process.stdin, process.stdout):
        # What was left in the pipe to a dead process can no longer be flushed.
        with suppress(OSError):
            if stream is not None:
                stream.close()
