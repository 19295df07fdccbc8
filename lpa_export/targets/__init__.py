"""Targets: what a checkpoint can be lowered to.

A target is one module (file or folder) with a class that satisfies :class:`Target`, and one row
in the table below. Whatever is heavy is imported when the target is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    import msgspec

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.golden import GoldenClip
    from lpa_export.formats.manifest import Bucket, Normalisation, Port, Tap
    from lpa_export.formats.recipe import TargetSettings
    from lpa_export.formats.schemes import Scheme

__all__ = ["Announce", "Job", "Target", "Written", "known_targets", "load_target"]

Announce = Callable[[str], None]
"""Called with a few words before each step that may take seconds."""

_TARGETS = {
    "onnx": "lpa_export.targets.onnx.target:OnnxTarget",
    "coreml": "lpa_export.targets.coreml.target:CoremlTarget",
    "executorch": "lpa_export.targets.executorch.target:ExecutorchTarget",
}


@dataclass(frozen=True)
class Job:
    """What a target is given: the model, the scheme, and clips to check its work on.

    `settings` is the target's own section of the recipe, flags put in.
    """

    checkpoint: Checkpoint
    scheme: Scheme
    settings: TargetSettings
    clips: tuple[GoldenClip, ...]
    announce: Announce


@dataclass(frozen=True)
class Written:
    """What a target says about what it wrote; each field stands in the manifest as it is.

    `buckets` ascend, None: any length; `tools` maps the packages that made it to versions.
    """

    artifacts: tuple[str, ...]
    lowering: Mapping[str, str]
    normalisation: Normalisation
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    taps: tuple[Tap, ...]
    buckets: tuple[Bucket, ...] | None
    tools: Mapping[str, str]
    usage: str
    """How to run it, in Markdown, for the model card; not part of the manifest."""
    runtime: msgspec.Struct | None = None
    """What only this target's runner needs, as the struct it reads."""


class Target(Protocol):
    """One kind of artifact."""

    schemes: tuple[Scheme, ...]
    """Schemes it can write; the first is the default."""

    def check(self, checkpoint: Checkpoint, settings: TargetSettings) -> None:
        """Raise LpaError for a model or settings that this target cannot take; quick."""

    def write(self, job: Job, folder: Path) -> Written:
        """Write the artifacts into `folder`. Raises LpaError when they are not equal enough."""


def known_targets() -> tuple[str, ...]:
    """Names for `--target`."""
    return tuple(_TARGETS)


def load_target(name: str) -> Target:
    """The target of that name. Raises LpaError naming the known ones."""
    if name not in _TARGETS:
        raise LpaError(f"unknown target {name!r}; known targets: {', '.join(_TARGETS)}")
    module, target = _TARGETS[name].split(":")
    found: Target = getattr(import_module(module), target)()
    return found
