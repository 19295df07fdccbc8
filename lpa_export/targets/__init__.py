"""Targets: what a checkpoint can be lowered to, and what runs the result.

A target is one row: :class:`TargetSpec`. Export, validation and transcription share the rows. A
further target registers its own, from its own package; whatever is heavy is imported when it is
used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpa_export.errors import LpaError
from lpa_export.formats.schemes import PALETTES, Scheme, scheme_named

if TYPE_CHECKING:
    import msgspec

    from lpa_export.formats.bundle import AnyBundle
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.golden import GoldenClip
    from lpa_export.formats.manifest import (
        Bucket,
        BundleManifest,
        Compression,
        FrontEnd,
        Normalisation,
        Port,
        Tap,
    )
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.sepformer import SeparatorParts
    from lpa_export.runtimes.timing import Timed

__all__ = [
    "ALL",
    "ENTRY_POINTS",
    "Announce",
    "Job",
    "SeparationSpec",
    "SeparatorJob",
    "SeparatorTarget",
    "Target",
    "TargetSpec",
    "Written",
    "absent_targets",
    "known_targets",
    "register_target",
    "target_named",
    "targets_named",
]

ENTRY_POINTS = "lpa_export.targets"
"""Group of entry points: each gives a `TargetSpec` of an installed package."""

ALL = "all"
"""For `--target`: every known target that can be used here, one after another."""

Announce = Callable[[str], None]
"""Called with a few words before each step that may take seconds."""


@dataclass(frozen=True)
class SeparationSpec:
    """What a target needs to separate speech; texts as those of `TargetSpec`.

    `exporter`: a `SeparatorTarget` class; `runner`: a class called as any runner, which gives
    waveforms; `schemes`: names of those of the target's that it can be exported in.
    """

    exporter: str
    runner: str
    usage: str
    schemes: tuple[str, ...]


@dataclass(frozen=True)
class TargetSpec:
    """One kind of artifact; texts are "module:name", imported on use.

    `exporter`: a `Target` class. `runner`: a class called with an open bundle and `threads`, see
    `lpa_export.runtimes.Runner`. `settings`: a frozen dataclass, its section of a recipe. `usage`:
    a function of the manifest that says in Markdown how to run the artifact, for the model card.
    The first of the `schemes` is the default. `needs`: packages that this one does not bring, as
    they are imported; `extra` is what installs them, `platforms` where they can be installed at
    all. `timing`: what a benchmark times, called with an open bundle and `threads`, see
    `lpa_export.runtimes.timing`; empty: the runner, by the clock. `separation`: None where only
    recognisers can be exported. `measured_by`: what a report says of its measured figures, where
    the versions of the tools in it do not say enough.
    """

    name: str
    exporter: str
    runner: str
    settings: str
    usage: str
    schemes: tuple[Scheme, ...]
    needs: tuple[str, ...] = ()
    extra: str = ""
    platforms: str = ""
    timing: str = ""
    separation: SeparationSpec | None = None
    measured_by: str = ""

    def missing(self) -> str:
        """Why this target cannot be used here, in one line; empty where it can."""
        absent = [name for name in self.needs if find_spec(name) is None]
        if not absent:
            return ""
        where = f" ({self.platforms})" if self.platforms else ""
        return (
            f"target {self.name}: the Python package {absent[0]!r} is missing; "
            f"pip install 'lpa-export[{self.extra}]'{where}"
        )

    def require(self) -> None:
        """Raise LpaError where a package that it needs is missing."""
        if problem := self.missing():
            raise LpaError(problem)

    def load(self) -> Target:
        """The exporter."""
        found: Target = _resolved(self.exporter)()
        return found

    def separating(self) -> SeparationSpec:
        """What it needs to separate speech. Raises LpaError where it cannot."""
        if self.separation is None:
            able = [name for name, spec in _rows().items() if spec.separation is not None]
            raise LpaError(f"target {self.name} cannot separate speech yet; {', '.join(able)} can")
        return self.separation

    def load_separator(self) -> SeparatorTarget:
        """The exporter of separators. Raises LpaError where there is none."""
        found: SeparatorTarget = _resolved(self.separating().exporter)()
        return found

    def runner_class(self, *, separates: bool = False) -> Callable[..., Any]:
        """The runner, of recognisers or of separators.

        Raises LpaError when the runtime it needs is not installed.
        """
        self.require()
        path = self.separating().runner if separates else self.runner
        try:
            found: Callable[..., Any] = _resolved(path)
        except ImportError as error:
            raise LpaError(
                f"the runtime of target {self.name} cannot be imported ({error}); install it"
            ) from error
        return found

    def timed(self, bundle: AnyBundle, *, threads: int) -> Timed:
        """A bundle of any task as a benchmark times it, a separator's by its runner.

        Raises LpaError where only an emulator runs it here.
        """
        from lpa_export.formats.separation_bundle import SeparationManifest
        from lpa_export.runtimes.timing import TimedRunner

        self.require()
        separates = isinstance(bundle.manifest, SeparationManifest)
        if self.timing and not separates:
            found: Timed = _resolved(self.timing)(bundle, threads=threads)
            return found
        return TimedRunner(self.runner_class(separates=separates)(bundle, threads=threads))

    def settings_class(self) -> type[Any]:
        """The dataclass of its settings."""
        found: type[Any] = _resolved(self.settings)
        return found

    def usage_of(self, manifest: BundleManifest) -> str:
        """How to run the artifacts of a bundle, in Markdown."""
        from lpa_export.formats.separation_bundle import SeparationManifest

        separates = isinstance(manifest, SeparationManifest)
        path = self.separating().usage if separates else self.usage
        text: str = _resolved(path)(manifest)
        return text


@dataclass(frozen=True)
class Job:
    """What a target is given: the model, the scheme, and clips to check its work on.

    `settings` is the target's own section of the recipe, flags put in.
    """

    checkpoint: Checkpoint
    scheme: Scheme
    settings: Any
    clips: tuple[GoldenClip, ...]
    announce: Announce


@dataclass(frozen=True)
class SeparatorJob:
    """What a target is given of a separator; see `Job`."""

    separator: Separator
    parts: SeparatorParts
    scheme: Scheme
    settings: Any
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
    runtime: msgspec.Struct | None = None
    """What only this target's runner needs, as the struct it reads."""
    compression: Compression | None = None
    """Counted in what was written, where the scheme keeps weights in fewer bits."""
    front_end: FrontEnd = "whole"
    """Whether the front end runs at once or a few seconds at a time."""
    unrunnable: str = ""
    """Why nothing here can run it, empty where something can: then the self-check is not run."""


