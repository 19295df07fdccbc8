"""The Core AI target for separators: trace each bucket, convert, describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes.coreai.section import CoreaiRuntime
from lpa_export.targets import SeparatorJob, Written
from lpa_export.targets.coreai.target import PROGRAM, write_program
from lpa_export.targets.describe import normalisation, require_exportable, taps, tools
from lpa_export.targets.separation.describe import (
    BUCKET_INPUTS,
    bucket_outputs,
    lowering,
    metadata,
    separator_buckets,
)
from lpa_export.targets.separation.model import SeparatorModel, SourcesAlone, TapsAndSources

if TYPE_CHECKING:
    from torch import nn

    from lpa_export.formats.schemes import Scheme
    from lpa_export.formats.separation_bundle import SeparationManifest
    from lpa_export.formats.separator import Separator
    from lpa_export.targets.coreai.settings import CoreaiSettings

__all__ = ["CoreaiSeparatorTarget", "usage"]


class CoreaiSeparatorTarget:
    """`model.aimodel`, a function per bucket and one of its taps."""

    def check(self, separator: Separator, settings: CoreaiSettings, scheme: Scheme) -> None:
        """Raise LpaError for LPA layers without a folded form, and a bucket without a frame."""
        require_exportable(separator)
        separator_buckets(settings.buckets, separator.model.config)

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """Write the program."""
        parts, config = job.parts, job.parts.config
        buckets = separator_buckets(job.settings.buckets, config)
        every = taps(parts, lambda tap: tap.replace(".", "_"))

        def functions(bucket: Bucket) -> tuple[nn.Module, nn.Module]:
            model = SeparatorModel(parts, bucket.samples)
            return SourcesAlone(model), TapsAndSources(model)

        about = metadata(job.separator, job.scheme.name)
        write_program(folder, buckets, functions, ("sources", every), about, job.announce)
        return Written(
            artifacts=(PROGRAM,),
            lowering=lowering(parts, "local_dense_mask"),
            normalisation=normalisation(False),
            inputs=BUCKET_INPUTS,
            outputs=bucket_outputs(config),
            taps=every,
            buckets=buckets,
            tools=tools("coreai-core", "coreai-torch", "torch"),
            runtime=CoreaiRuntime(program=PROGRAM),
        )


def usage(manifest: SeparationManifest) -> str:
    """How an app calls the program, for the model card."""
    rows = "\n".join(
        f"| `{bucket.program}` | {bucket.samples} |" for bucket in manifest.buckets or ()
    )
    return f"""\
Call the smallest function of `{manifest.artifacts[0]}` that holds the mixture: `waveform`
(1, samples) is the mixture and anything behind it, `lengths` (1,) int32 its samples. `sources`
(1, {manifest.sources}, samples) is zero behind it.

| function | samples |
| --- | ---: |
{rows}
"""
