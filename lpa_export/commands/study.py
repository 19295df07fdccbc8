"""`lpa-train study`: variants of one recipe side by side, and the report of what has run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from lpa_export.cli import PASSED, count, describe, names, whole
from lpa_export.errors import LpaError

__all__ = ["add_workers", "configure_parser", "report", "run", "study"]


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """Flags of `lpa-train study`."""
    describe(
        parser,
        "Compare ways of replacing attention, with confidence intervals.",
        examples=(
            "lpa-train study --recipe my.yaml --study s.yaml --checkpoint my/teacher --out runs/s",
            "lpa-train study --recipe my.yaml --study s.yaml --out runs/s --report s.md",
        ),
        interrupted="what has run is kept, give the same command again for the rest",
    )
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="the recipe")
    parser.add_argument("--study", type=Path, required=True, metavar="FILE", help="what to compare")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where runs and results lie"
    )
    parser.add_argument(
        "--checkpoint",
        "--teacher",
        dest="teacher",
        metavar="DIR|HUB_ID",
        help="the attention teacher; needed unless --report is given",
    )
    parser.add_argument(
        "--only", type=names, metavar="NAME,NAME", help="these variants (default: all)"
    )
    parser.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="so many at once (default: 1)"
    )
    add_workers(parser)
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.md",
        help="train nothing: write tables of what has run, and a chart (FILE.png)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The flag that says how many processes make batches."""
    parser.add_argument(
        "--workers",
        type=whole,
        metavar="N",
        help="processes that prepare batches ahead, 0: none (default: beside a GPU all cores but "
        "one, up to 8; else 0)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, or report, and say where it lies."""
    if arguments.report is not None:
        for line in report(
            recipe=arguments.recipe,
            study=arguments.study,
            out=arguments.out,
            report=arguments.report,
        ):
            print(line)
        return PASSED
    if arguments.teacher is None:
        raise LpaError("a study needs its --teacher; --report alone does without")
    study(
        recipe=arguments.recipe,
        study=arguments.study,
        teacher=arguments.teacher,
        out=arguments.out,
        only=arguments.only,
        jobs=arguments.jobs,
        workers=arguments.workers,
        announce=lambda line: print(line, flush=True),
    )
    command = ["lpa-train", "study", "--recipe", arguments.recipe, "--study", arguments.study]
    command += ["--out", arguments.out, "--report", arguments.study.with_suffix(".md")]
    print(f"next: {shlex.join(map(str, command))}")
    return PASSED


def study(
    *,
    recipe: Path,
    study: Path,
    teacher: str,
    out: Path,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    workers: int | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> None:
    """Run the variants that have no result in `out` yet, `jobs` at a time.

    Raises LpaError for a study, teacher or folder that cannot be used, and when a run fails.
    """
    from lpa_export.training.ahead import default_workers
    from lpa_export.training.loop import Conduct
    from lpa_export.training.stages import attention_teacher
    from lpa_export.training.study.jobs import Source, run_side_by_side, sole_user
    from lpa_export.training.study.plan import chains, plan, require_usable
    from lpa_export.training.study.run import run_chain
    from lpa_export.training.study.settings import load_study

    loaded = load_study(recipe, study)
    chosen = loaded.chosen(only)
    source = attention_teacher(teacher)
    require_usable(loaded, chosen, source)  # before there is a folder
    conduct = Conduct(workers=default_workers() if workers is None else workers)
    with sole_user(out) as lock:
        planned = chains(plan(loaded, chosen, source, out, conduct))
        if jobs > 1:
            given = Source(recipe, study, teacher, out, conduct.workers)
            run_side_by_side(planned, given, jobs, lock, announce)
            return
        for chain in planned:
            run_chain(chain, source, out, announce, conduct)


def report(*, recipe: Path, study: Path, out: Path, report: Path) -> list[str]:
    """Write the report of what has run in `out`, and its chart; returns what to tell of it."""
    from lpa_export.training.files import replace_file
    from lpa_export.training.study.report import as_markdown, controls, depths, draw_depths
    from lpa_export.training.study.settings import load_study
    from lpa_export.training.study.tables import tabulate

    loaded = load_study(recipe, study)
    if not out.is_dir():
        raise LpaError(f"{out}: no such folder; a study writes it, name the same --out")
    tables, speech = tabulate(loaded, out)
    curves, chart = depths(tables), report.with_suffix(".png")
    if curves:
        draw_depths(chart, loaded.base.name, curves, controls(tables))
    text = as_markdown(loaded.base.name, tables, speech, chart.name if curves else None)
    replace_file(report, lambda beside: beside.write_text(text, encoding="utf-8"))
    ran = {row.variant.name for table in tables for row in table.rows}
    missing = len(loaded.variants) - len(ran)
    return [
        f"{len(ran)} of {len(loaded.variants)} variants have run, {missing} have not",
        f"wrote {report}" + (f" and {chart.name}" if curves else ""),
    ]
