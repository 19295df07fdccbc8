"""One chain of a study in a process of its own; `jobs` starts it.

python -m lpa_export.training.study.worker RECIPE STUDY TEACHER OUT VARIANT:SEED ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lpa_export.cli import PASSED, run_command

__all__ = ["main"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run some variants of a study, one after another."
    for name in ("recipe", "study"):
        parser.add_argument(name, type=Path)
    parser.add_argument("teacher")
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="VARIANT:SEED")


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.training.study.plan import plan
    from lpa_export.training.study.run import run_chain
    from lpa_export.training.study.settings import load_study

    study = load_study(arguments.recipe, arguments.study)
    names = {run.partition(":")[0] for run in arguments.runs}
    planned = plan(study, study.chosen(list(names)), arguments.teacher, arguments.out)
    chain = tuple(run for run in planned if run.name in arguments.runs)
    run_chain(chain, arguments.teacher, arguments.out, print)
    return PASSED


def main() -> int:
    """Run the chain; the exit codes are those of the commands."""
    return run_command("lpa-train study", _configure, _run)


if __name__ == "__main__":
    sys.exit(main())