class Target(Protocol):
    """Writes one kind of artifact."""

    def check(self, checkpoint: Checkpoint, settings: Any, scheme: Scheme) -> None:
        """Raise LpaError for what this target cannot write; quick, all that can be known before."""

    def write(self, job: Job, folder: Path) -> Written:
        """Write the artifacts into `folder`; they are run and compared afterwards."""


class SeparatorTarget(Protocol):
    """Writes one kind of artifact of a separator."""

    def check(self, separator: Separator, settings: Any, scheme: Scheme) -> None:
        """As `Target.check`."""

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """As `Target.write`."""


_TARGETS = {
    spec.name: spec
    for spec in (
        TargetSpec(
            name="onnx",
            exporter="lpa_export.targets.onnx.target:OnnxTarget",
            runner="lpa_export.runtimes.onnx:OnnxRunner",
            settings="lpa_export.targets.onnx.settings:OnnxSettings",
            usage="lpa_export.targets.onnx.usage:usage",
            schemes=(scheme_named("fp32"), scheme_named("int8")),
            separation=SeparationSpec(
                exporter="lpa_export.targets.onnx.separator_target:OnnxSeparatorTarget",
                runner="lpa_export.runtimes.separation.onnx:OnnxSeparatorRunner",
                usage="lpa_export.targets.onnx.separator_target:usage",
                schemes=("fp32", "int8"),
            ),
        ),
        TargetSpec(
            name="coreml",
            exporter="lpa_export.targets.coreml.target:CoremlTarget",
            runner="lpa_export.runtimes.coreml.runner:CoremlRunner",
            settings="lpa_export.targets.coreml.settings:CoremlSettings",
            usage="lpa_export.targets.coreml.usage:usage",
            schemes=(
                scheme_named("fp16"),
                scheme_named("fp32"),
                scheme_named("int8", compute="fp16", activations="fp16"),
                *map(scheme_named, PALETTES),
            ),
            timing="lpa_export.runtimes.timing:untimed",
            separation=SeparationSpec(
                exporter="lpa_export.targets.coreml.separator_target:CoremlSeparatorTarget",
                runner="lpa_export.runtimes.separation.coreml:CoremlSeparatorRunner",
                usage="lpa_export.targets.coreml.separator_target:usage",
                schemes=("fp16", "fp32"),
            ),
        ),
        TargetSpec(
            name="executorch",
            exporter="lpa_export.targets.executorch.target:ExecutorchTarget",
            runner="lpa_export.runtimes.executorch.runner:ExecutorchRunner",
            settings="lpa_export.targets.executorch.settings:ExecutorchSettings",
            usage="lpa_export.targets.executorch.usage:usage",
            schemes=(scheme_named("fp32"), scheme_named("int8")),
            needs=("executorch", "torchao"),
            extra="executorch",
            separation=SeparationSpec(
                exporter="lpa_export.targets.executorch.separator_target:ExecutorchSeparatorTarget",
                runner="lpa_export.runtimes.separation.executorch:ExecutorchSeparatorRunner",
                usage="lpa_export.targets.executorch.separator_target:usage",
                schemes=("fp32",),
            ),
        ),
        TargetSpec(
            name="mlx",
            exporter="lpa_export.targets.mlx.target:MlxTarget",
            runner="lpa_export.runtimes.mlx.runner:MlxRunner",
            settings="lpa_export.targets.mlx.settings:MlxSettings",
            usage="lpa_export.targets.mlx.usage:usage",
            schemes=(
                scheme_named("fp32"),
                scheme_named("fp16"),
                scheme_named("bf16"),
                # MLX multiplies quantised weights in fp16 forty times slower on a CPU, where every
                # bundle is checked.
                scheme_named("int8", compute="fp32", activations="fp32"),
                scheme_named("int4"),
            ),
            timing="lpa_export.targets.mlx.timed:timed",
            needs=("mlx",),
            extra="mlx",
            platforms="Linux on x86-64 with glibc 2.35 or newer, or macOS on Apple silicon",
            separation=SeparationSpec(
                exporter="lpa_export.targets.mlx.separator_target:MlxSeparatorTarget",
                runner="lpa_export.runtimes.separation.mlx:MlxSeparatorRunner",
                usage="lpa_export.targets.mlx.separator_target:usage",
                schemes=("fp32", "fp16"),
            ),
        ),
        TargetSpec(
            name="coreai",
            exporter="lpa_export.targets.coreai.target:CoreaiTarget",
            runner="lpa_export.runtimes.coreai.runner:CoreaiRunner",
            settings="lpa_export.targets.coreai.settings:CoreaiSettings",
            usage="lpa_export.targets.coreai.usage:usage",
            schemes=(scheme_named("fp32"),),
            needs=("coreai", "coreai_torch"),
            extra="coreai",
            measured_by="Apple's own interpreter, on a CPU",
            platforms="Linux on x86-64 with glibc 2.34 or newer, or macOS on Apple silicon",
            separation=SeparationSpec(
                exporter="lpa_export.targets.coreai.separator_target:CoreaiSeparatorTarget",
                runner="lpa_export.runtimes.separation.coreai:CoreaiSeparatorRunner",
                usage="lpa_export.targets.coreai.separator_target:usage",
                schemes=("fp32",),
            ),
        ),
    )
}
_installed: list[str] = []
"""Entry points that were looked at, so that they are looked for once."""


