"""From the hard model to an ONNX graph whose file says nothing of the machine that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from lpa_export.environment import quiet
from lpa_export.runtimes.onnx import every_graph
from lpa_export.targets.batched import BatchedModel, example_inputs

if TYPE_CHECKING:
    import onnx

__all__ = ["INPUTS", "OPSET", "OUTPUTS", "anonymise", "lower", "tap_tensor"]

INPUTS = ("waveform", "lengths")
OUTPUTS = ("logits", "frame_lengths")

# The first with Gelu as one node; LayerNormalization is there since 17.
OPSET = 20

# Receptive fields: as many frames and more, several blocks of every sum and loop. What is one in
# the example would be taken for one at all lengths.
_EXAMPLE = 4096

_MAX_BATCH = 1024
_MAX_SAMPLES = 4 * 3600 * 16_000


def tap_tensor(tap: str) -> str:
    """The name of a tap's value inside the graph."""
    return tap if tap in OUTPUTS else f"stage.{tap}"


def lower(model: BatchedModel, taps: Sequence[str], receptive_field: int) -> onnx.ModelProto:
    """Export `model` with all `taps` as outputs. The same model gives the same bytes.

    `receptive_field`: samples, the shortest audio that the graph takes.
    """
    batch = Dim("batch", min=1, max=_MAX_BATCH)
    # Convolutions ask torch whether there is one frame. The graph is the same for one, but with
    # that length among those asked for, all would be traced again without it.
    samples = Dim("samples", min=2 * receptive_field, max=_MAX_SAMPLES)
    tapped = [tap_tensor(tap) for tap in taps if tap not in OUTPUTS]
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            example_inputs(_EXAMPLE * receptive_field),
            dynamo=True,
            dynamic_shapes=({0: batch, 1: samples}, {0: batch}),
            input_names=list(INPUTS),
            output_names=[*OUTPUTS, *tapped],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return anonymise(program.model_proto)


def anonymise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop, in place, what tells of the exporting machine or changes nothing when run.

    That is stack traces with file paths, documentation strings, inferred shapes.
    """
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in every_graph(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:], graph.value_info[:]
        for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
            part.doc_string = ""
            del part.metadata_props[:]
    for output in model.graph.output:
        dimensions = output.type.tensor_type.shape.dim
        if len(dimensions) == 3:
            # The exporter writes a formula of the samples there.
            dimensions[1].dim_param = "frames"
    return model
