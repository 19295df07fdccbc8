"""What a target is to do: the recipe's section, then the flags of the command, which win."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.formats.recipe import Recipe, TargetSettings
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets import Target

__all__ = ["chosen_scheme", "settings_of", "target_settings"]


def settings_of(target: str) -> frozenset[str]:
    """Names of the settings that the target's section of a recipe has."""
    from lpa_export.formats.recipe import TargetsSettings

    return frozenset(field.name for field in fields(getattr(TargetsSettings(), target)))


def target_settings(target: str, recipe: Recipe | None, flags: Mapping[str, Any]) -> TargetSettings:
    """The section of `target` with the `flags` (setting: value, None: not given) put in.

    Raises LpaError for a flag that is no setting of this target, and for a bad value.
    """
    from lpa_export.formats.recipe import TargetsSettings

    section: TargetSettings = getattr(recipe.targets if recipe else TargetsSettings(), target)
    given = {name: value for name, value in flags.items() if value is not None}
    for name in given:
        if name not in settings_of(target):
            raise LpaError(f"--{name.replace('_', '-')}: target {target} has no such setting")
    try:
        return replace(section, **given)
    except ValueError as error:
        raise LpaError(f"target {target}: {error}") from error


def chosen_scheme(
    name: str,
    target: Target,
    settings: TargetSettings,
    *,
    precision: str | None,
    quantize: str | None,
) -> Scheme:
    """The flag's, else the recipe's, else the target's first scheme.

    Raises LpaError for one that the target cannot write, and for two at once.
    """
    if precision and quantize and quantize != "none":
        raise LpaError(
            f"--precision {precision} and --quantize {quantize} exclude one another; give one"
        )
    stated = getattr(settings, "quantize", "none")
    plain = getattr(settings, "precision", target.schemes[0].name)
    stated = plain if stated == "none" else stated
    flag = "--precision" if precision else "--quantize"
    wanted = precision or quantize or stated
    if wanted == "none":
        wanted = plain
    known = {scheme.name: scheme for scheme in target.schemes}
    if wanted not in known:
        raise LpaError(
            f"{flag} {wanted}: target {name} has no such scheme; known: {', '.join(known)}"
        )
    return known[wanted]