def register_target(spec: TargetSpec) -> None:
    """Add a target. Raises LpaError when there is another of that name."""
    if _TARGETS.setdefault(spec.name, spec) != spec:
        raise LpaError(f"target {spec.name!r} is there already; give yours another name")


def known_targets() -> tuple[str, ...]:
    """Names for `--target`: those of this package, then of installed and registered ones."""
    return tuple(_rows())


def target_named(name: str) -> TargetSpec:
    """The target of that name. Raises LpaError naming the known ones."""
    rows = _rows()
    if name not in rows:
        raise LpaError(f"unknown target {name!r}; known targets: {', '.join(rows)}")
    return rows[name]


def targets_named(name: str, *, required: Sequence[str] = ()) -> tuple[str, ...]:
    """What `--target` means: that target, or "all" of them that can be used here.

    `required`: targets of "all" whose packages must be there. Raises LpaError for another name,
    and for a required one that is missing.
    """
    known = known_targets()
    for wanted in (name, *required):
        if wanted not in (*known, ALL):
            raise LpaError(
                f"unknown target {wanted!r}; known targets: {', '.join(known)}, or {ALL} of them"
            )
    if name != ALL:
        if required:
            raise LpaError(f"--require goes with --target {ALL}; {name} alone is required anyway")
        return (name,)
    for wanted in required:
        target_named(wanted).require()
    absent = absent_targets()
    return tuple(target for target in known if target not in absent)


def absent_targets() -> dict[str, str]:
    """Known targets that cannot be used here, each with the reason in one line."""
    problems = {name: spec.missing() for name, spec in _rows().items()}
    return {name: problem for name, problem in problems.items() if problem}


def _rows() -> Mapping[str, TargetSpec]:
    if not _installed:
        _installed.append(ENTRY_POINTS)
        for point in entry_points(group=ENTRY_POINTS):
            register_target(point.load())
    return _TARGETS


def _resolved(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
