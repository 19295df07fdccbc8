"""Parts of a model that are traced once for all that are alike, as functions of their weights.

Torch takes milliseconds to trace a node. A part's weights are arguments of its piece, which is
called with those of each part and written out in place of the calls. Lengths behind the front end
are of their own and not formulas of the samples, which torch would simplify anew for each tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim

if TYPE_CHECKING:
    import onnx_ir as ir

    Sizes = tuple[int, int]

__all__ = ["OPSET", "PIECES", "Kind", "LayerPieces", "Piece", "Run", "kinds_of", "tensors", "trace"]

# The first with Gelu as one node; LayerNormalization is there since 17.
OPSET = 20

PIECES = "lpa_export.pieces"
"""The domain of calls, of which none is left in a written graph."""


class Run(nn.Module):
    """What `run`, a method of `part`, makes of `arguments` with other tensors in them."""

    def __init__(
        self, part: nn.Module, run: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.part, self.run, self.arguments = part, run, arguments

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `arguments` -> those of the result, each once."""
        places = {id(old): new for old, new in zip(tensors(self.arguments), given, strict=True)}
        return tuple(tensors(self.run(*_replaced(self.arguments, places))))


def tensors(value: Any) -> list[Tensor]:
    """The different tensors of nested tuples, in the order in which they come."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, tuple) else ()
    return list({id(tensor): tensor for part in parts for tensor in tensors(part)}.values())


def _replaced(value: Any, places: Mapping[int, Tensor]) -> Any:
    """Nested tuples with other tensors in place of those with these ids."""
    if isinstance(value, Tensor):
        return places[id(value)]
    if not isinstance(value, tuple):
        return value
    parts = [_replaced(part, places) for part in value]
    return value._make(parts) if hasattr(value, "_make") else tuple(parts)


@dataclass(frozen=True)
class Kind:
    """Tensors of one shape and dtype. lengths: axes that change with the audio, and how.

    Of those axes shape is 0.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    lengths: tuple[tuple[int, Dim], ...]


def kinds_of(examples: Sequence[Any], known: dict[Sizes, Dim]) -> dict[int, Kind]:
    """The kinds of the tensors of the first of two examples, by id.

    examples: the same nested tuples for two sizes of audio. Axes that are as long as each other
    for both are one length: that of `known`, where new ones are added.
    """
    kinds = {}
    for one, other in zip(*map(tensors, examples), strict=True):
        sizes = tuple(zip(one.shape, other.shape, strict=True))
        lengths = tuple(
            (axis, known.setdefault(pair, _length(len(known))))
            for axis, pair in enumerate(sizes)
            if pair[0] != pair[1]
        )
        shape = tuple(first if first == second else 0 for first, second in sizes)
        kinds[id(one)] = Kind(shape, one.dtype, lengths)
    return kinds


@functools.cache
def _length(number: int) -> Dim:
    """One object for each number, so that kinds of different examples can be equal."""
    return Dim(f"length_{number}", min=2)


@dataclass(frozen=True)
class Piece:
    """A function of tensors, then of the weights of a module."""

    function: ir.Function
    weights: tuple[str, ...]

    def given(self, whole: ir.Model, part: nn.Module, prefix: str) -> list[ir.Value]:
        """The weights of `part`, now initializers of `whole` under names with that prefix.

        The function is one of `whole` from then on.
        """
        import onnx_ir as ir
        from onnx_ir.tensor_adapters import TorchTensor

        whole.functions.setdefault(self.function.identifier(), self.function)
        stored = {
            **dict(part.named_parameters(remove_duplicate=False)),
            **dict(part.named_buffers(remove_duplicate=False)),
        }
        given = []
        for path in self.weights:
            tensor = TorchTensor(stored[path], name=prefix + path)
            kind = ir.TensorType(tensor.dtype)
            weight = ir.Value(name=tensor.name, type=kind, shape=tensor.shape, const_value=tensor)
            whole.graph.register_initializer(weight)
            given.append(weight)
        return given


class LayerPieces:
    """The pieces of layers, one for all layers that are alike."""

    def __init__(self) -> None:
        self._traced: dict[Hashable, Piece] = {}

    def piece(
        self, layer: nn.Module, like: Tensor, own: tuple[Any, ...], kinds: Mapping[int, Kind]
    ) -> Piece:
        """Of `layer(like, own)`: examples of its hidden states and its context, of these kinds."""
        heard = tuple(kinds[id(tensor)] for tensor in (like, *tensors(own)))
        alike = _structure(layer), heard
        if alike not in self._traced:
            run = Run(layer, layer.forward, (like, own))
            self._traced[alike] = trace(run, kinds, f"layer_{len(self._traced)}")
        return self._traced[alike]


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


def trace(run: Run, kinds: Mapping[int, Kind], name: str) -> Piece:
    """A function of the tensors of the arguments and of the weights that are used."""
    import onnx_ir as ir

    heard = tensors(run.arguments)
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
    return Piece(ir.Function(PIECES, name, graph=graph, attributes=[]), tuple(weights))
