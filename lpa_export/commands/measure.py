"""`lpa-train measure`: separators on the stored test mixtures of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import PASSED, count, describe
from lpa_export.errors import LpaError
from lpa_export.formats.task import SEPARATION, task_of

if TYPE_CHECKING:
    from lpa_export.training.separation.measure import Measured

__all__ = ["configure_parser", "measure", "run"]


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """Flags of `lpa-train measure`."""
    describe(
        parser,
        "Measure separators on the test mixtures of a separation recipe: SI-SNR, SDR, STOI and "
        "PESQ by signal-to-noise ratio. The list of mixtures is drawn where there is none yet.",
        examples=(
            "lpa-train measure --recipe my.yaml --checkpoint my/teacher",
            "lpa-train measure --recipe my.yaml --checkpoint my/teacher --checkpoint my/lpa "
            "--out figures.json",
        ),
        interrupted="nothing was written; give the same command again",
    )
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="the recipe")
    parser.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        metavar="DIR|HUB_ID",
        help="a separator; several are compared with the first",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the table."""
    from lpa_export.training.separation.measure import table

    found = measure(
        recipe=arguments.recipe,
        checkpoints=arguments.checkpoint,
        out=arguments.out,
        threads=arguments.threads,
    )
    print("\n".join(table(found)))
    if arguments.out is not None:
        print(f"wrote {arguments.out}")
    return PASSED


def measure(
    *,
    recipe: Path,
    checkpoints: Sequence[str],
    out: Path | None = None,
    threads: int | None = None,
) -> list[Measured]:
    """Figures of the recipe's test mixtures themselves, and of what every checkpoint makes of them.

    `out` gets them as JSON.

    Raises LpaError for a recipe without test speech, and for checkpoints that do not fit it.
    """
    if task_of(recipe) != SEPARATION:
        raise LpaError(
            f"{recipe}: its task is recognition; lpa-validate measures what recognises speech"
        )
    import torch

    from lpa_export.formats.separation_recipe import load_separation_recipe
    from lpa_export.formats.separator import load_separator
    from lpa_export.training.files import write_json
    from lpa_export.training.separation.measure import MIXTURE
    from lpa_export.training.separation.measure import measure as measure_one
    from lpa_export.training.separation.stages import SeparationTrainer

    if threads:
        torch.set_num_threads(threads)
    loaded = load_separation_recipe(recipe)
    separators = [load_separator(checkpoint) for checkpoint in checkpoints]
    for checkpoint, separator in zip(checkpoints, separators, strict=True):
        config = separator.model.config
        if (config.sampling_rate, config.sources) != (
            loaded.model.sampling_rate,
            loaded.model.sources,
        ):
            raise LpaError(
                f"{checkpoint}: {config.sources} sources at {config.sampling_rate} Hz, the recipe "
                f"has {loaded.model.sources} at {loaded.model.sampling_rate} Hz"
            )
    names = [separator.name for separator in separators]
    if len({*names}) < len(names):  # of one recipe, as its variants are
        names = list(checkpoints)
    sounds, draws = SeparationTrainer(loaded).test()
    found = [measure_one(MIXTURE, None, lambda mixture: mixture[:, None], sounds, draws)]
    found += [
        measure_one(name, separator.sha256, separator.model, sounds, draws)
        for name, separator in zip(names, separators, strict=True)
    ]
    if out is not None:
        write_json(out, [model.to_json() for model in found])
    return found
