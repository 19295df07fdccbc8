"""`lpa-train`: an attention teacher from scratch, and its layers replaced by LPA."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lpa_export.commands._cli import PASSED, run_command
from lpa_export.errors import LpaError

__all__ = ["configure_parser", "main"]

STAGES = {
    "teacher": "train the attention teacher of the recipe from scratch with CTC",
    "replace": "replace the recipe's layers of a teacher by LPA, with distillation",
}


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """Flags of `lpa-train`."""
    parser.description = (
        "Train what a recipe describes. A run that was stopped continues where it was when the "
        "same command is given again."
    )
    stages = parser.add_subparsers(dest="stage", required=True, metavar="{teacher,replace}")
    for name, text in STAGES.items():
        stage = stages.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        stage.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="the recipe")
        stage.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="run folder (default: build/train/<name>/<stage>)",
        )
        stage.add_argument("--threads", type=_count, metavar="N", help="CPU threads (default: all)")
        stage.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        if name == "replace":
            stage.add_argument(
                "--teacher",
                metavar="DIR|HUB_ID",
                help="checkpoint to replace layers of (default: the recipe's, or its teacher run)",
            )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def train(
    stage: str,
    *,
    recipe: Path,
    out: Path | None = None,
    teacher: str | None = None,
    threads: int | None = None,
) -> Path:
    """Run one stage of `recipe`; returns the folder of the checkpoint it ends in.

    Raises LpaError for a recipe, data or run folder that cannot be used.
    """
    import torch

    from lpa_export.recipe import load_recipe
    from lpa_export.training.stages import replace_stage, teacher_stage

    if threads:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe)
    runs = Path("build") / "train" / loaded.name
    folder = out or runs / stage
    if stage == "teacher":
        return teacher_stage(loaded, folder)
    source = teacher or loaded.model.checkpoint or str(runs / "teacher" / "checkpoint")
    if teacher is None and loaded.model.checkpoint is None and not Path(source).is_dir():
        raise LpaError(f"{source}: no teacher there yet; run lpa-train teacher, or give --teacher")
    return replace_stage(loaded, source, folder)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage asked for and say where its checkpoint lies."""
    checkpoint = train(
        arguments.stage,
        recipe=arguments.recipe,
        out=arguments.out,
        teacher=getattr(arguments, "teacher", None),
        threads=arguments.threads,
    )
    print("\n".join([f"checkpoint: {checkpoint}", *_hardening(checkpoint)]))
    print(f"next: lpa-export --target onnx --checkpoint {checkpoint}")
    return PASSED


def _hardening(checkpoint: Path) -> list[str]:
    """What the checkpoint says of its gates: WER soft and hard, and the hardness of each layer."""
    section = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("lpa")
    if section is None:
        return []
    figures = section["figures"]
    lines = [
        f"  WER on {figures['utterances']} dev utterances: teacher {figures['teacher_wer']:.2f} %, "
        f"soft gates {figures['soft_wer']:.2f} %, hard gates {figures['hard_wer']:.2f} %",
        f"  hard against soft logits: {figures['hard_psnr_db']:.1f} dB",
    ]
    for layer, hardness in section["hardness"].items():
        lines.append(
            f"  layer {layer}: {100 * hardness['soft_share']:.2f} % of the gates are soft, "
            f"hard against soft output {hardness['psnr_db']:.1f} dB"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `lpa-train`."""
    return run_command("lpa-train", configure_parser, run, argv)
