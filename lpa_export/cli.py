"""What every command shares: exit codes, one-line errors, quiet libraries.

Exit codes: 0 all asked-for gates passed; 1 a gate failed; 2 could not run; 130 interrupted.
Only the standard library is imported here, so that ``--help`` answers at once.
"""

import argparse
import errno
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from lpa_export import __version__
from lpa_export.environment import collect_rarely, quiet_libraries
from lpa_export.errors import LpaError, LpaWarning

__all__ = [
    "COULD_NOT_RUN",
    "GATE_FAILED",
    "PASSED",
    "count",
    "describe",
    "names",
    "print_error",
    "require_flag",
    "run_command",
    "whole",
]

PASSED = 0
GATE_FAILED = 1
COULD_NOT_RUN = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_TERMINATED = 143

_INTERRUPTED_TEXT = "_interrupted"
_EXAMPLES = "examples:\n"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def require_flag(parser: argparse.ArgumentParser) -> None:
    """``--require``, of every command that takes all targets at once."""
    parser.add_argument(
        "--require",
        type=names,
        default=(),
        metavar="LIST",
        help="with all: targets whose packages must be installed, as a,b",
    )


def run_command(
    prog: str,
    configure_parser: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse ``argv`` (the process's own by default), call ``run`` and return the exit code.

    ``--debug`` and ``--version`` are added to every command. Any exception becomes one line on
    stderr and exit code 2, never 1: a crash must not be read as a failed gate. A warning of ours
    is one line there too.
    """
    parser = _OneLineParser(prog=prog, allow_abbrev=False)
    configure_parser(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else PASSED
    interrupted = vars(arguments).pop(_INTERRUPTED_TEXT, "")
    if not arguments.debug:
        quiet_libraries()
        warnings.simplefilter("once", LpaWarning)
        warnings.showwarning = _shown_by(prog, warnings.showwarning)
    collect_rarely()
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
        print_error(prog, "; ".join(filter(None, ["interrupted", interrupted])))
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


def describe(
    parser: argparse.ArgumentParser, text: str, *, examples: Sequence[str], interrupted: str
) -> None:
    """What ``--help`` says before and behind the flags, and what Ctrl-C means for this command.

    ``interrupted`` follows "interrupted; ": what is left behind, and how to go on.
    """
    parser.formatter_class = _Help
    parser.description = text
    parser.epilog = _EXAMPLES + "\n".join(f"  {line}" for line in examples)
    parser.set_defaults(**{_INTERRUPTED_TEXT: interrupted})


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
    if isinstance(error, OSError) and error.errno in _FULL:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}the disk is full ({error.strerror}); make room, or write to another disk"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; check the path, its rights and the free space"
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs or take shorter audio"
    return f"unexpected {type(error).__name__}: {error}; --debug shows where, please report it"


def _shown_by(prog: str, before: Callable[..., Any]) -> Callable[..., None]:
    """What shows a warning: ours as one line of `prog`, any other as it was shown `before`."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, LpaWarning):
            print(f"{prog}: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            before(message, category, *rest, **named)

    return show


class _Help(argparse.HelpFormatter):
    """Wraps descriptions, and keeps examples line by line, as they are typed."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return text
        return super()._fill_text(text, width, indent)


class _OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text above each error: an error is one line everywhere.

    A flag that does not exist is named before what is missing: it is mostly the missing one,
    written wrong.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        # With commands below this one the flags behind their names are theirs.
        if not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            self._require_known(given)
        return super().parse_known_args(given, namespace)

    def _require_known(self, given: Sequence[str]) -> None:
        for argument in given:
            if argument == "--":
                return
            flag = argument.split("=", 1)[0]
            if flag.startswith("--") and flag not in self._option_string_actions:
                close = get_close_matches(flag, self._option_string_actions, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self.error(f"unrecognized arguments: {flag}{hint}")

    def error(self, message: str) -> NoReturn:
        print_error(self.prog, f"{message}; see {self.prog} --help")
        raise SystemExit(COULD_NOT_RUN)
