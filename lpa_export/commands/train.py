"""`lpa-train`: a teacher, how hard its layers are to replace, layers replaced, and studies."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.cli import PASSED, count, describe, run_command
from lpa_export.commands import measure, study, windows
from lpa_export.commands.study import add_workers
from lpa_export.errors import LpaError
from lpa_export.formats.task import SEPARATION, task_of
from lpa_export.training.ranking import AutoLayers, LayerChoice, parse_layers

if TYPE_CHECKING:
    pass

__all__ = ["configure_parser", "main"]

STAGES = {
    "teacher": "train the attention teacher of the recipe from scratch",
    "sweep": "rank the teacher's layers by how well an LPA can stand in for their attention",
    "replace": "replace layers of the teacher by LPA one after another, with distillation",
}
_EXAMPLES = {
    "teacher": (
        "lpa-train teacher --recipe my.yaml",
        "lpa-train teacher --recipe my.yaml --cycles 1 --checkpoint my/teacher --out runs/refined",
    ),
    "sweep": (
        "lpa-train sweep --recipe my.yaml --checkpoint my/teacher",
        "lpa-train sweep --recipe my.yaml --layers 0,1,2",
    ),
    "replace": (
        "lpa-train replace --recipe my.yaml --layers auto:4",
        "lpa-train replace --recipe my.yaml --checkpoint my/teacher --layers 0,1,2",
    ),
}
_CONTINUES = "give the same command again, the run continues where it was"

# What has flags of its own.
OTHERS = {
    "study": ("compare ways of replacing attention, with confidence intervals", study),
    "measure": ("measure separators on test mixtures", measure),
    "windows": ("draw where a model's windows lie on a recording", windows),
}


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """Flags of `lpa-train`."""
    describe(
        parser,
        "Train what a recipe describes. A run that was stopped continues where it was when the "
        "same command is given again.",
        examples=(
            "lpa-train teacher --recipe my.yaml",
            "lpa-train replace --recipe my.yaml --layers auto:4",
        ),
        interrupted=_CONTINUES,
    )
    metavar = "{" + ",".join((*STAGES, *OTHERS)) + "}"
    stages = parser.add_subparsers(dest="stage", required=True, metavar=metavar)
    for name, (text, command) in OTHERS.items():
        command.configure_parser(_added(stages, name, text))
    for name, text in STAGES.items():
        stage = _added(stages, name, text)
        describe(stage, _sentence(text), examples=_EXAMPLES[name], interrupted=_CONTINUES)
        stage.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="the recipe")
        stage.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="run folder (default: build/train/<name>/<stage>)",
        )
        stage.add_argument("--threads", type=count, metavar="N", help="CPU threads (default: all)")
        add_workers(stage)
        stage.add_argument(
            "--checkpoint",
            "--teacher",
            dest="teacher",
            metavar="DIR|HUB_ID",
            help="a teacher to train on by --cycles"
            if name == "teacher"
            else "the attention teacher (default: the recipe's, or its teacher run)",
        )
    stages.choices["teacher"].add_argument(
        "--cycles",
        type=_cycles,
        metavar="LIST",
        help="which cycles of the recipe's training, such as 0, or 1,2 of what --checkpoint names: "
        "0 is teacher, from scratch, the others are those of refine (default: all)",
    )
    stages.choices["sweep"].add_argument(
        "--layers",
        type=_named_layers,
        metavar="LIST",
        help="for example 0,1,2, or of a separator intra, inter or all (default: all, or those of "
        "the recipe's kind)",
    )
    stages.choices["replace"].add_argument(
        "--layers",
        type=_layers,
        metavar="auto:N|LIST|intra|inter|all|recipe",
        help="the N easiest of the sweep, which is run first where it has not been; or layers in "
        "the order to replace them, for example 0,1,2; of a separator, those within chunks, across "
        "chunks, or all (default: recipe)",
    )
    stages.choices["replace"].add_argument(
        "--control",
        action="store_true",
        help="replace nothing: train the attention of these layers on through the same joint "
        "phase, to see what training on gains by itself",
    )
    stages.choices["replace"].add_argument(
        "--sweep",
        type=Path,
        metavar="DIR",
        help="run folder of the sweep for auto:N (default: build/train/<name>/sweep)",
    )


def _added(stages: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = stages.add_parser(name, help=text)
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    return parser


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _layers(text: str) -> LayerChoice | None:
    """None is the recipe's own list."""
    if text == "recipe":
        return None
    try:
        return parse_layers(text)
    except LpaError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _cycles(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers of cycles as 0 or 1,2; found {text!r}"
        ) from None


