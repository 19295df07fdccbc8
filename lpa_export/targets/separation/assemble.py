"""A separator's bundle around the artifacts of any target: golden clips, model card, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder, write_manifest
from lpa_export.formats.manifest import Frames
from lpa_export.formats.schemes import Scheme
from lpa_export.formats.separation_bundle import SeparationManifest, write_golden_mixtures
from lpa_export.formats.separation_gates import SEPARATION_GATES
from lpa_export.formats.separator import Separator
from lpa_export.hosts.sepformer import MODEL_TYPE, separator_parts
from lpa_export.targets import Announce, SeparatorJob, TargetSpec, Written
from lpa_export.targets.assemble import BundleFiles, checked, facts_of, files_of, source_of
from lpa_export.targets.model_card import CARD, card_of, lengths
from lpa_export.targets.separation.golden import golden_mixtures

__all__ = ["SeparatorRequest", "separator_card", "write_separator_bundle"]


@dataclass(frozen=True)
class SeparatorRequest:
    """What is to be written."""

    target: TargetSpec
    scheme: Scheme
    settings: Any
    separator: Separator

    def check(self) -> None:
        """Raise LpaError for what the target cannot write."""
        able = self.target.separating().schemes
        if self.scheme.name not in able or self.scheme.name not in SEPARATION_GATES:
            raise LpaError(
                f"target {self.target.name} separates speech in {', '.join(able)}, not in "
                f"{self.scheme.name}"
            )
        self.target.load_separator().check(self.separator, self.settings, self.scheme)


def write_separator_bundle(
    request: SeparatorRequest, folder: Path, *, overwrite: bool, announce: Announce
) -> BundleFiles:
    """Write the whole bundle or nothing; see `lpa_export.targets.assemble.write_bundle`."""
    separator, spec = request.separator, request.target.separating()
    parts = separator_parts(separator.model)
    with new_folder(folder, overwrite=overwrite) as new:
        job = SeparatorJob(separator, parts, request.scheme, request.settings, announce)
        written = request.target.load_separator().write(job, new)
        announce("running the reference on the golden clips")
        buckets = [bucket.samples for bucket in written.buckets or ()]
        clips = golden_mixtures(separator, max(buckets, default=None))
        announce("writing the bundle")
        write_golden_mixtures(new, clips, sample_rate=parts.config.sampling_rate)
        manifest = _manifest(request, written)
        manifest = checked(new, manifest, "" if written.unrunnable else spec.runner, announce)
        card = separator_card(manifest, request.target.usage_of(manifest))
        (new / CARD).write_text(card, "utf-8", newline="\n")
        write_manifest(new, manifest)
    return files_of(folder, written.artifacts)


def _manifest(request: SeparatorRequest, written: Written) -> SeparationManifest:
    separator = request.separator
    config = separator.model.config
    return SeparationManifest(
        task="separation",
        target=request.target.name,
        model=separator.name,
        scheme=request.scheme,
        sample_rate=config.sampling_rate,
        sources=config.sources,
        chunk=config.chunk,
        frames=Frames(
            kernels=(config.kernel_size,),
            strides=(config.stride,),
            hop=config.stride,
            receptive_field=config.kernel_size,
        ),
        checkpoint=source_of(separator, MODEL_TYPE),
        gates=SEPARATION_GATES[request.scheme.name],
        **facts_of(written),
    )


def separator_card(
    manifest: SeparationManifest, usage: str, *, measured: Mapping[str, str] | None = None
) -> str:
    """The bundle's README.md; see `lpa_export.targets.model_card.model_card`."""
    rate, frames = manifest.sample_rate, manifest.frames
    one = manifest.sources == 1
    facts = {
        "Task": "enhancement: one speaker out of noise" if one else "separation of speakers",
        "Input": f"{rate} Hz mono, taken as it is",
        "Output": f"{manifest.sources} x (samples,) at {rate} Hz, as long as the input",
        "Lengths": lengths(manifest.buckets, frames, rate),
        "Frames": f"one per {frames.hop} samples ({1000 * frames.hop / rate:g} ms), in chunks of "
        f"{manifest.chunk} that overlap by half",
    }
    what = f"A {manifest.checkpoint.family} model that " + (
        "takes noise out of speech" if one else f"parts {manifest.sources} speakers"
    )
    return card_of(manifest, what, facts, "in dB", manifest.gates, usage, measured=measured)
