"""The ExecuTorch target for separators: a method per bucket, lowered together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.runtimes.executorch.section import ExecutorchRuntime
from lpa_export.targets import SeparatorJob, Written
from lpa_export.targets.describe import normalisation, require_exportable, taps, tools
from lpa_export.targets.executorch.backends import load_backend
from lpa_export.targets.executorch.target import PROGRAM, write_delegation
from lpa_export.targets.separation.describe import (
    BUCKET_INPUTS,
    bucket_outputs,
    lowering,
    metadata,
    separator_buckets,
)
from lpa_export.targets.usage import recording

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from lpa_export.formats.manifest import Bucket
    from lpa_export.formats.schemes import Scheme
    from lpa_export.formats.separation_bundle import SeparationManifest
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.sepformer import SeparatorParts
    from lpa_export.targets.executorch.settings import ExecutorchSettings

__all__ = ["ExecutorchSeparatorTarget", "usage"]

_FORM = "local_dense_mask"


class ExecutorchSeparatorTarget:
    """`model.pte`, a method per bucket; `taps` beside that of the longest.

    One method of taps, because lowering one takes as long as all else together.
    """

    def check(self, separator: Separator, settings: ExecutorchSettings, scheme: Scheme) -> None:
        """Raise LpaError for what does not go together, and for a bucket without a frame."""
        require_exportable(separator)
        backend = load_backend(settings.backend)
        if not backend.runs_here:
            raise LpaError(
                f"backend {backend.name}: separators are written for xnnpack and portable only; "
                "leave out --backend, or take target coreml"
            )
        if settings.lowering not in ("auto", _FORM):
            raise LpaError(
                f"separators have fixed lengths here, which lowering {settings.lowering} is not "
                f"written for; set lowering to auto or {_FORM}"
            )
        backend.require()
        separator_buckets(settings.buckets, separator.model.config)

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """Write the program and the delegation map."""
        from lpa_export.targets.executorch.lower import lower
        from lpa_export.targets.executorch.programs import TAPS

        settings: ExecutorchSettings = job.settings
        parts, config = job.parts, job.parts.config
        backend = load_backend(settings.backend)
        buckets = separator_buckets(settings.buckets, config)
        job.announce("tracing the model")
        methods = {bucket.program: _traced(parts, bucket) for bucket in buckets}
        methods[TAPS] = _traced(parts, buckets[-1], taps=True)
        job.announce(f"lowering {len(methods)} methods: a minute each for a large model")
        lowered = lower(methods, backend, metadata(job.separator, job.scheme.name))
        (folder / PROGRAM).write_bytes(lowered.program.buffer)
        return Written(
            artifacts=(PROGRAM,),
            lowering=lowering(parts, _FORM),
            normalisation=normalisation(False),
            inputs=BUCKET_INPUTS,
            outputs=bucket_outputs(config),
            taps=taps(parts, lambda tap: tap),
            buckets=buckets,
            tools=tools("torch", "executorch", "torchao"),
            runtime=ExecutorchRuntime(
                backend=backend.name,
                program=PROGRAM,
                bundled=None,
                delegation=write_delegation(folder, lowered, buckets[-1].seconds),
                delegates=lowered.subgraphs,
                lowering=_FORM,
                methods=tuple(bucket.program for bucket in buckets),
                taps_method=TAPS,
                min_samples=config.kernel_size,
                max_samples=buckets[-1].samples,
            ),
        )


def _traced(parts: SeparatorParts, bucket: Bucket, *, taps: bool = False) -> ExportedProgram:
    import torch

    from lpa_export.targets.executorch.lower import trace
    from lpa_export.targets.executorch.separator_kit import KIT, ProductNorm
    from lpa_export.targets.separation.model import SeparatorModel, SourcesAlone, TapsAndSources

    norm = partial(ProductNorm, chunk=parts.config.chunk)
    model = SeparatorModel(parts, bucket.samples, kit=KIT, norm=norm)
    example = (torch.zeros(1, bucket.samples), torch.tensor([bucket.samples], dtype=torch.int32))
    return trace(TapsAndSources(model) if taps else SourcesAlone(model), example, None)


def usage(manifest: SeparationManifest) -> str:
    """A snippet that runs as it stands, beside a `noisy.wav`, for the model card."""
    return f"""\
```python
import json
import soundfile, torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("{manifest.artifacts[0]}")
{recording(manifest, "noisy.wav")}
manifest = json.load(open("manifest.json", encoding="utf-8"))
methods = zip(manifest["buckets"], manifest["runtime"]["methods"])
# The shortest that holds the mixture; anything may lie behind its end.
bucket, method = next(pair for pair in methods if len(waveform) <= pair[0]["samples"])
padded = torch.zeros(1, bucket["samples"])
padded[0, : len(waveform)] = torch.from_numpy(waveform)
lengths = torch.tensor([len(waveform)], dtype=torch.int32)
sources = program.load_method(method).execute([padded, lengths])[0][0, :, : len(waveform)]
for number, source in enumerate(sources.numpy()):
    soundfile.write(f"source-{{number}}.wav", source, rate)
```
"""
