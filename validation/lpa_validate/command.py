"""``lpa-validate``: does an exported bundle still transcribe as the original?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import (
    COULD_NOT_RUN,
    GATE_FAILED,
    count,
    describe,
    print_error,
    require_flag,
    run_command,
)
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_validate.beside import Beside
    from lpa_validate.report import Report

__all__ = ["configure_parser", "main"]

PROG = "lpa-validate"


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags: those of ``lpa_validate.run.validate``, and how to print."""
    from lpa_export.decoding.settings import add_flags
    from lpa_export.targets import known_targets
    from lpa_validate.checks import known_checks

    describe(
        parser,
        "Compare an exported bundle with the model it came from, on real speech. Exit code: "
        "0 all gates hold, 1 a gate failed or could not be judged, 2 could not run.",
        examples=(
            f"{PROG} --target onnx",
            f"{PROG} --target coreml --bundle build/m/coreml --checkpoint m --data dev.jsonl",
        ),
        interrupted="no report of the bundle in work was written",
    )
    parser.add_argument(
        "--target",
        required=True,
        metavar="NAME",
        help=f"the kind of bundle: {', '.join(known_targets())}, or all of them that are installed",
    )
    require_flag(parser)
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="the bundle (default: the one under build/); with all: the folder above them",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="MANIFEST|DIR",
        help="speech: a JSONL manifest or a LibriSpeech folder; for a separator a JSONL manifest "
        "of mixtures and their sources, or its recipe (default: the demo speech)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help="the original model (default: the shipped one, else the bundle's golden tensors)",
    )
    parser.add_argument(
        "--checks",
        metavar="LIST",
        help=f"some of {','.join(known_checks())}, those that the target has (default: all of "
        "them); one that is named and cannot run is exit code 2; with all, each runs those it has",
    )
    placement = parser.add_mutually_exclusive_group()
    placement.add_argument(
        "--placement",
        type=Path,
        metavar="FILE",
        help="coreml: fail when an op leaves the Neural Engine that stays there in this file",
    )
    placement.add_argument(
        "--write-placement", type=Path, metavar="FILE", help="coreml: make that file"
    )
    parser.add_argument(
        "--write-case",
        type=Path,
        metavar="DIR",
        help="coreml: when parity fails, put the operation to blame there with its inputs, as .npz",
    )
    parser.add_argument(
        "--merge",
        type=Path,
        metavar="FILE",
        help="a report of the demo app on a device: judged by this bundle's gates and put beside "
        "the figures here",
    )
    parser.add_argument(
        "--listen",
        type=Path,
        metavar="FILE",
        help="of a separator: make a page there with three mixtures, noisy and clean, and what the "
        "original and the artifact make of them",
    )
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument(
        "--jobs",
        type=count,
        default=1,
        metavar="N",
        help="spread the utterances over N processes (default: 1); the report is the same",
    )
    spread.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="spread them over the workers of a Dask scheduler, such as tcp://host:8786; bundle, "
        "checkpoint and audio must lie at the same paths there",
    )
    parser.add_argument("--limit", type=count, metavar="N", help="only the first N utterances")
    add_flags(parser)
    parser.add_argument(
        "--allow-unjudged",
        action="store_true",
        help="exit code 0 although the speech is too little to judge a gate on words by",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "github", "html"),
        default="text",
        help="html: one page that needs no network, best with --output",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the report there; the verdict alone is printed",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.targets import ALL, absent_targets, targets_named
    from lpa_validate.renderers import render, render_all
    from lpa_validate.renderers.text import verdict_line
    from lpa_validate.run import parse_checks

    targets = targets_named(arguments.target, required=arguments.require)
    if arguments.target != ALL:
        asked = parse_checks(arguments.checks)
        report, beside = _report(arguments, arguments.target, arguments.bundle, asked)
        _put_out(arguments.output, render(report, arguments.format, beside))
        if arguments.output is not None:
            print(f"{verdict_line(report)}; see {arguments.output}")
        return report.exit_code if arguments.listen is None else _listen(arguments, report)
    if arguments.merge is not None:
        raise LpaError("--merge goes with the one target that ran on the device; name it")
    if arguments.listen is not None:
        raise LpaError("--listen is a page of one target; name it")
    found, codes = [], []
    for target in targets:
        bundle = None if arguments.bundle is None else arguments.bundle / target
        try:
            found.append(_report(arguments, target, bundle, _had(target, arguments.checks)))
            codes.append(found[-1][0].exit_code)
        except LpaError as error:
            print_error(PROG, f"target {target}: {error}")
            codes.append(COULD_NOT_RUN)
    _put_out(arguments.output, render_all(found, arguments.format))
    if arguments.output is not None:
        for report, _ in found:
            print(f"{report.target}: {verdict_line(report)}; see {arguments.output}")
    for problem in absent_targets().values():
        print(f"{PROG}: not run: {problem}", file=sys.stderr)
    # A failed gate is news about the model; it outweighs a target that could not run.
    return GATE_FAILED if GATE_FAILED in codes else max(codes)


