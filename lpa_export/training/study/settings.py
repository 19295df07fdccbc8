"""A study file: variants of a recipe, in groups that each have a variant to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import yaml

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import Recipe
from lpa_export.formats.strict_yaml import merge, named, read_as, read_tree

__all__ = ["OVERRIDES", "Drawn", "Group", "Order", "Study", "Variant", "load_study"]

Order = Literal["sweep", "reverse"]
Drawn = Literal["speakers", "utterances"]
NAME = {"pattern": "[a-z0-9][a-z0-9._-]{0,63}"}
# Sections of the recipe that a variant may change: what a replacement depends on.
OVERRIDES = ("data", "lpa", "replace")


@dataclass(frozen=True)
class Group:
    """A table of the report, and the name of the variant that its others are compared with."""

    title: str
    reference: str


@dataclass(frozen=True)
class _VariantEntry:
    """A variant as it stands in the file: which layers, and what differs from the recipe.

    `control`: the layers keep their attention, which is trained on through the same joint phase.
    """

    group: str
    text: str
    layers: tuple[int, ...] | None = field(default=None, metadata={"min": 0, "max": 95})
    order: Order | None = None
    count: int | None = field(default=None, metadata={"min": 0, "max": 96})
    seeds: tuple[int, ...] = field(default=(), metadata={"min": 0, "max": 2**31 - 1})
    control: bool = False
    data: yaml.MappingNode | None = None
    lpa: yaml.MappingNode | None = None
    replace: yaml.MappingNode | None = None

    def __post_init__(self) -> None:
        if (self.order is None) != (self.count is None):
            raise ValueError("'order' and 'count' belong together; give both or none")
        if self.layers is not None and self.order is not None:
            raise ValueError("needs 'layers' or 'order' and 'count', not both")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ, found {list(self.seeds)}")


@dataclass(frozen=True)
class _StudyFile:
    """`base` changes the recipe for all variants; any section of it may.

    `drawn`: what intervals are bootstraps over, whole speakers, or, where those are too few, the
    utterances of each.
    """

    groups: dict[str, Group] = field(metadata=NAME)
    variants: dict[str, _VariantEntry] = field(metadata=NAME)
    base: yaml.MappingNode | None = None
    drawn: Drawn = "speakers"

    def __post_init__(self) -> None:
        for name, group in self.groups.items():
            if group.reference not in self.variants:
                raise ValueError(
                    f"group {name!r} compares with {group.reference!r}, which is no variant"
                )
        for name, variant in self.variants.items():
            if variant.group not in self.groups:
                known = ", ".join(self.groups)
                raise ValueError(
                    f"variant {name!r} is of group {variant.group!r}; there are {known}"
                )


@dataclass(frozen=True)
class Variant:
    """One way to replace attention: `recipe` with its overrides, and the layers.

    `layers` in the order of replacement, or None: the first `count` of the sweep's `order`. A
    `control` compares its student with the teacher after these layers and replaces none.
    `plain`: nothing but layers and seeds differs from the study's base.
    """

    name: str
    group: str
    text: str
    recipe: Recipe
    layers: tuple[int, ...] | None
    order: Order | None
    count: int
    seeds: tuple[int, ...]
    plain: bool
    control: bool = False

    def seeded(self, seed: int) -> Recipe:
        """The recipe of one run."""
        return replace(self.recipe, replace=replace(self.recipe.replace, seed=seed))


@dataclass(frozen=True)
class Study:
    """Everything that is compared; `base` is the recipe that all variants start from.

    `drawn` as in the file.
    """

    base: Recipe
    groups: dict[str, Group]
    variants: tuple[Variant, ...]
    drawn: Drawn

    def chosen(self, names: Sequence[str] | None) -> tuple[Variant, ...]:
        """The variants of these names, or all; LpaError for an unknown one."""
        known = {variant.name: variant for variant in self.variants}
        for name in names or ():
            if name not in known:
                raise LpaError(f"no variant {name!r} in the study; known: {', '.join(known)}")
        return tuple(known[name] for name in known if names is None or name in names)


def load_study(recipe: Path, study: Path) -> Study:
    """Read a study file and the recipe it changes.

    Raises LpaError, by file and line, for a mistake in either and for an override that the recipe
    does not take.
    """
    below = read_tree(recipe)
    read_as(below, Recipe)  # a mistake of the recipe's own is no variant's
    content = read_as(read_tree(study, "study"), _StudyFile, "study")
    if content.base is not None:
        below = merge(below, content.base)
    base = read_as(below, Recipe)
    variants = tuple(_variant(name, entry, below) for name, entry in content.variants.items())
    return Study(base, content.groups, variants, content.drawn)


def _variant(name: str, entry: _VariantEntry, below: yaml.MappingNode) -> Variant:
    found = {section: getattr(entry, section) for section in OVERRIDES}
    given: dict[str, Any] = {section: tree for section, tree in found.items() if tree is not None}
    tree = reduce(merge, (named(section, value) for section, value in given.items()), below)
    try:
        recipe = read_as(tree, Recipe)
        if entry.layers is not None:
            recipe = replace(recipe, lpa=replace(recipe.lpa, layers=entry.layers))
    except (LpaError, ValueError) as error:
        raise LpaError(f"variant {name!r}: {error}") from error
    layers = None if entry.order else recipe.lpa.layers
    count = len(recipe.lpa.layers) if entry.count is None else entry.count
    if entry.control and not count:
        raise LpaError(f"variant {name!r}: a control names the layers that it does not replace")
    return Variant(
        name=name,
        group=entry.group,
        text=entry.text,
        recipe=recipe,
        layers=layers,
        order=entry.order,
        count=count,
        seeds=entry.seeds or (recipe.replace.seed,),
        plain=not given and not entry.control,
        control=entry.control,
    )
