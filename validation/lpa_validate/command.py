"""``lpa-validate``: does an exported bundle still transcribe as the original?"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lpa_export.commands._cli import run_command

__all__ = ["configure_parser", "main"]


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags: those of ``lpa_validate.validate.validate``, and how to print."""
    parser.description = (
        "Compare an exported bundle with the model it came from, on real speech. Exit code: "
        "0 all gates hold, 1 a gate failed, 2 could not run."
    )
    parser.add_argument("--target", required=True, help="the kind of bundle, such as onnx")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="the bundle (default: the one under build/)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="MANIFEST|DIR",
        help="speech: a JSONL manifest or a LibriSpeech folder (default: the demo speech)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help="the original model (default: the shipped one, else the bundle's golden tensors)",
    )
    parser.add_argument(
        "--checks",
        metavar="LIST",
        help="integrity,ops,parity,wer,padding,determinism or some of them; one that is named "
        "and cannot run is exit code 2",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    parser.add_argument("--format", choices=("text", "json", "github"), default="text")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the printed report there instead"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command("lpa-validate", configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.bundle import default_bundle
    from lpa_validate.renderers import render
    from lpa_validate.validate import parse_checks, validate

    checks = parse_checks(arguments.checks)
    bundle = arguments.bundle
    if bundle is None:
        # Known here too, because the report belongs into it.
        from lpa_validate.targets import target_named

        target_named(arguments.target)
        bundle = default_bundle(arguments.target)
    report = validate(
        target=arguments.target,
        bundle=bundle,
        data=arguments.data,
        checkpoint=arguments.checkpoint,
        checks=checks,
        limit=arguments.limit,
    )
    unwritten = _write(bundle / "report.json", render(report, "json"))
    note = f"report.json not written: {unwritten}" if unwritten else ""
    text = render(report, arguments.format, note=note)
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text, "utf-8")
    return report.exit_code


def _write(path: Path, text: str) -> str:
    """Write ``text`` whole or not at all; the reason when it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        return error.strerror or str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
