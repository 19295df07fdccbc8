"""What every command shares: exit codes, one-line errors, quiet libraries.

Exit codes: 0 all asked-for gates passed; 1 a gate failed; 2 could not run; 130 interrupted.
Only the standard library is imported here, so that ``--help`` answers at once.
"""

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from lpa_export import __version__
from lpa_export.environment import quiet_libraries
from lpa_export.errors import LpaError

__all__ = [
    "COULD_NOT_RUN",
    "GATE_FAILED",
    "PASSED",
    "count",
    "names",
    "print_error",
    "run_command",
    "whole",
]

PASSED = 0
GATE_FAILED = 1
COULD_NOT_RUN = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_TERMINATED = 143


def run_command(
    prog: str,
    configure_parser: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse ``argv`` (the process's own by default), call ``run`` and return the exit code.

    ``--debug`` and ``--version`` are added to every command. Any exception becomes one line on
    stderr and exit code 2, never 1: a crash must not be read as a failed gate.
    """
    parser = _OneLineParser(prog=prog, allow_abbrev=False)
    configure_parser(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else PASSED
    if not arguments.debug:
        quiet_libraries()
    _print_anything()
    # As an exception, so that temporary folders are cleaned up as after Ctrl-C. Only a program's
    # main thread may say so.
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, _terminated)
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print_error(
            prog, "interrupted; give the same command again, a training run continues where it was"
        )
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        print_error(prog, _explained(error))
        return COULD_NOT_RUN


def print_error(prog: str, message: str) -> None:
    """Print ``prog: error: message`` on stderr as one line."""
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names apart by commas."""
    found = tuple(text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names as a,b; found {text!r}")
    return found


def _print_anything() -> None:
    """What the terminal's encoding cannot say, and half of a surrogate pair, is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(_TERMINATED)


def _explained(error: Exception) -> str:
    """One line for the user: our own errors as they are, the usual others with what to do."""
    if isinstance(error, LpaError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing; install it, or lpa-export again"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; check the path, its rights and the free space"
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs or take shorter audio"
    return f"unexpected {type(error).__name__}: {error}; --debug shows where, please report it"


class _OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text above each error: an error is one line everywhere."""

    def error(self, message: str) -> NoReturn:
        print_error(self.prog, f"{message}; see {self.prog} --help")
        raise SystemExit(COULD_NOT_RUN)
