"""What a study runs, and in which chains: runs that share trained layers.

Replacing layers 0, 1 and 2 passes through the model in which only 0 and 1 are replaced: variants
that differ in nothing but depth, or in the joint phase only, share those phases. Runs that share
any make a chain, which one process runs in order, so that no two train the same phase at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.recipe import Recipe
from lpa_export.hosts import encoder_layers
from lpa_export.training.files import RunFolder
from lpa_export.training.loop import Conduct
from lpa_export.training.ranking import require_layers
from lpa_export.training.stages import Trainer
from lpa_export.training.study.settings import Study, Variant
from lpa_export.training.teacher import require_shape

__all__ = ["Chain", "Run", "chains", "phases_folder", "plan", "require_usable"]

PHASES = "phases"
# What only the joint phase knows of: variants that differ in these share the layers' phases.
JOINT_ONLY = frozenset(
    {
        "joint_epochs",
        "joint_learning_rate",
        "hard_forward",
        "joint_augment",
        "average_epochs",
        "max_wer_points",
        "max_wer_points_per_layer",
    }
)
# Of the recipe, what the phases of the layers depend on, beside the teacher.
SECTIONS = ("data", "teacher", "refine", "training")


@dataclass(frozen=True)
class Run:
    """One variant under one seed; `layers` in the order in which they are replaced."""

    variant: Variant
    seed: int
    layers: tuple[int, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe of this run."""
        return self.variant.seeded(self.seed)

    @property
    def name(self) -> str:
        """variant:seed, as messages and chains name it."""
        return f"{self.variant.name}:{self.seed}"


Chain = tuple[Run, ...]


def require_usable(study: Study, variants: Sequence[Variant], source: Checkpoint) -> None:
    """LpaError where the teacher's shape is not the recipe's, and for layers it does not have."""
    require_shape(study.base, source)
    count = len(encoder_layers(source.model))
    for variant in variants:
        try:
            require_layers(variant.layers or range(variant.count), count)
        except LpaError as error:
            raise LpaError(f"variant {variant.name!r}: {error}") from error


def plan(
    study: Study, variants: Sequence[Variant], source: Checkpoint, out: Path, conduct: Conduct
) -> list[Run]:
    """The runs of `variants`; sweeps the teacher first where an order is asked for.

    Raises LpaError as `require_usable` does, and for a folder that belongs to another teacher.
    """
    require_usable(study, variants, source)
    RunFolder.of(out / PHASES, {}, "study", teacher=source.sha256).begin()
    order: tuple[int, ...] = ()
    if any(variant.order and variant.count for variant in variants):
        order = Trainer(study.base, conduct).sweep(source, out / "sweep").order
    orders = {None: (), "sweep": order, "reverse": order[::-1]}
    return [
        Run(
            variant,
            seed,
            orders[variant.order][: variant.count] if variant.order else variant.layers or (),
        )
        for variant in variants
        for seed in variant.seeds
    ]


def chains(runs: Sequence[Run]) -> list[Chain]:
    """Runs that share trained phases together, the most work first."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        alone = run.variant.control or not run.layers
        shared = (run.name,) if alone else (_phases_key(run.recipe), *run.layers[:1])
        found.setdefault(shared, []).append(run)
    return sorted((tuple(chain) for chain in found.values()), key=lambda chain: -len(chain))


def phases_folder(out: Path, recipe: Recipe) -> Path:
    """Where runs of `recipe` share the phases of their layers, see `Replacement.shared`."""
    return out / PHASES / _phases_key(recipe)


def _phases_key(recipe: Recipe) -> str:
    """Names what the phases of single layers depend on, the teacher and the layers left out."""
    content = asdict(recipe)
    replace = {k: v for k, v in content["replace"].items() if k not in JOINT_ONLY}
    record = {name: content[name] for name in SECTIONS}
    record |= {"replace": replace, "lpa": recipe.lpa.shape}
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
