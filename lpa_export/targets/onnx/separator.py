"""A separator as an ONNX graph, any batch and any length.

The whole is traced with a call in place of each layer, layers that are alike are traced once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim

from lpa_export.environment import quiet
from lpa_export.targets.batched import Context, example_inputs
from lpa_export.targets.onnx.lower import INPUTS, anonymise, tap_tensor
from lpa_export.targets.onnx.pieces import OPSET, PIECES, LayerPieces, Piece, kinds_of, tensors
from lpa_export.targets.separation.model import DualPath, Layers, SeparatorModel

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["OUTPUT", "lower_separator"]

OUTPUT = "sources"

_CHUNKS = 3
"""Of the example: what is one there would be taken for one at all lengths."""

_BATCH = Dim("batch", min=1, max=1024)
_MAX_SAMPLES = 4 * 3600 * 48_000

_ROWS = (2, 3)
_LENGTHS = (4096, 5096)
"""Of the sequences of a stack, twice: several blocks of every sum and loop."""

_EACH, _LENGTH = Dim("rows", min=2), Dim("length", min=2)


def lower_separator(model: SeparatorModel, taps: Sequence[str]) -> onnx.ModelProto:
    """Export `model` with its `taps`, the sources last. The same model gives the same bytes."""
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    config = model.config
    samples = config.stride * config.chunk * _CHUNKS + 1
    names = [OUTPUT, *(tap_tensor(tap) for tap in taps if tap != OUTPUT)]
    with quiet(), torch.no_grad():
        pieces = _pieces(model)
        with _called(model):
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
        whole = program.model
        for node in list(whole.graph):
            if node.domain == PIECES:
                path = node.attributes["path"].as_string()
                _write_out(whole, node, pieces[path], model.get_submodule(path), f"{path}.")
        whole.opset_imports.pop(PIECES, None)
        whole = InlinePass()(whole).model
        graph = ir.serde.serialize_model(whole)
    for output in graph.graph.output:
        # The exporter writes formulas of the samples there.
        del output.type.tensor_type.shape.dim[:]
        output.type.tensor_type.ClearField("shape")
    return anonymise(graph)


class _Call(nn.Module):
    """A node that names a layer, in its place."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, hidden: Tensor, own: Context) -> Tensor:
        """As a layer of a kit."""
        return torch.onnx.ops.symbolic(
            f"{PIECES}::layer",
            [hidden, *tensors(own)],
            {"path": self.path},
            dtype=hidden.dtype,
            shape=hidden.shape,
            version=1,
        )


def _stacks(model: SeparatorModel) -> Iterator[tuple[list[str], Layers]]:
    """Each stack, behind the paths of its layers."""
    for number, block in enumerate(model.blocks):
        assert isinstance(block, DualPath)
        for name, stack in (("intra", block.intra), ("inter", block.inter)):
            path = f"blocks.{number}.{name}.layers"
            yield [f"{path}.{index}" for index in range(len(stack.layers))], stack


@contextmanager
def _called(model: SeparatorModel) -> Iterator[None]:
    """Layers are calls meanwhile."""
    stacks = list(_stacks(model))
    layers = [stack.layers for _, stack in stacks]
    try:
        for paths, stack in stacks:
            stack.layers = nn.ModuleList(map(_Call, paths))
        yield
    finally:
        for (_, stack), own in zip(stacks, layers, strict=True):
            stack.layers = own


def _pieces(model: SeparatorModel) -> dict[str, Piece]:
    """The piece of each layer, by its path. Any length: it serves within chunks and across them."""
    pieces, found = LayerPieces(), {}
    for paths, stack in _stacks(model):
        examples = []
        for size in zip(_ROWS, _LENGTHS, strict=True):
            like, valid = torch.zeros(*size, model.config.hidden_size), torch.ones(size).bool()
            examples.append((like, stack.prepare(like, valid)))
        # Anew for each stack, whose teeth are its own number for a length.
        kinds = kinds_of(examples, {_ROWS: _EACH, _LENGTHS: _LENGTH})
        like, context = examples[0]
        for index, (path, layer) in enumerate(zip(paths, stack.layers, strict=True)):
            found[path] = pieces.piece(layer, like, context.own(index), kinds)
    return found


def _write_out(whole: ir.Model, node: ir.Node, piece: Piece, layer: nn.Module, prefix: str) -> None:
    """A call of the layer's piece in place of the node that names it."""
    import onnx_ir as ir

    given = [*node.inputs, *piece.given(whole, layer, prefix)]
    call = ir.node(piece.function.name, given, domain=PIECES)
    ir.convenience.replace_nodes_and_values(
        whole.graph, node, [node], [call], node.outputs, call.outputs
    )
