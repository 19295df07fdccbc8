"""The Core AI target: trace each bucket, convert, describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.environment import quiet
from lpa_export.formats.manifest import Bucket, Port, Tap
from lpa_export.hosts import parts_of
from lpa_export.runtimes.coreai.section import CoreaiRuntime, taps_of
from lpa_export.targets import Announce, Job, Written
from lpa_export.targets.describe import (
    buckets_of,
    families,
    metadata,
    normalisation,
    require_exportable,
    taps,
    tools,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.coreai.settings import CoreaiSettings

__all__ = ["PROGRAM", "CoreaiTarget", "write_program"]

PROGRAM = "model.aimodel"


class CoreaiTarget:
    """`model.aimodel` for one utterance at a time, a function per bucket and one of its taps."""

    def check(self, checkpoint: Checkpoint, settings: CoreaiSettings, scheme: Scheme) -> None:
        """Raise LpaError for what cannot be written: impossible buckets."""
        require_exportable(checkpoint)
        buckets_of(settings.buckets, parts_of(checkpoint).front_end)

    def write(self, job: Job, folder: Path) -> Written:
        """Write the program."""
        from lpa_export.targets.bucketed import BucketModel, TappedBucketModel

        settings: CoreaiSettings = job.settings
        parts = parts_of(job.checkpoint)
        buckets = buckets_of(settings.buckets, parts.front_end)
        every = taps(parts, lambda tap: tap.replace(".", "_"))

        def functions(bucket: Bucket) -> tuple[nn.Module, nn.Module]:
            model = BucketModel(parts, bucket.frames)
            return model, TappedBucketModel(model)

        about = metadata(job.checkpoint, job.scheme.name)
        write_program(folder, buckets, functions, ("logits", every), about, job.announce)
        vocabulary = len(job.checkpoint.vocabulary)
        return Written(
            artifacts=(PROGRAM,),
            lowering=families(parts, "local_dense_mask"),
            normalisation=normalisation(parts.do_normalize),
            inputs=(
                Port(name="waveform", dtype="float32", shape=(1, "samples")),
                Port(name="lengths", dtype="int32", shape=(1,)),
            ),
            outputs=(Port(name="logits", dtype="float32", shape=(1, "frames", vocabulary)),),
            taps=every,
            buckets=buckets,
            tools=tools("coreai-core", "coreai-torch", "torch", "transformers"),
            runtime=CoreaiRuntime(program=PROGRAM),
        )


def write_program(
    folder: Path,
    buckets: Sequence[Bucket],
    functions: Callable[[Bucket], tuple[nn.Module, nn.Module]],
    outputs: tuple[str, Sequence[Tap]],
    about: Mapping[str, str],
    announce: Announce,
) -> None:
    """Write the program of all buckets.

    ``functions``: the modules of a bucket, of its result and of its taps, both of waveform and
    lengths; ``outputs``: the result's name, and the taps in their order.
    """
    with quiet():
        from coreai.runtime import AIModelAssetMetadata
        from coreai_torch import TorchConverter

        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        result, every = outputs
        for bucket in buckets:
            announce(f"tracing the model at {bucket.seconds:g} s")
            plain, tapped = functions(bucket)
            for name, module, names in (
                (bucket.program, plain, [result]),
                (taps_of(bucket), tapped, [tap.tensor for tap in every]),
            ):
                converter.add_exported_program(
                    _traced(module, bucket),
                    input_names=["waveform", "lengths"],
                    output_names=names,
                    entrypoint_name=name,
                )
        announce("converting the program")
        metadata_of_asset = AIModelAssetMetadata()
        for key, value in about.items():
            metadata_of_asset.set_custom(key, value)
        converter.to_coreai().save_asset(folder / PROGRAM, metadata=metadata_of_asset)


def _traced(module: nn.Module, bucket: Bucket) -> ExportedProgram:
    """A module of waveform (1, samples) and lengths (1,) at the length of a bucket."""
    import torch
    from coreai_torch import get_decomp_table

    samples = torch.tensor([bucket.samples], dtype=torch.int32)
    example: tuple[Any, ...] = (torch.zeros(1, bucket.samples), samples)
    with torch.no_grad():
        program = torch.export.export(module.eval(), example)
        return program.run_decompositions(get_decomp_table())
