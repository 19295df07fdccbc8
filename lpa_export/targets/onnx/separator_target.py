"""The ONNX target for separators: trace, optimise, quantise, describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.formats.manifest import Port
from lpa_export.targets import SeparatorJob, Written
from lpa_export.targets.describe import normalisation, require_exportable, taps, tools
from lpa_export.targets.onnx.external import save
from lpa_export.targets.onnx.lower import tap_tensor
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.onnx.quantise import counted, kept_weights, quantise
from lpa_export.targets.onnx.separator import OUTPUT, lower_separator
from lpa_export.targets.onnx.target import ARTIFACT, add_metadata, hide_taps
from lpa_export.targets.separation.describe import lowering, metadata
from lpa_export.targets.separation.model import SeparatorModel
from lpa_export.targets.usage import ONNXRUNTIME, int8_sums, recording

if TYPE_CHECKING:
    from lpa_export.formats.manifest import BundleManifest
    from lpa_export.formats.schemes import Scheme
    from lpa_export.formats.separator import Separator
    from lpa_export.targets.onnx.settings import OnnxSettings

__all__ = ["OnnxSeparatorTarget", "usage"]


class OnnxSeparatorTarget:
    """`model.onnx` for ONNX Runtime, any batch and any length."""

    def check(self, separator: Separator, settings: OnnxSettings, scheme: Scheme) -> None:
        """Raise LpaError for LPA layers without a folded form."""
        require_exportable(separator)

    def write(self, job: SeparatorJob, folder: Path) -> Written:
        """Write `model.onnx`."""
        parts, config = job.parts, job.parts.config
        model = SeparatorModel(parts)
        job.announce("tracing the model")
        graph = lower_separator(model, tuple(parts.taps))
        job.announce("optimising the graph")
        graph = optimise(graph, folder)
        hide_taps(graph, (OUTPUT,))
        compression = None
        if job.scheme.compresses:
            job.announce("quantising the weights")
            kept = kept_weights(model)
            graph = quantise(graph, kept, folder)
            compression = counted(graph, kept)
        add_metadata(graph, metadata(job.separator, job.scheme.name))
        return Written(
            artifacts=save(graph, folder / ARTIFACT, external=False),
            lowering=lowering(parts, "prefix_sum_gather"),
            normalisation=normalisation(False),
            inputs=(
                Port(name="waveform", dtype="float32", shape=("batch", "samples")),
                Port(name="lengths", dtype="int64", shape=("batch",)),
            ),
            outputs=(
                Port(name=OUTPUT, dtype="float32", shape=("batch", config.sources, "samples")),
            ),
            taps=taps(parts, lambda tap: tap if tap == OUTPUT else tap_tensor(tap)),
            buckets=None,
            tools=tools("torch", "onnx", "onnxscript", "onnxruntime"),
            compression=compression,
        )


def usage(manifest: BundleManifest) -> str:
    """A snippet that runs as it stands, beside a `noisy.wav`, for the model card."""
    return f"""\
```python
import os

{ONNXRUNTIME}

session = onnxruntime.InferenceSession("{manifest.artifacts[0]}")
{recording(manifest, "noisy.wav")}
# A batch of one; rows of several are padded with anything up to the longest.
inputs = {{"waveform": waveform[None], "lengths": np.array([len(waveform)])}}
(sources,) = session.run(["sources"], inputs)
for number, source in enumerate(sources[0]):
    soundfile.write(f"source-{{number}}.wav", source, rate)
```
{int8_sums(manifest)}"""
