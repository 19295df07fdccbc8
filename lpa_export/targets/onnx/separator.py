"""A separator as an ONNX graph, any batch and any length, traced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from lpa_export.environment import quiet
from lpa_export.targets.batched import example_inputs
from lpa_export.targets.onnx.lower import INPUTS, OPSET, anonymise, tap_tensor

if TYPE_CHECKING:
    import onnx

    from lpa_export.targets.separation.model import SeparatorModel

__all__ = ["OUTPUT", "lower_separator"]

OUTPUT = "sources"

_CHUNKS = 3
"""Of the example: what is one there would be taken for one at all lengths."""

_BATCH = Dim("batch", min=1, max=1024)
_MAX_SAMPLES = 4 * 3600 * 48_000


def lower_separator(model: SeparatorModel, taps: Sequence[str]) -> onnx.ModelProto:
    """Export `model` with its `taps`, the sources last. The same model gives the same bytes."""
    import onnx_ir as ir

    config = model.config
    samples = config.stride * config.chunk * _CHUNKS + 1
    names = [OUTPUT, *(tap_tensor(tap) for tap in taps if tap != OUTPUT)]
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            example_inputs(samples),
            dynamo=True,
            dynamic_shapes=(
                {0: _BATCH, 1: Dim("samples", min=2 * config.kernel_size, max=_MAX_SAMPLES)},
                {0: _BATCH},
            ),
            input_names=list(INPUTS),
            output_names=names,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph = ir.serde.serialize_model(program.model)
    for output in graph.graph.output:
        # The exporter writes formulas of the samples there.
        del output.type.tensor_type.shape.dim[:]
        output.type.tensor_type.ClearField("shape")
    return anonymise(graph)
