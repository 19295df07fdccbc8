"""A bundle around the artifacts of any target: tokens, golden clips, model card, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export import __version__
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.bundle import new_folder, write_manifest
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.gates import Gates
from lpa_export.formats.recipe import TargetSettings
from lpa_export.hosts import encoder_layers
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets import Announce, Job, Target, Written
from lpa_export.targets.golden import golden_clips, write_golden
from lpa_export.targets.model_card import model_card

__all__ = ["BundleFiles", "BundleRequest", "require_writable", "write_bundle"]


@dataclass(frozen=True)
class BundleRequest:
    """What is to be written. `shipped`: the checkpoint is the one inside this package."""

    target_name: str
    precision: str
    settings: TargetSettings
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
    target: Target,
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
        job = Job(checkpoint, request.precision, request.settings, clips, announce)
        written = target.write(job, new)
        announce("writing the bundle")
        checkpoint.vocabulary.write_lines(new / "tokens.txt")
        write_golden(new, clips)
        manifest = _manifest(request, written)
        card = model_card(manifest, written.usage)
        (new / "README.md").write_text(card, "utf-8", newline="\n")
        write_manifest(new, manifest)
    files = (path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}
    return BundleFiles(sizes, written.artifacts)


def _manifest(request: BundleRequest, written: Written) -> dict[str, Any]:
    checkpoint = request.checkpoint
    described = asdict(written)
    del described["usage"]
    return described | {
        "target": request.target_name,
        "model": checkpoint.name,
        "precision": request.precision,
        "sample_rate": SAMPLE_RATE,
        "frames": FrameArithmetic.of(checkpoint.model.config).to_json(),
        "vocabulary": {
            "blank_id": checkpoint.vocabulary.blank,
            "word_delimiter": checkpoint.vocabulary.word_delimiter,
            "size": len(checkpoint.vocabulary),
        },
        "checkpoint": {
            "name": checkpoint.name,
            "sha256": checkpoint.sha256,
            "replaced_layers": sorted(checkpoint.replaced),
            "layers": len(encoder_layers(checkpoint.model)),
            "shipped": request.shipped,
            "wer": dict(checkpoint.lpa.figures) if checkpoint.lpa else {},
        },
        "gates": request.gates.to_json(),
        "tools": {**_sorted(written.tools), "lpa-export": __version__},
    }


def _sorted(tools: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(tools.items()))
