"""From the hard model to an ONNX graph whose file says nothing of the machine that made it.

Torch takes milliseconds to trace a node, so that layers which are alike are traced once. The front
end with what is prepared for a length is one piece, each kind of layer another, the head the last.
A layer's weights are arguments of its piece, which is called with those of each layer and written
out in place of the calls. Behind the front end, frames are a length of their own and not a formula
of the samples, which torch would simplify anew for each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from lpa_export.environment import quiet
from lpa_export.runtimes.onnx import every_graph
from lpa_export.targets.batched import BatchedModel, Context, example_inputs

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["INPUTS", "OPSET", "OUTPUTS", "anonymise", "forget", "lower", "tap_tensor"]

INPUTS = ("waveform", "lengths")
OUTPUTS = ("logits", "frame_lengths")

# The first with Gelu as one node; LayerNormalization is there since 17.
OPSET = 20

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

_DOMAIN = "lpa_export.pieces"


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
        named = {id(tensor): f"context.{n}" for n, tensor in enumerate(_tensors(context))}
        whole = _traced_front(model, [OUTPUTS[1], features, projected, "valid"], receptive_field)

        start = _traced(_Run(model, model.start, (like, context.valid)), kinds, "start")
        _call(whole, start, model, "", (projected, "valid"), (hidden[0], *named.values()))
        layers: dict[Hashable, _Piece] = {}
        for index, (layer, source) in enumerate(zip(model.layers, hidden, strict=False)):
            own = model.own(context, index)
            heard = _tensors(own)
            alike = _structure(layer), tuple(kinds[id(tensor)] for tensor in heard)
            if alike not in layers:
                run = _Run(layer, layer.forward, (like, own))
                layers[alike] = _traced(run, kinds, f"layer_{len(layers)}")
            inputs = source, *(named[id(tensor)] for tensor in heard)
            _call(whole, layers[alike], layer, f"layers.{index}.", inputs, hidden[index + 1 :][:1])
        end = _traced(_Run(model, model.decode, (like, context.valid)), kinds, "end")
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


class _Run(nn.Module):
    """What `run`, a method of `part`, makes of `arguments` with other tensors in them."""

    def __init__(
        self, part: nn.Module, run: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.part, self.run, self.arguments = part, run, arguments

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `arguments` -> those of the result, each once."""
        places = {id(old): new for old, new in zip(_tensors(self.arguments), tensors, strict=True)}
        return tuple(_tensors(self.run(*_replaced(self.arguments, places))))


def _tensors(value: Any) -> list[Tensor]:
    """The different tensors of nested tuples, in the order in which they come."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, tuple) else ()
    return list({id(tensor): tensor for part in parts for tensor in _tensors(part)}.values())


def _replaced(value: Any, places: Mapping[int, Tensor]) -> Any:
    """Nested tuples with other tensors in place of those with these ids."""
    if isinstance(value, Tensor):
        return places[id(value)]
    if not isinstance(value, tuple):
        return value
    parts = [_replaced(part, places) for part in value]
    return value._make(parts) if hasattr(value, "_make") else tuple(parts)


@dataclass(frozen=True)
class _Kind:
    """Tensors of one shape and dtype. lengths: axes that change with the audio, and how."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    lengths: tuple[tuple[int, Dim], ...]


def _prepared(model: BatchedModel) -> tuple[Tensor, Context, dict[int, _Kind]]:
    """An example of hidden states, of a context for them, and the kinds of their tensors, by id.

    Axes that are as long as each other for two sizes of audio are one length.
    """
    examples = []
    for size in _EXAMPLES:
        like, valid = torch.zeros(*size, model.width), torch.ones(size, dtype=torch.bool)
        examples.append((like, model.prepare(like, valid)))
    known = dict(zip(zip(*_EXAMPLES, strict=True), (_BATCH, _FRAMES), strict=True))
    kinds = {}
    for one, other in zip(*map(_tensors, examples), strict=True):
        lengths = []
        for axis, pair in enumerate(zip(one.shape, other.shape, strict=True)):
            if pair[0] != pair[1]:
                new = Dim(f"length_{len(known)}", min=2)
                lengths.append((axis, known.setdefault(pair, new)))
        kinds[id(one)] = _Kind(tuple(one.shape), one.dtype, tuple(lengths))
    return *examples[0], kinds


def _structure(part: nn.Module) -> Hashable:
    """Equal for modules that differ in nothing but the numbers in their tensors."""
    return tuple(
        (path, type(module), _attributes(module), _shapes(module))
        for path, module in part.named_modules()
    )


def _attributes(module: nn.Module) -> Hashable:
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return tuple(
        (name, value if isinstance(value, Hashable) else id(value))
        for name, value in public.items()
    )


def _shapes(module: nn.Module) -> Hashable:
    own = module.named_parameters(recurse=False), module.named_buffers(recurse=False)
    return tuple((name, tensor.shape, tensor.dtype) for part in own for name, tensor in part)


@dataclass(frozen=True)
class _Piece:
    """A function of tensors, then of the weights of a module."""

    function: ir.Function
    weights: tuple[str, ...]


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


def _traced(run: _Run, kinds: Mapping[int, _Kind], name: str) -> _Piece:
    """A function of the tensors of the arguments and of the weights that are used."""
    import onnx_ir as ir

    heard = _tensors(run.arguments)
    program = torch.onnx.export(
        run,
        tuple(heard),
        dynamo=True,
        dynamic_shapes=(tuple(dict(kinds[id(tensor)].lengths) for tensor in heard),),
        opset_version=OPSET,
        verbose=False,
        # Nothing must be folded into weights: those of another layer may take their place.
        optimize=False,
    )
    assert program is not None
    graph = program.model.graph
    weights = []
    for path in list(graph.initializers):
        weight = graph.initializers[path]
        if path.startswith("part."):
            del graph.initializers[path]
            if weight.uses():
                weight.const_value = None
                graph.inputs.append(weight)
                weights.append(path.removeprefix("part."))
    program.optimize()
    for path in list(graph.initializers):
        # A function has no initializers.
        constant = graph.initializers.pop(path)
        node = ir.node("Constant", [], {"value": constant.const_value})
        ir.convenience.replace_all_uses_with(constant, node.outputs[0])
        graph.insert_before(graph[0], node)
    return _Piece(ir.Function(_DOMAIN, name, graph=graph, attributes=[]), tuple(weights))


def _call(
    whole: ir.Model,
    piece: _Piece,
    part: nn.Module,
    prefix: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    """Add a call of the piece with the weights of `part` under names with that prefix.

    inputs: names among the outputs of `whole`; outputs: those that it has more afterwards.
    """
    import onnx_ir as ir
    from onnx_ir.tensor_adapters import TorchTensor

    whole.functions.setdefault(piece.function.identifier(), piece.function)
    graph, stored = whole.graph, part.state_dict()
    values = {value.name: value for value in graph.outputs}
    given = [values[name] for name in inputs]
    for path in piece.weights:
        tensor = TorchTensor(stored[path], name=prefix + path)
        kind = ir.TensorType(tensor.dtype)
        weight = ir.Value(name=tensor.name, type=kind, shape=tensor.shape, const_value=tensor)
        graph.register_initializer(weight)
        given.append(weight)
    made = [
        ir.Value(name=name, type=like.type, shape=like.shape)
        for name, like in zip(outputs, piece.function.outputs, strict=True)
    ]
    graph.append(ir.node(piece.function.name, given, domain=_DOMAIN, outputs=made))
    graph.outputs.extend(made)


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