def _named_layers(text: str) -> LayerChoice | None:
    layers = _layers(text)
    if isinstance(layers, AutoLayers):
        raise argparse.ArgumentTypeError(
            f"a sweep names its layers, as 0,1,2 or intra; found {text}"
        )
    return layers


def train(
    stage: str,
    *,
    recipe: Path,
    out: Path | None = None,
    teacher: str | None = None,
    layers: LayerChoice | None = None,
    sweep: Path | None = None,
    control: bool = False,
    cycles: Sequence[int] | None = None,
    threads: int | None = None,
    workers: int | None = None,
) -> Path:
    """Run one stage of `recipe`; returns the folder of its checkpoint, or of the sweep.

    Raises LpaError for a recipe, data, layers or a run folder that cannot be used.
    """
    if task_of(recipe) == SEPARATION:
        return _train_separation(
            stage,
            recipe=recipe,
            out=out,
            teacher=teacher,
            layers=layers,
            sweep=sweep,
            control=control,
            cycles=cycles,
            threads=threads,
            workers=workers,
        )
    from lpa_export.targets.settings import load_recipe

    loaded = load_recipe(recipe)
    # Not before: a mistake in the recipe is said at once, torch takes seconds.
    import torch

    from lpa_export.training.ahead import default_workers
    from lpa_export.training.loop import Conduct
    from lpa_export.training.ranking import numbered
    from lpa_export.training.stages import Trainer, attention_teacher

    if threads:
        torch.set_num_threads(threads)
    runs = Path("build") / "train" / loaded.name
    folder = out or runs / ("control" if control else stage)
    conduct = Conduct(workers=default_workers() if workers is None else workers)
    trainer = Trainer(loaded, conduct)
    if stage == "teacher":
        start = attention_teacher(teacher) if teacher else None
        return trainer.teacher(folder, start=start, cycles=cycles)
    source = attention_teacher(_teacher(runs, teacher or loaded.model.checkpoint))
    if stage == "sweep":
        chosen = numbered(layers)
        trainer.sweep(source, folder, chosen if isinstance(chosen, tuple) else None)
        return folder
    return trainer.replace(
        source, folder, layers=layers, sweep=sweep or runs / "sweep", control=control
    )


def _train_separation(
    stage: str,
    *,
    recipe: Path,
    out: Path | None,
    teacher: str | None,
    layers: LayerChoice | None,
    sweep: Path | None,
    control: bool,
    cycles: Sequence[int] | None,
    threads: int | None,
    workers: int | None,
) -> Path:
    """The same of a recipe whose task is separation."""
    from lpa_export.formats.separation_recipe import load_separation_recipe

    loaded = load_separation_recipe(recipe)
    import torch

    from lpa_export.formats.separator import load_separator
    from lpa_export.training.ahead import default_workers
    from lpa_export.training.loop import Conduct
    from lpa_export.training.separation.stages import SeparationTrainer

    if threads:
        torch.set_num_threads(threads)
    conduct = Conduct(workers=default_workers() if workers is None else workers)
    runs = Path("build") / "train" / loaded.name
    folder = out or runs / ("control" if control else stage)
    trainer = SeparationTrainer(loaded, conduct)
    if stage == "teacher":
        start = load_separator(teacher) if teacher else None
        return trainer.teacher(folder, start=start, cycles=cycles)
    source = load_separator(_teacher(runs, teacher))
    if stage == "sweep":
        trainer.sweep(source, folder, layers)
        return folder
    return trainer.replace(
        source, folder, layers=layers, sweep=sweep or runs / "sweep", control=control
    )


def _teacher(runs: Path, named: str | None) -> str:
    """The checkpoint to replace layers of: the named one, or what the teacher's run made."""
    if named:
        return named
    trained = runs / "teacher" / "checkpoint"
    if not trained.is_dir():
        raise LpaError(
            f"{trained}: no teacher there yet; run lpa-train teacher, or give --checkpoint"
        )
    return str(trained)


_PARAMETERS = (
    "recipe",
    "out",
    "teacher",
    "layers",
    "sweep",
    "control",
    "cycles",
    "threads",
    "workers",
)
"""Flags of the stages, as `train` takes them."""


def run(arguments: argparse.Namespace) -> int:
    """Run the stage asked for and say what came of it and where it lies."""
    if arguments.stage in OTHERS:
        return OTHERS[arguments.stage][1].run(arguments)
    options = vars(arguments)
    given = {name: options[name] for name in _PARAMETERS if options.get(name) is not None}
    folder = train(arguments.stage, **given)
    from lpa_export.training.distributed import is_main_process

    if is_main_process():
        print("\n".join(_lines(folder, arguments)))
    return PASSED


