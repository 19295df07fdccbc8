"""From the hard model to an ONNX graph whose file says nothing of the machine that made it.

The front end is traced by itself, then what is prepared for a length, each kind of layer, and the
head, as pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim

from lpa_export.environment import quiet
from lpa_export.runtimes.onnx import every_graph
from lpa_export.targets.batched import BatchedModel, Context, example_inputs
from lpa_export.targets.onnx.pieces import (
    OPSET,
    PIECES,
    Kind,
    LayerPieces,
    Piece,
    Run,
    kinds_of,
    tensors,
    trace,
)

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["INPUTS", "OUTPUTS", "anonymise", "forget", "lower", "tap_tensor"]

INPUTS = ("waveform", "lengths")
OUTPUTS = ("logits", "frame_lengths")

# Several blocks of every sum and loop. What is one in the example would be taken for one at all
# lengths.
_EXAMPLES = ((2, 4096), (3, 5096))
"""Utterances and frames, twice."""

_MAX_BATCH = 1024
_MAX_SAMPLES = 4 * 3600 * 16_000

_BATCH = Dim("batch", min=1, max=_MAX_BATCH)
# Convolutions ask torch whether there is one frame. The graph is the same for one, but with that
# length among those asked for, all would be traced again without it.
_FRAMES = Dim("frames", min=2)


def tap_tensor(tap: str) -> str:
    """The name of a tap's value inside the graph."""
    return tap if tap in OUTPUTS else f"stage.{tap}"


def lower(model: BatchedModel, taps: Sequence[str], receptive_field: int) -> onnx.ModelProto:
    """Export `model` with its `taps`, all of them, as outputs. The same model gives the same bytes.

    `receptive_field`: samples, the shortest audio that the graph takes.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    names = [tap_tensor(tap) for tap in taps if tap not in OUTPUTS]
    features, projected, *hidden = names
    with quiet(), torch.no_grad():
        like, context, kinds = _prepared(model)
        named = {id(tensor): f"context.{n}" for n, tensor in enumerate(tensors(context))}
        whole = _traced_front(model, [OUTPUTS[1], features, projected, "valid"], receptive_field)

        start = trace(Run(model, model.start, (like, context.valid)), kinds, "start")
        _call(whole, start, model, "", (projected, "valid"), (hidden[0], *named.values()))
        pieces = LayerPieces()
        for index, (layer, source) in enumerate(zip(model.layers, hidden, strict=False)):
            own = model.own(context, index)
            piece = pieces.piece(layer, like, own, kinds)
            inputs = source, *(named[id(tensor)] for tensor in tensors(own))
            _call(whole, piece, layer, f"layers.{index}.", inputs, hidden[index + 1 :][:1])
        end = trace(Run(model, model.decode, (like, context.valid)), kinds, "end")
        _call(whole, end, model, "", (hidden[-1], "valid"), OUTPUTS[:1])

        made = {output.name: output for output in whole.graph.outputs}
        whole.graph.outputs[:] = [made[name] for name in (*OUTPUTS, *names)]
        whole = InlinePass()(whole).model
        return anonymise(ir.serde.serialize_model(whole))


def forget(model: nn.Module) -> None:
    """Free the weights of a model that was lowered, all of them copies of a checkpoint's.

    Nobody needs them any more, but the converter's rules of rewriting hold the last graph for good,
    and it the module.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.new_empty(0)


class _Front(nn.Module):
    """waveform, lengths -> frame lengths, features, projected features, which frames are valid."""

    def __init__(self, model: BatchedModel) -> None:
        super().__init__()
        self.part = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        features, projected, valid, frames = self.part.front(waveform, lengths)
        return self.part.shortened(frames), features, projected, valid


def _prepared(model: BatchedModel) -> tuple[Tensor, Context, dict[int, Kind]]:
    """An example of hidden states, of a context for them, and the kinds of their tensors, by id."""
    examples = []
    for size in _EXAMPLES:
        like, valid = torch.zeros(*size, model.width), torch.ones(size, dtype=torch.bool)
        examples.append((like, model.prepare(like, valid)))
    known = dict(zip(zip(*_EXAMPLES, strict=True), (_BATCH, _FRAMES), strict=True))
    return *examples[0], kinds_of(examples, known)


def _traced_front(model: BatchedModel, outputs: Sequence[str], receptive_field: int) -> ir.Model:
    frames = _EXAMPLES[0][1]
    samples = Dim("samples", min=2 * receptive_field, max=_MAX_SAMPLES)
    program = torch.onnx.export(
        _Front(model),
        example_inputs(frames * receptive_field),
        dynamo=True,
        dynamic_shapes=({0: _BATCH, 1: samples}, {0: _BATCH}),
        input_names=list(INPUTS),
        output_names=list(outputs),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    return program.model


def _call(
    whole: ir.Model,
    piece: Piece,
    part: nn.Module,
    prefix: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    """Add a call of the piece with the weights of `part` under names with that prefix.

    inputs: names among the outputs of `whole`; outputs: those that it has more afterwards.
    """
    import onnx_ir as ir

    values = {value.name: value for value in whole.graph.outputs}
    given = [values[name] for name in inputs] + piece.given(whole, part, prefix)
    made = [
        ir.Value(name=name, type=like.type, shape=like.shape)
        for name, like in zip(outputs, piece.function.outputs, strict=True)
    ]
    whole.graph.append(ir.node(piece.function.name, given, domain=PIECES, outputs=made))
    whole.graph.outputs.extend(made)


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
