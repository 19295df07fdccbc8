"""The MLX target for separators: weights, configuration, and a trace per bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import as_type
from lpa_export.runtimes.mlx.section import MlxRuntime
from lpa_export.targets import SeparatorJob, Written
from lpa_export.targets.describe import normalisation, require_exportable, taps, tools
from lpa_export.targets.mlx.target import LOWERINGS, PROGRAM, section_of, write_model
from lpa_export.targets.mlx.usage import elsewhere
from lpa_export.targets.separation.describe import (
    BUCKET_INPUTS,
    bucket_outputs,
    lowering,
    metadata,
    separator_buckets,
)
from lpa_export.targets.separation.plain import plain_separator
from lpa_export.targets.usage import recording

if TYPE_CHECKING:
    from lpa_export.formats.schemes import Scheme
    from lpa_export.formats.separation_bundle import SeparationManifest
    from lpa_export.formats.separator import Separator
    from lpa_export.targets.mlx.settings import MlxSettings

__all__ = ["MlxSeparatorTarget", "usage"]


class MlxSeparatorTarget:
    """`model.mlxfn`, with `model.safetensors` and `config.json` for any length."""

    def check(self, separator: Separator, settings: MlxSettings, scheme: Scheme) -> None:
        """Raise LpaError for what cannot be written: a kernel of the GPU, a bucket without a
        frame."""
        require_exportable(separator)
        if settings.means != "gathers":
            raise LpaError(
                f"--means {settings.means} goes with models that recognise speech; a separator's "
                "windows are averaged by gathers"
            )
        separator_buckets(settings.buckets, separator.model.config)

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """Write the three files."""
        from lpa_export.targets.mlx.model import CONFIG, WEIGHTS
        from lpa_export.targets.mlx.separator import load
        from lpa_export.targets.mlx.trace import trace

        settings: MlxSettings = job.settings
        parts, config = job.parts, job.parts.config
        words = metadata(job.separator, job.scheme.name)
        buckets = separator_buckets(settings.buckets, config)
        every = taps(parts, lambda tap: tap)
        job.announce("writing the weights")
        write_model(folder, plain_separator(parts), job.scheme, settings, words)
        job.announce("tracing the model")
        names = [tap.name for tap in every]
        counted = trace(load(folder), buckets, names, words, settings.device, folder / PROGRAM)
        form = LOWERINGS[settings.sums]
        return Written(
            artifacts=(PROGRAM, WEIGHTS, CONFIG),
            lowering=lowering(parts, form),
            normalisation=normalisation(False),
            inputs=BUCKET_INPUTS,
            outputs=bucket_outputs(config),
            taps=every,
            buckets=buckets,
            tools=tools("mlx", "numpy", "torch"),
            runtime=section_of(settings.device, counted),
        )


def usage(manifest: SeparationManifest) -> str:
    """A snippet that runs as it stands, beside a `noisy.wav`, for the model card."""
    runtime = as_type(manifest.runtime, MlxRuntime, "'runtime'")
    return f"""\
```python
import json
import mlx.core as mx
import numpy as np, soundfile

program = mx.compile(mx.import_function("{runtime.program}"))
{recording(manifest, "noisy.wav")}
manifest = json.load(open("manifest.json", encoding="utf-8"))
samples = next(b["samples"] for b in manifest["buckets"] if len(waveform) <= b["samples"])
padded = mx.pad(mx.array(waveform)[None], [(0, 0), (0, samples - len(waveform))])
(sources,) = program(padded, mx.array([len(waveform)]))
for number, source in enumerate(np.array(sources[0, :, : len(waveform)])):
    soundfile.write(f"source-{{number}}.wav", source, rate)
```

{elsewhere(runtime, "lpa_export.targets.mlx.separator.load")}
"""
