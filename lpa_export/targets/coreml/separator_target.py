"""The Core ML target for separators: a package of fixed shapes for each bucket.

The caller says which samples, frames and chunks are the mixture's own, by masks of ones and zeros:
an accelerator of fixed shapes compares no numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lpa_export.formats.manifest import Bucket, Port
from lpa_export.hosts.sepformer.chunks import chunk_count
from lpa_export.runtimes.separation.coreml import CoremlSeparatorRuntime
from lpa_export.targets import SeparatorJob, Written
from lpa_export.targets.coreml.convert import (
    Input,
    Program,
    convert,
    with_constant_shapes,
)
from lpa_export.targets.coreml.normalisation import InFloat32
from lpa_export.targets.coreml.packing import Packing
from lpa_export.targets.describe import normalisation, require_exportable, taps, tools
from lpa_export.targets.separation.describe import lowering, metadata, separator_buckets
from lpa_export.targets.separation.model import SeparatorModel

if TYPE_CHECKING:
    from lpa_export.formats.schemes import Scheme
    from lpa_export.formats.separation_bundle import SeparationManifest
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.sepformer import SeparatorParts
    from lpa_export.targets.coreml.settings import CoremlSettings

__all__ = ["CoremlSeparatorTarget", "usage"]

_MAIN = "main"


class CoremlSeparatorTarget:
    """`separator_SAMPLES.mlpackage` for each bucket."""

    def check(self, separator: Separator, settings: CoremlSettings, scheme: Scheme) -> None:
        """Raise LpaError for LPA layers without a folded form, and for impossible buckets."""
        require_exportable(separator)
        separator_buckets(settings.buckets, separator.model.config)

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """Write the packages."""
        parts, config = job.parts, job.parts.config
        buckets = separator_buckets(job.settings.buckets, config)
        packing = Packing(
            folder,
            job.settings.deployment_target,
            job.scheme,
            metadata(job.separator, job.scheme.name),
        )
        packages = {bucket: f"separator_{bucket.samples}.mlpackage" for bucket in buckets}
        for bucket, package in packages.items():
            job.announce(f"converting the program of {bucket.seconds:g} s")
            packing.add(package, _MAIN, packing.convert(_program, parts, bucket))
            packing.finish(package, ("sources",))
        # Which module a value comes from, for whoever looks for a difference.
        every = taps(parts, lambda tap: tap.replace(".", "_"))
        return Written(
            artifacts=tuple(packages.values()),
            lowering=lowering(parts, "local_dense_mask"),
            normalisation=normalisation(False),
            inputs=tuple(
                Port(name=name, dtype="float32", shape=(1, name))
                for name in ("waveform", "heard", "frames", "chunks")
            ),
            outputs=(Port(name="sources", dtype="float32", shape=(1, config.sources, "waveform")),),
            taps=every,
            buckets=buckets,
            tools=tools("coremltools", "torch"),
            runtime=CoremlSeparatorRuntime(
                deployment_target=job.settings.deployment_target, packages=tuple(packages.values())
            ),
        )


class _Program(nn.Module):
    """waveform (1, samples); ones and zeros: heard (1, samples), frames (1, L), chunks (1, S)."""

    def __init__(self, parts: SeparatorParts, samples: int) -> None:
        super().__init__()
        self.model = SeparatorModel(parts, samples)
        # Of the audio as loud as it is, over all of its frames. What the norms behind it are given
        # has the level of a layer norm, and few rows: they may be half.
        self.model.norm = InFloat32(self.model.norm)

    def forward(
        self, waveform: Tensor, heard: Tensor, frames: Tensor, chunks: Tensor
    ) -> tuple[Tensor, ...]:
        """The taps in the order of the model; the sources are the last."""
        own = [mask > 0.5 for mask in (heard, frames, chunks)]
        encoded = self.model.encode(waveform, own[0])
        hidden = self.model.chunked(encoded, own[1])
        sources, *others = self.model.masked(encoded, hidden, *own)
        return *others, sources


def _program(
    parts: SeparatorParts, bucket: Bucket, *, deployment_target: str, half: bool
) -> Program:
    chunks = chunk_count(bucket.frames, parts.config.chunk)
    sizes = {
        "waveform": bucket.samples,
        "heard": bucket.samples,
        "frames": bucket.frames,
        "chunks": chunks,
    }
    inputs = [Input(name, torch.ones(1, size), float32=True) for name, size in sizes.items()]
    outputs = [tap.replace(".", "_") for tap in parts.taps]
    examples = tuple(given.example for given in inputs)
    module = with_constant_shapes(_Program(parts, bucket.samples), examples)
    return convert(module, inputs, outputs, deployment_target=deployment_target, half=half)


def usage(manifest: SeparationManifest) -> str:
    """How an app runs the packages, for the model card."""
    buckets = manifest.buckets or ()
    rows = "\n".join(
        f"| `{name}` | {bucket.samples} | {bucket.frames} | "
        f"{chunk_count(bucket.frames, manifest.chunk)} |"
        for name, bucket in zip(manifest.artifacts, buckets, strict=True)
    )
    kernel, hop, chunk = manifest.frames.kernels[0], manifest.frames.hop, manifest.chunk
    return f"""\
Put the mixture into the smallest package that holds it. With n its samples, n >= {kernel}:
`waveform` is the mixture and anything behind it; `heard` is 1 for its n samples, `frames` for its
l = (n - {kernel}) / {hop} + 1 frames, `chunks` for its 2 ((l + {chunk // 2}) / {chunk} + 1) chunks
(divisions round down), and 0 elsewhere. `sources` (1, {manifest.sources}, samples) is as long as
the waveform, and zero behind the mixture.

| package | waveform, heard | frames | chunks |
| --- | ---: | ---: | ---: |
{rows}
"""