def _lines(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """What is said of the stage that is done."""
    if arguments.stage == "sweep":
        return _sweep_lines(folder, arguments)
    separates = task_of(arguments.recipe) == SEPARATION
    return (_separator_lines if separates else _checkpoint_lines)(folder, arguments)


def _separator_lines(checkpoint: Path, arguments: argparse.Namespace) -> list[str]:
    """Where the checkpoint lies, and what it gains on held-out mixtures."""
    from lpa_export.training.replacement_log import read_log_of_layers
    from lpa_export.training.separation.stages import FIGURES

    lines = [f"checkpoint: {checkpoint}"]
    replaced = arguments.stage == "replace" and not arguments.control
    if replaced:
        lines += [f"  {line}" for line in read_log_of_layers(checkpoint.parent).lines()]
    figures = json.loads((checkpoint.parent / FIGURES).read_text(encoding="utf-8"))
    lines += [f"  held-out {name}: {value:.2f}" for name, value in figures.items()]
    if replaced:
        section = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["lpa"]
        lines += _hardness_lines(section)
    command = ["lpa-train", "measure", "--recipe", str(arguments.recipe)]
    return [*lines, f"next: {shlex.join([*command, '--checkpoint', str(checkpoint)])}"]


def _sweep_lines(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """The ranked layers, and what to do with them."""
    from lpa_export.training.ranking import SWEEP, read_ranking

    ranking = read_ranking(folder / SWEEP)
    lines = ["normalised MSE of an LPA in place of the attention, held out, easiest first"]
    lines += [
        f"  layer {fit.layer}: soft gates {fit.soft:.4f}, hard gates {fit.hard:.4f}"
        for fit in ranking.fits
    ]
    lines.append(f"wrote {folder / SWEEP} and {(folder / SWEEP).with_suffix('.png').name}")
    where = {"--teacher": arguments.teacher, "--sweep": arguments.out}
    command = ["lpa-train", "replace", "--recipe", str(arguments.recipe), "--layers", "auto:N"]
    for flag, value in where.items():
        command += [] if value is None else [flag, str(value)]
    return [*lines, f"next: {shlex.join(command)}"]


def _checkpoint_lines(checkpoint: Path, arguments: argparse.Namespace) -> list[str]:
    """Where the checkpoint lies, and what its stage says of it."""
    lines = [f"checkpoint: {checkpoint}"]
    if arguments.stage == "replace":
        lines += _control(checkpoint) if arguments.control else _hardening(checkpoint)
    command = ["lpa-export", "--target", "onnx", "--checkpoint", str(checkpoint)]
    return [*lines, f"next: {shlex.join(command)}"]


def _hardening(checkpoint: Path) -> list[str]:
    """Layer by layer how the WER moved, then WER soft and hard and the hardness of the gates."""
    from lpa_export.training.replacement_log import read_log_of_layers

    section = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["lpa"]
    figures = section["figures"]
    lines = [f"  {line}" for line in read_log_of_layers(checkpoint.parent).lines()]
    lines += [
        f"  WER on {figures['utterances']} dev utterances: teacher {figures['teacher_wer']:.2f} %, "
        f"soft gates {figures['soft_wer']:.2f} %, hard gates {figures['hard_wer']:.2f} %",
        f"  hard against soft logits: {figures['hard_psnr_db']:.1f} dB",
    ]
    return [*lines, *_hardness_lines(section)]


def _hardness_lines(section: dict[str, Any]) -> list[str]:
    return [
        f"  layer {layer}: {100 * hardness['soft_share']:.2f} % of the gates are soft, "
        f"hard against soft output {hardness['psnr_db']:.1f} dB"
        for layer, hardness in section["hardness"].items()
    ]


def _control(checkpoint: Path) -> list[str]:
    """The WER of the attention before and after it was trained on."""
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.measures.word_errors import count_errors
    from lpa_export.training.evaluate import read_transcripts

    rows = read_transcripts(checkpoint.parent)
    normalise = load_checkpoint(checkpoint).vocabulary.normalise
    texts = [row.text for row in rows]
    teacher, trained = (
        count_errors(texts, [getattr(row, who) for row in rows], normalise).wer
        for who in ("teacher", "hard")
    )
    return [
        f"  WER on {len(rows)} dev utterances: teacher {teacher:.2f} %, its attention trained on "
        f"{trained:.2f} %"
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `lpa-train`."""
    return run_command("lpa-train", configure_parser, run, argv)


if __name__ == "__main__":  # for launchers that start modules
    sys.exit(main())
