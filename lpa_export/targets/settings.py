"""What a target is to do: the recipe's section, then the flags of the command, which win.

A target's settings are a frozen dataclass in its own folder. Its fields are the keys of the
recipe's section; `metadata` bounds them (see `lpa_export.formats.strict_yaml`), `flag` there makes
a flag of ``lpa-export`` with that text as its help, and `variant` names the bundle's folder where
the value is not the default. A property `scheme` gives the name of the scheme they ask for.
"""

from __future__ import annotations

import typing
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, make_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.strict_yaml import out_of_bounds
from lpa_export.targets import known_targets, target_named

if TYPE_CHECKING:
    from lpa_export.formats.recipe import Recipe
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets import TargetSpec

__all__ = [
    "Flag",
    "buckets_field",
    "chosen_scheme",
    "flags",
    "load_recipe",
    "require_ascending",
    "target_settings",
    "variants",
]


@dataclass(frozen=True)
class Flag:
    """A flag of the command: the setting it sets, in the `targets` that have it."""

    name: str
    help: str
    parse: Callable[[str], Any]
    targets: tuple[str, ...]


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe, the sections of its targets too.

    Raises LpaError naming the file and line of the first mistake.
    """
    from lpa_export.formats import recipe

    loaded = recipe.load_recipe(path)
    _sections(loaded)
    return loaded


def target_settings(spec: TargetSpec, recipe: Recipe | None, given: Mapping[str, Any]) -> Any:
    """The section of the target with the flags (setting: value, None: not given) put in.

    Raises LpaError for a flag that is no setting of this target, and for a bad value.
    """
    section = getattr(_sections(recipe), spec.name)
    changes = {name: value for name, value in given.items() if value is not None}
    known = {field.name: field for field in fields(section)}
    for name in changes:
        if name not in known:
            raise LpaError(f"--{name.replace('_', '-')}: target {spec.name} has no such setting")
    try:
        chosen = replace(section, **changes)
    except ValueError as error:
        raise LpaError(f"target {spec.name}: {error}") from error
    for name, value in changes.items():
        for item in value if isinstance(value, tuple) else (value,):
            if problem := out_of_bounds(item, known[name].metadata):
                raise LpaError(f"--{name.replace('_', '-')}: must be {problem}, found {item!r}")
    return chosen


def chosen_scheme(
    spec: TargetSpec, settings: Any, *, precision: str | None, quantize: str | None
) -> Scheme:
    """The flag's, else the recipe's, else the target's first scheme.

    Raises LpaError for one that the target cannot write, and for two at once.
    """
    if precision and quantize and quantize != "none":
        raise LpaError(
            f"--precision {precision} and --quantize {quantize} exclude one another; give one"
        )
    if quantize == "none" and hasattr(settings, "quantize"):
        settings = replace(settings, quantize="none")
    known = {scheme.name: scheme for scheme in spec.schemes}
    stated = getattr(settings, "scheme", spec.schemes[0].name)
    wanted = precision or (stated if quantize in (None, "none") else quantize)
    if wanted not in known:
        flag = "--precision" if precision else "--quantize"
        raise LpaError(
            f"{flag} {wanted}: target {spec.name} has no such scheme; known: {', '.join(known)}"
        )
    return known[wanted]


def variants(settings: Any) -> list[str]:
    """Values that name the bundle's folder, because they are not the defaults."""
    found = [
        (getattr(settings, field.name), field.default)
        for field in fields(settings)
        if field.metadata.get("variant")
    ]
    return [str(value) for value, default in found if value != default]


def flags() -> tuple[Flag, ...]:
    """The settings of all targets that are flags of the command; of one name, one flag."""
    found: dict[str, Flag] = {}
    for target in known_targets():
        settings = target_named(target).settings_class()
        hints = typing.get_type_hints(settings)
        for setting in fields(settings):
            if "flag" in setting.metadata:
                earlier = found.get(setting.name)
                found[setting.name] = Flag(
                    setting.name,
                    earlier.help if earlier else setting.metadata["flag"],
                    _parser(hints[setting.name]),
                    (*(earlier.targets if earlier else ()), target),
                )
    return tuple(found.values())


def buckets_field() -> Any:
    """The setting `buckets`: seconds of audio that programs of fixed shapes take, ascending."""
    bounds = {"above": 0.0, "max": 3600.0, "min_items": 1}
    text = "lengths in seconds for programs of fixed shape (default: 5,10,20,30)"
    return field(default=(5.0, 10.0, 20.0, 30.0), metadata={**bounds, "flag": text})


def require_ascending(buckets: tuple[float, ...]) -> None:
    """Raise ValueError for buckets that do not ascend, or of no length or hours."""
    if not all(0 < seconds <= 3600 for seconds in buckets):
        raise ValueError(f"buckets are seconds, above 0 and at most 3600; found {list(buckets)}")
    if any(first >= second for first, second in pairwise(buckets)):
        raise ValueError(f"buckets must ascend, found {list(buckets)}")


def _sections(recipe: Recipe | None) -> Any:
    """An object with the settings of each target, as the recipe has them."""
    rows: list[tuple[str, type, Field[Any]]] = []
    for name in known_targets():
        settings = target_named(name).settings_class()
        rows.append((name, settings, field(default=settings())))
    sections = make_dataclass("Targets", rows, frozen=True)
    if recipe is None or recipe.targets is None:
        return sections()
    from lpa_export.formats.strict_yaml import read_as

    return read_as(recipe.targets, sections, "section 'targets'")


def _parser(hint: Any) -> Callable[[str], Any]:
    """How a flag's text is read: "5,10" for a tuple of numbers, a number, else as it stands."""
    if typing.get_origin(hint) is tuple:
        return _numbers
    return hint if hint in (int, float) else str


def _numbers(text: str) -> tuple[float, ...]:
    """ "5,10" as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected numbers as 5,10; found {text!r}") from None
