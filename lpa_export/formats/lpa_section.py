"""The `lpa` section of a checkpoint's config.json: which layers are replaced, and how."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.layers.config import Pulses

__all__ = ["FORMAT_VERSION", "LPASection", "harden_gates", "put_in", "read_section"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LPASection:
    """What `config.json` says under `lpa`: which layers, their shape, and how training ended.

    `name` is what its bundles are called. `figures` holds measured numbers by name, for example
    the WER (percent) of the teacher and of the soft and the hard model; `hardness` one entry per
    replaced layer.
    """

    layers: tuple[int, ...]
    pulses: Pulses
    temperature: float
    name: str = ""
    hardness: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    training_data_sha256: str = ""
    format_version: int = FORMAT_VERSION


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "pulses": (dict, "an object"),
    "temperature": ((int, float), "a number"),
    "name": (str, "a text"),
    "hardness": (dict, "an object"),
    "figures": (dict, "an object"),
    "training_data_sha256": (str, "a text"),
}


def read_section(content: Any, place: Path) -> LPASection | None:
    """The `lpa` section, checked; None when there is none."""
    if content is None:
        return None
    if not isinstance(content, dict):
        raise LpaError(f"{place}: 'lpa' must be an object, found {type(content).__name__}")
    version = content.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise LpaError(f"{place}: 'lpa' has no usable format_version, found {version!r}")
    if version > FORMAT_VERSION:
        raise LpaError(
            f"{place}: lpa format {version} is newer than this tool's {FORMAT_VERSION}: "
            "update lpa-export"
        )
    known = {f.name for f in fields(LPASection)}
    missing = {"layers", "pulses", "temperature"} - content.keys()
    unknown = content.keys() - known
    if missing or unknown:
        what = f"lacks {sorted(missing)}" if missing else f"has unknown keys {sorted(unknown)}"
        raise LpaError(f"{place}: the lpa section {what}")
    for key, (kind, expected) in _KINDS.items():
        if key in content and not isinstance(content[key], kind):
            raise LpaError(f"{place}: lpa {key} must be {expected}, found {content[key]!r}")
    layers = content["layers"]
    if not isinstance(layers, list) or not all(type(i) is int for i in layers):
        raise LpaError(f"{place}: lpa layers must be a list of integers, found {layers!r}")
    try:
        pulses = Pulses(**content["pulses"])
    except (TypeError, ValueError) as error:
        raise LpaError(f"{place}: lpa pulses: {error}") from error
    return LPASection(**content | {"layers": tuple(layers), "pulses": pulses})


def put_in(model: Any, section: LPASection, place: Path) -> None:
    """Swap the attention of the section's layers for LPA, of fresh weights; LpaError names why."""
    from lpa_export.hosts import replace_layers
    from lpa_export.layers import LPAConfig

    config = model.config
    try:
        shape = LPAConfig(config.hidden_size, config.num_attention_heads, **section.pulses.shape)
    except (TypeError, ValueError) as error:
        raise LpaError(f"{place}: lpa pulses: {error}") from error
    try:
        replace_layers(model, section.layers, shape)
    except LpaError as error:
        raise LpaError(f"{place}: {error}") from error


def harden_gates(model: Any, section: LPASection | None) -> None:
    """Every LPA of the model in its inference form, at the temperature that training ended with."""
    from lpa_export.hosts import lpa_layers

    for lpa in lpa_layers(model).values():
        lpa.hard = True
        lpa.temperature = section.temperature if section else lpa.temperature
