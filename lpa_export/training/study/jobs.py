"""Chains of a study as processes side by side, each with its share of the cores.

The module is also the program of such a process:
python -m lpa_export.training.study.jobs RECIPE STUDY TEACHER OUT VARIANT:SEED ...
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lpa_export.cli import PASSED, run_command, whole
from lpa_export.errors import LpaError
from lpa_export.training.study.plan import Chain
from lpa_export.training.study.run import Announce, result_line, result_of

__all__ = ["Source", "main", "run_side_by_side", "sole_user"]

WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Source:
    """What the command was given: paths of recipe and study, the teacher, the study's folder.

    `workers`: processes that make batches, of each chain.
    """

    recipe: Path
    study: Path
    teacher: str
    out: Path
    workers: int = 0


@contextmanager
def sole_user(out: Path) -> Iterator[int]:
    """Keep other processes from training in `out` while the block, or a child of it, runs.

    Gives the descriptor that a child has to inherit. LpaError where another one is at work.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LpaError(
                f"{out}: another process runs this study; wait for it, or give it --jobs"
            ) from error
        yield file.fileno()


def run_side_by_side(
    chains: Sequence[Chain], source: Source, jobs: int, lock: int, announce: Announce
) -> None:
    """Run chains as processes, `jobs` at a time; what they print lies in `out`/logs.

    A chain that fails does not stop the others. Raises LpaError at the end, naming the first.
    """
    waiting, failed = list(chains), []
    running: list[tuple[Chain, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                chain = waiting.pop(0)
                running.append((chain, _start(chain, source, jobs, lock)))
            time.sleep(WAIT_SECONDS)
            for chain, process in [pair for pair in running if pair[1].poll() is not None]:
                running.remove((chain, process))
                if process.returncode:
                    failed.append(chain)
                for line in _outcome(chain, source):
                    announce(line)
    finally:
        for _, process in running:
            process.terminate()
    if failed:
        log = _log(failed[0], source)
        raise LpaError(
            f"{len(failed)} of {len(chains)} chains failed, the first at {failed[0][0].name}: "
            f"{_last_line(log)} (see {log})"
        )


def _start(chain: Chain, source: Source, jobs: int, lock: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    command = [sys.executable, "-m", "lpa_export.training.study.jobs"]
    command += [str(source.recipe), str(source.study), source.teacher, str(source.out)]
    command += [run.name for run in chain]
    command += ["--workers", str(source.workers)]
    with _opened(_log(chain, source)) as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            pass_fds=(lock,),
        )


def _log(chain: Chain, source: Source) -> Path:
    return source.out / "logs" / f"{chain[0].name.replace(':', '-seed-')}.txt"


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _outcome(chain: Chain, source: Source) -> Iterator[str]:
    for run in chain:
        result = result_of(source.out, run.variant, run.seed)
        yield f"{run.name}: has failed or not run" if result is None else result_line(result)


def _last_line(path: Path) -> str:
    with suppress(OSError, IndexError):
        return path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
    return "no message"


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run some variants of a study, one after another."
    for name in ("recipe", "study"):
        parser.add_argument(name, type=Path)
    parser.add_argument("teacher")
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="VARIANT:SEED")
    parser.add_argument("--workers", type=whole, default=0)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.training.loop import Conduct
    from lpa_export.training.stages import attention_teacher
    from lpa_export.training.study.plan import plan
    from lpa_export.training.study.run import run_chain
    from lpa_export.training.study.settings import load_study

    study = load_study(arguments.recipe, arguments.study)
    names = {run.partition(":")[0] for run in arguments.runs}
    source, conduct = attention_teacher(arguments.teacher), Conduct(workers=arguments.workers)
    planned = plan(study, study.chosen(list(names)), source, arguments.out, conduct)
    chain = tuple(run for run in planned if run.name in arguments.runs)
    run_chain(chain, source, arguments.out, print, conduct)
    return PASSED


def main() -> int:
    """Run the chain; the exit codes are those of the commands."""
    return run_command("lpa-train study", _configure, _run)


if __name__ == "__main__":
    sys.exit(main())
