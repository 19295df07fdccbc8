"""The ONNX target: lower, optimise, check, describe."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.formats.manifest import Normalisation, Port, Tap
from lpa_export.hosts.frames import FrameArithmetic, check_frame_arithmetic
from lpa_export.targets import Job, Written
from lpa_export.targets.graph import HardModel, require_plain, tap_kinds
from lpa_export.targets.onnx.lower import OUTPUTS, lower, stage_tensor
from lpa_export.targets.onnx.metadata import add_metadata
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.onnx.quantise import quantise
from lpa_export.targets.onnx.verify import require_equal, require_sound
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

if TYPE_CHECKING:
    import onnx

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.targets.onnx.settings import OnnxSettings


__all__ = ["ARTIFACT", "OnnxTarget"]

ARTIFACT = "model.onnx"
LOWERING = {
    "aperiodic": "prefix_sum_gather",
    "periodic": "prefix_sum_gather",
    "positional": "prefix_sum_gather",
}
_TOOLS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")


class OnnxTarget:
    """`model.onnx` for ONNX Runtime, any batch and any length."""

    def check(self, checkpoint: Checkpoint, settings: OnnxSettings) -> None:
        """Raise LpaError for a wav2vec2 with adapters."""
        require_plain(checkpoint)

    def write(self, job: Job, folder: Path) -> Written:
        """Write `model.onnx`. Raises LpaError when the graph is not equal to the reference."""
        checkpoint = job.checkpoint
        model = HardModel(checkpoint)
        frames = FrameArithmetic.of(checkpoint.model.config)
        check_frame_arithmetic(model, frames)
        job.announce("tracing the model")
        graph = lower(model, frames.receptive_field)
        del model
        job.announce("optimising the graph")
        graph = optimise(graph, folder)
        job.announce("comparing the graph with the model")
        require_equal(graph, job.clips)
        hide_stages(graph)
        if job.scheme.weights == "int8":
            job.announce("quantising the weights")
            graph = quantise(graph, folder)
            require_sound(graph, job.clips)
        normalisation = _normalisation(checkpoint)
        add_metadata(graph, checkpoint, normalisation.kind, job.scheme.name)
        (folder / ARTIFACT).write_bytes(graph.SerializeToString(deterministic=True))
        return _describe(checkpoint, normalisation)


def hide_stages(graph: onnx.ModelProto) -> None:
    """Keep the stage values in the graph, under their names, but no longer as outputs."""
    outputs = [output for output in graph.graph.output if output.name in OUTPUTS]
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)


def _normalisation(checkpoint: Checkpoint) -> Normalisation:
    if not checkpoint.do_normalize:
        return Normalisation(kind="none", where="graph")
    return Normalisation(
        kind="zero_mean_unit_variance", where="graph", epsilon=NORMALISATION_EPSILON
    )


def _describe(checkpoint: Checkpoint, normalisation: Normalisation) -> Written:
    return Written(
        artifacts=(ARTIFACT,),
        lowering=LOWERING if checkpoint.replaced else {},
        normalisation=normalisation,
        inputs=(
            Port(name="waveform", dtype="float32", shape=("batch", "samples")),
            Port(name="lengths", dtype="int64", shape=("batch",)),
        ),
        outputs=(
            Port(
                name="logits",
                dtype="float32",
                shape=("batch", "frames", len(checkpoint.vocabulary)),
            ),
            Port(name="frame_lengths", dtype="int64", shape=("batch",)),
        ),
        taps=tuple(
            Tap(name=name, kind=kind, tensor=stage_tensor(name))
            for name, kind in tap_kinds(checkpoint).items()
        ),
        buckets=None,
        tools={name: version(name) for name in _TOOLS},
        usage=_USAGE,
    )


_USAGE = """\
```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
waveform = ...  # float32 in [-1, 1], 16 kHz mono, (batch, samples), padded with anything
lengths = ...  # int64, (batch,), how many samples of each row are speech
logits, frames = session.run(None, {"waveform": waveform, "lengths": lengths})
tokens = open("tokens.txt", encoding="utf-8").read().splitlines()
ids = logits[0, : frames[0]].argmax(-1)
ids = ids[np.insert(ids[1:] != ids[:-1], 0, True)]  # merge repeats, then drop blanks
print("".join(tokens[i] for i in ids if i != 0).replace("|", " "))
```
"""
