"""The Core ML target: convert, compress, pack, describe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpa_export.formats.manifest import Bucket, Compression
from lpa_export.hosts import parts_of
from lpa_export.hosts.frames import FrameArithmetic, check_frame_arithmetic
from lpa_export.targets import Job, Written
from lpa_export.targets.coreml.buckets import make_buckets
from lpa_export.targets.coreml.describe import (
    FRONT_END,
    MAIN,
    TAPS,
    describe,
    package_of,
    taps_place,
)
from lpa_export.targets.coreml.packing import Packing
from lpa_export.targets.coreml.programs import (
    FrontEnd,
    encoder_program,
    front_end_program,
    tap_tensor,
    tapped_outputs,
    tapped_program,
    whole_program,
)
from lpa_export.targets.describe import metadata, require_exportable

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.hosts.parts import Parts
    from lpa_export.targets.coreml.settings import CoremlSettings

__all__ = ["SCOPES", "CoremlTarget"]

SCOPES = "scopes.json"


class CoremlTarget:
    """A front end of any length and encoders of fixed shapes, for the Neural Engine.

    iOS 18: one package with a function per bucket, which share their weights, and grouped
    palettes. iOS 17: a package per bucket, and one palette per tensor.
    """

    def check(self, checkpoint: Checkpoint, settings: CoremlSettings, scheme: Scheme) -> None:
        """Raise LpaError for LPA layers without a folded form, and for impossible buckets."""
        require_exportable(checkpoint)
        _buckets(parts_of(checkpoint), settings, half=scheme.compute != "fp32")

    def write(self, job: Job, folder: Path) -> Written:
        """Write the packages and `scopes.json`.

        Raises LpaError for another frame arithmetic than was stated, and for buckets longer than
        float16 can count.
        """
        checkpoint: Checkpoint = job.checkpoint
        settings: CoremlSettings = job.settings
        parts = parts_of(checkpoint)
        buckets = _buckets(parts, settings, half=job.scheme.compute != "fp32")
        front_end = FrontEnd(parts)
        _require_frames(front_end, parts.front_end)
        packing = Packing(
            folder,
            settings.deployment_target,
            job.scheme,
            metadata(checkpoint, job.scheme.name),
        )
        if settings.layout == "split":
            job.announce("converting the front end")
            shortest, longest = parts.front_end.receptive_field, buckets[-1].samples
            program = packing.convert(front_end_program, front_end, shortest, longest)
            packing.add(FRONT_END, MAIN, program)
            taps = ("projected", tap_tensor("features", "split"))
            packing.finish(FRONT_END, taps if settings.taps == "outputs" else taps[:1])
        make = encoder_program if settings.layout == "split" else whole_program
        for bucket in buckets:
            job.announce(f"converting the program of {bucket.frames} frames")
            place = package_of(bucket, settings)
            packing.add(*place, packing.convert(make, parts, bucket))
        tapped = taps_place(settings)
        if tapped is not None:
            job.announce("converting the program whose taps are outputs")
            packing.add(*tapped, packing.convert(tapped_program, parts, buckets[0]))
        job.announce("writing the packages")
        for package in packing.open_packages:
            own = (package, MAIN) == tapped
            outputs = tapped_outputs(parts) if own else ("logits",)
            packing.finish(package, outputs, whole=(TAPS,))
        text = json.dumps(packing.scopes, indent=1, sort_keys=True)
        (folder / SCOPES).write_text(text + "\n", "utf-8", newline="\n")
        written = describe(checkpoint, parts, buckets, settings, job.scheme)
        if not job.scheme.compresses:
            return written
        return replace(written, compression=Compression.of(packing.compression.values()))


def _buckets(parts: Parts, settings: CoremlSettings, *, half: bool) -> tuple[Bucket, ...]:
    exact = settings.layout == "whole"
    return make_buckets(settings.buckets, parts.front_end, exact=exact, half=half)


def _require_frames(front_end: FrontEnd, arithmetic: FrameArithmetic) -> None:
    """Raise LpaError unless the front end makes as many frames as the manifest's formula says."""

    def model(waveform: Tensor, _lengths: Tensor) -> tuple[Tensor, ...]:
        projected = front_end(waveform)[0][:, :, 0].transpose(1, 2)
        return projected, torch.tensor([projected.shape[1]])

    check_frame_arithmetic(model, arithmetic)