def _had(target: str, checks: str | None) -> list[str] | None:
    """Of the checks that are named those that the target has; all of them where it has none."""
    from lpa_export.formats.task import RECOGNITION, SEPARATION
    from lpa_validate.checks import checks_of
    from lpa_validate.run import parse_checks

    asked = parse_checks(checks)
    known = {*checks_of(target, RECOGNITION), *checks_of(target, SEPARATION)}
    return asked and ([name for name in asked if name in known] or asked)


def _report(
    arguments: argparse.Namespace,
    target: str,
    bundle: Path | None,
    checks: list[str] | None,
) -> tuple["Report", "Beside"]:
    """One target's report, left in its bundle, and what stands beside it."""
    from lpa_export.decoding.settings import given_flags
    from lpa_export.formats.bundle import REPORT, default_bundle
    from lpa_export.targets import target_named
    from lpa_validate.beside import look_beside
    from lpa_validate.evaluation import Placement
    from lpa_validate.jobs import Jobs
    from lpa_validate.renderers import render
    from lpa_validate.run import validate

    if bundle is None:
        # Known here too, because the report belongs into it.
        target_named(target)
        bundle = default_bundle(target)
    if arguments.listen is not None:
        _require_listening(bundle, arguments.listen)
    placement = arguments.placement or arguments.write_placement
    report = validate(
        target=target,
        bundle=bundle,
        data=arguments.data,
        checkpoint=arguments.checkpoint,
        checks=checks,
        limit=arguments.limit,
        merge=arguments.merge,
        allow_unjudged=arguments.allow_unjudged,
        case_folder=arguments.write_case,
        **given_flags(arguments),
        jobs=Jobs(None if arguments.cluster else arguments.jobs, arguments.cluster),
        placement=placement and Placement(placement, write=arguments.placement is None),
    )
    unwritten = _write(bundle / REPORT, render(report, "json"))
    note = f"report.json not written: {unwritten}" if unwritten else ""
    return report, look_beside(bundle, note)


def _listen(arguments: argparse.Namespace, report: "Report") -> int:
    """Write the page to listen to; the command's exit code. The report is said by then."""
    from lpa_export.formats.bundle import default_bundle

    try:
        _write_listening(arguments.bundle or default_bundle(arguments.target), arguments)
    except LpaError as error:
        print_error(PROG, str(error))
        return report.exit_code or COULD_NOT_RUN
    return report.exit_code


def _require_listening(bundle: Path, page: Path) -> None:
    """Raise LpaError where no such page can be made: asked before the work."""
    from lpa_export.benchmark.picture import require_matplotlib
    from lpa_export.formats.separation_bundle import task_of_bundle
    from lpa_export.formats.task import SEPARATION

    if task_of_bundle(bundle) != SEPARATION:
        raise LpaError(f"{bundle}: it transcribes; --listen goes with bundles that give sound")
    require_matplotlib()
    if page.is_dir() or not page.parent.is_dir():
        raise LpaError(f"{page}: no place for a page; name a file in a folder that is there")


def _write_listening(bundle: Path, arguments: argparse.Namespace) -> None:
    from lpa_validate.renderers.html import render_listening
    from lpa_validate.separation.listening import CLIPS, listen

    listening = listen(
        bundle,
        data=arguments.data,
        checkpoint=arguments.checkpoint,
        count=min(CLIPS, arguments.limit or CLIPS),
    )
    _put_out(arguments.listen, render_listening(listening))


def _put_out(output: Path | None, text: str) -> None:
    """Print it, or put it in its file, whole or not at all."""
    if output is None:
        print(text, end="")
    elif output.exists() and not output.is_file():  # a pipe, or /dev/stdout
        output.write_text(text, "utf-8", errors="backslashreplace")
    else:
        _put_in_place(output.resolve(), text)


def _write(path: Path, text: str) -> str:
    """Write ``text`` whole or not at all; the reason when it cannot be written."""
    try:
        _put_in_place(path, text)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _put_in_place(path: Path, text: str) -> None:
    # Of a report it is `lpa_export.formats.bundle.UNFINISHED_REPORT`, which is no damage.
    beside = path.with_name(f".{path.name}.new")
    try:
        # Half of a surrogate pair, which a token may be, becomes the escape that JSON has for it.
        beside.write_text(text, "utf-8", errors="backslashreplace", newline="\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
