"""The ONNX target: trace, optimise, quantise, describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import FrontEnd, Port
from lpa_export.hosts import parts_of
from lpa_export.hosts.frames import FrameArithmetic, check_frame_arithmetic
from lpa_export.targets import Job, Written
from lpa_export.targets.batched import BATCHED, BatchedModel
from lpa_export.targets.describe import (
    families,
    metadata,
    normalisation,
    require_exportable,
    taps,
    tools,
)
from lpa_export.targets.kit_in_pieces import IN_PIECES
from lpa_export.targets.onnx.attention import FusedAttention
from lpa_export.targets.onnx.convolutions import quantise_convolutions
from lpa_export.targets.onnx.external import save, weight_bytes
from lpa_export.targets.onnx.lower import OUTPUTS, forget, lower, tap_tensor
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.onnx.quantise import counted, kept_weights, quantise
from lpa_export.targets.skeleton import Kit

if TYPE_CHECKING:
    import onnx

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.onnx.settings import OnnxSettings

__all__ = ["ARTIFACT", "OnnxTarget", "add_metadata", "hide_taps"]

ARTIFACT = "model.onnx"

_KITS: Mapping[FrontEnd, Kit] = {"whole": BATCHED, "pieces": IN_PIECES}


class OnnxTarget:
    """`model.onnx` for ONNX Runtime, any batch and any length; large weights lie beside it."""

    def check(self, checkpoint: Checkpoint, settings: OnnxSettings, scheme: Scheme) -> None:
        """Raise LpaError for LPA layers without a folded form, and for int8 of too large a one."""
        require_exportable(checkpoint)
        size = sum(parameter.nbytes for parameter in checkpoint.model.parameters())
        if scheme.compresses and size > settings.max_file_bytes:
            raise LpaError(
                f"the weights take {size / 2**30:.1f} GiB: {scheme.name} is written for graphs of "
                "one file, 2 GiB at most; leave out --quantize"
            )

    def write(self, job: Job, folder: Path) -> Written:
        """Write `model.onnx`. Raises LpaError for another frame arithmetic than was stated."""
        checkpoint = job.checkpoint
        parts = parts_of(checkpoint)
        kit = _KITS[job.settings.front_end]
        if job.settings.attention == "fused":
            kit = replace(kit, attention=FusedAttention)
        model = BatchedModel(parts, kit)
        frames = FrameArithmetic.of(checkpoint.model.config)
        check_frame_arithmetic(model, frames)
        kept = kept_weights(model)
        # Without a name, so that the memory of its weights is free when they are written.
        graph = optimise(_traced(job, model, frames.receptive_field), folder)
        hide_taps(graph, OUTPUTS)
        compression = None
        if job.scheme.weights == "int8":
            job.announce("quantising the weights")
            graph = quantise(graph, kept, folder)
            compression = counted(graph, kept)
        add_metadata(graph, metadata(checkpoint, job.scheme.name))
        external = weight_bytes(graph) > job.settings.max_file_bytes
        files = save(graph, folder / ARTIFACT, external=external)
        logits = ("batch", "frames", len(checkpoint.vocabulary))
        return Written(
            artifacts=files,
            lowering=families(parts, "prefix_sum_gather"),
            normalisation=normalisation(parts.do_normalize),
            inputs=(
                Port(name="waveform", dtype="float32", shape=("batch", "samples")),
                Port(name="lengths", dtype="int64", shape=("batch",)),
            ),
            outputs=(
                Port(name="logits", dtype="float32", shape=logits),
                Port(name="frame_lengths", dtype="int64", shape=("batch",)),
            ),
            taps=taps(parts, tap_tensor),
            buckets=None,
            tools=tools("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
            compression=compression,
            front_end=job.settings.front_end,
        )


def _traced(job: Job, model: BatchedModel, receptive_field: int) -> onnx.ModelProto:
    """The graph with all taps before rewrites; nothing is left of the model."""
    job.announce("tracing the model")
    graph = lower(model, tuple(parts_of(job.checkpoint).taps), receptive_field)
    forget(model)
    if job.scheme.weights == "int8" and job.settings.convolutions == "int8":
        # Before the rewrites, which let the transposes between two of them meet.
        quantise_convolutions(graph)
    job.announce("optimising the graph")
    return graph


def hide_taps(graph: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Leave these outputs alone; other values stay in the graph, under their names."""
    kept = [output for output in graph.graph.output if output.name in outputs]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)


def add_metadata(graph: onnx.ModelProto, words: dict[str, str]) -> None:
    """Write the `metadata_props` of the file, sorted by key."""
    del graph.metadata_props[:]
    for key, value in words.items():
        graph.metadata_props.add(key=key, value=value)
