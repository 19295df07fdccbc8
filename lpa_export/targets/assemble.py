"""A bundle around the artifacts of any target: tokens, golden clips, model card, manifest."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lpa_export import __version__
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.bundle import new_folder, write_manifest
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.gates import Gates
from lpa_export.formats.golden import write_golden
from lpa_export.formats.manifest import (
    AnyManifest,
    Frames,
    Manifest,
    Normaliser,
    SelfCheck,
    Source,
    VocabularyEntry,
    as_type,
)
from lpa_export.formats.schemes import SCHEMES, Scheme
from lpa_export.formats.separator import Separator
from lpa_export.hosts import encoder_layers, parts_of
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets import Announce, Job, TargetSpec, Written
from lpa_export.targets.describe import sizes
from lpa_export.targets.golden import golden_clips
from lpa_export.targets.model_card import CARD, model_card
from lpa_export.targets.selfcheck import self_check

__all__ = [
    "TOKENS",
    "BundleFiles",
    "BundleRequest",
    "checked",
    "files_of",
    "require_writable",
    "source_of",
    "write_bundle",
]

TOKENS = "tokens.json"


@dataclass(frozen=True)
class BundleRequest:
    """What is to be written. `shipped`: the checkpoint is the one inside this package."""

    target: TargetSpec
    scheme: Scheme
    settings: Any
    checkpoint: Checkpoint
    shipped: bool
    gates: Gates


@dataclass(frozen=True)
class BundleFiles:
    """What lies in a bundle. `sizes`: relative name -> bytes; `artifacts`: what an app loads."""

    sizes: dict[str, int]
    artifacts: tuple[str, ...]

    def size(self, artifact: str) -> int:
        """Bytes of a file, or of all files of a package."""
        inside = (name for name in self.sizes if f"{name}/".startswith(f"{artifact}/"))
        return sum(self.sizes[name] for name in inside)


class _Abandoned(Exception):
    """Leaves `new_folder` without a folder."""


def require_writable(folder: Path, *, overwrite: bool) -> None:
    """Raise LpaError when a bundle could not be written there; nothing stays behind.

    Tried out rather than asked: rights, read-only disks and missing parents have many faces.
    """
    with suppress(_Abandoned), new_folder(folder, overwrite=overwrite):
        raise _Abandoned


def write_bundle(
    request: BundleRequest,
    folder: Path,
    *,
    overwrite: bool,
    announce: Announce,
) -> BundleFiles:
    """Write the whole bundle or nothing.

    Raises LpaError when `folder` exists or cannot be written, and whatever the target raises.
    """
    checkpoint = request.checkpoint
    with new_folder(folder, overwrite=overwrite) as new:
        announce("running the reference on the golden clips")
        clips = golden_clips(checkpoint)
        job = Job(checkpoint, request.scheme, request.settings, clips, announce)
        written = request.target.load().write(job, new)
        announce("writing the bundle")
        checkpoint.vocabulary.write(new / TOKENS)
        checkpoint.vocabulary.write_lines(new / "tokens.txt")
        write_golden(new, clips)
        manifest = _manifest(request, written)
        runner = "" if written.unrunnable else request.target.runner
        manifest = checked(new, manifest, runner, announce)
        card = model_card(manifest, request.target.usage_of(manifest))
        (new / CARD).write_text(card, "utf-8", newline="\n")
        write_manifest(new, manifest)
    return files_of(folder, written.artifacts)


def checked(folder: Path, manifest: AnyManifest, runner: str, announce: Announce) -> AnyManifest:
    """Write the manifest, run the artifact by `runner` (empty: nothing can) and say how that went.

    Raises LpaError as `self_check` does.
    """
    write_manifest(folder, manifest)
    if not runner:
        return manifest
    announce("running the artifact on the golden clips")
    floor = SCHEMES[manifest.scheme.name].tap_floor_db
    return msgspec.structs.replace(manifest, selfcheck=self_check(folder, runner, floor))


def files_of(folder: Path, artifacts: tuple[str, ...]) -> BundleFiles:
    """What lies in a bundle that was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}
    return BundleFiles(sizes, artifacts)


def _manifest(request: BundleRequest, written: Written) -> Manifest:
    checkpoint, vocabulary = request.checkpoint, request.checkpoint.vocabulary
    frames = FrameArithmetic.of(checkpoint.model.config).to_json()
    return Manifest(
        target=request.target.name,
        model=checkpoint.name,
        scheme=request.scheme,
        sample_rate=SAMPLE_RATE,
        frames=as_type(frames, Frames, "frame arithmetic"),
        normalisation=written.normalisation,
        vocabulary=VocabularyEntry(
            size=len(vocabulary),
            blank_id=vocabulary.blank,
            word_delimiter=vocabulary.word_delimiter,
            file=TOKENS,
        ),
        normaliser=Normaliser(**vocabulary.rule.to_json()),
        checkpoint=source_of(
            checkpoint,
            checkpoint.model.config.model_type,
            shipped=request.shipped,
            language=checkpoint.language,
        ),
        gates=request.gates,
        sizes=sizes(parts_of(checkpoint)),
        front_end=written.front_end,
        **facts_of(written),
    )


def facts_of(written: Written) -> dict[str, Any]:
    """What a manifest of any task says of what a target wrote, by the manifest's names."""
    return {
        "artifacts": written.artifacts,
        "lowering": dict(written.lowering),
        "inputs": written.inputs,
        "outputs": written.outputs,
        "taps": written.taps,
        "buckets": written.buckets,
        "runtime": {} if written.runtime is None else msgspec.to_builtins(written.runtime),
        "compression": written.compression,
        "selfcheck": SelfCheck(status="not_run", reason=written.unrunnable or "not run yet"),
        "tools": dict(sorted({**written.tools, "lpa-export": __version__}.items())),
    }


def source_of(
    checkpoint: Checkpoint | Separator,
    family: str,
    *,
    shipped: bool = False,
    language: str | None = None,
) -> Source:
    """Where a bundle comes from; `family`: the host's model type."""
    figures = checkpoint.lpa.figures if checkpoint.lpa else {}
    return Source(
        name=checkpoint.name,
        sha256=checkpoint.sha256,
        family=family,
        layers=len(encoder_layers(checkpoint.model)),
        replaced_layers=tuple(sorted(checkpoint.replaced)),
        shipped=shipped,
        figures={name: value for name, value in figures.items() if type(value) in (int, float)},
        language=language,
    )
