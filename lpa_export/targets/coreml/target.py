"""The Core ML target: check, rewrite, convert, compress, pack, describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets import Job, Written
from lpa_export.targets.coreml.buckets import Bucket, make_buckets
from lpa_export.targets.coreml.describe import FRONT_END, MAIN, describe, metadata, package_of
from lpa_export.targets.coreml.frontend import FrontEnd
from lpa_export.targets.coreml.packing import Packing
from lpa_export.targets.coreml.programs import encoder_program, front_end_program, whole_program
from lpa_export.targets.coreml.settings import CoremlSettings
from lpa_export.targets.coreml.verify import require_equal, require_frames
from lpa_export.targets.graph import require_plain

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint


__all__ = ["SCOPES", "CoremlTarget"]

SCOPES = "scopes.json"


class CoremlTarget:
    """A front end of any length and encoders of fixed shapes, for the Neural Engine.

    iOS 18: one package with a function per bucket, which share their weights, and grouped
    palettes. iOS 17: a package per bucket, and one palette per tensor.
    """

    def check(self, checkpoint: Checkpoint, settings: CoremlSettings) -> None:
        """Raise LpaError for a wav2vec2 with adapters, and for buckets that make no programs."""
        require_plain(checkpoint)
        assert isinstance(settings, CoremlSettings)
        _buckets(checkpoint, settings, half=False)

    def write(self, job: Job, folder: Path) -> Written:
        """Write the packages and `scopes.json`.

        Raises LpaError when the rewritten model is not equal to the reference, and for buckets
        longer than float16 can count.
        """
        checkpoint, settings = job.checkpoint, job.settings
        assert isinstance(settings, CoremlSettings)
        buckets = _buckets(checkpoint, settings, half=job.scheme.compute != "fp32")
        arithmetic = FrameArithmetic.of(checkpoint.model.config)
        job.announce("comparing the rewritten model with the reference")
        front_end = FrontEnd(checkpoint)
        require_frames(front_end, arithmetic)
        require_equal(checkpoint, job.clips)
        packing = Packing(
            folder,
            settings.deployment_target,
            job.scheme.name,
            metadata(checkpoint, job.scheme.name),
        )
        if settings.layout == "split":
            job.announce("converting the front end")
            shortest, longest = arithmetic.receptive_field, buckets[-1].max_samples
            program = packing.convert(front_end_program, front_end, shortest, longest)
            packing.add(FRONT_END, MAIN, program)
            packing.finish(FRONT_END, ("projected",))
        make = encoder_program if settings.layout == "split" else whole_program
        for bucket in buckets:
            job.announce(f"converting the program of {bucket.frames} frames")
            place = package_of(bucket, settings)
            packing.add(*place, packing.convert(make, checkpoint, bucket))
        job.announce("writing the packages")
        for package in packing.open_packages:
            packing.finish(package, ("logits",))
        text = json.dumps(packing.scopes, indent=1, sort_keys=True)
        (folder / SCOPES).write_text(text + "\n", "utf-8", newline="\n")
        return describe(checkpoint, buckets, settings, job.scheme)


def _buckets(checkpoint: Checkpoint, settings: CoremlSettings, *, half: bool) -> tuple[Bucket, ...]:
    arithmetic = FrameArithmetic.of(checkpoint.model.config)
    return make_buckets(settings.buckets, arithmetic, exact=settings.layout == "whole", half=half)
