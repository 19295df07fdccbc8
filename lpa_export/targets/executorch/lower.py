"""From a model to an ExecuTorch program: torch.export, edge operators, delegates, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.fx.experimental import _config as symbolic_shapes
from torch.fx.graph import _PyTreeCodeGen
from torch.fx.traceback import NodeSource

from lpa_export.environment import quiet
from lpa_export.targets.executorch.delegation import delegation_map

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager

    from lpa_export.targets.executorch.backends import Backend

__all__ = ["Lowered", "lower", "trace"]


@dataclass(frozen=True)
class Lowered:
    """A finished program, and which operator of each method went where (`delegation_map`)."""

    program: ExecutorchProgramManager
    methods: Mapping[str, dict[str, Any]]

    @property
    def subgraphs(self) -> dict[str, int]:
        """Delegate -> number of subgraphs, of the first method."""
        found: list[str] = next(iter(self.methods.values()))["delegates"]
        return {name: found.count(name) for name in sorted(set(found))}


def trace(module: nn.Module, inputs: tuple[Tensor, ...], lengths: range | None) -> ExportedProgram:
    """`torch.export` of a module; with `lengths` its first input's second axis takes all of them.

    Sizes of one are not told apart (`backed_size_oblivious`), and the CPU's choice of a convolution
    kernel must not bound the length (mkldnn off).
    """
    shapes: Any = None
    if lengths is not None:
        shapes = ({1: Dim("samples", min=lengths.start, max=lengths.stop - 1)},)
    with quiet(), _unbounded(), torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)


def lower(
    methods: Mapping[str, ExportedProgram], backend: Backend, constants: Mapping[str, Any]
) -> Lowered:
    """Lower methods to one program; equal weights are stored once. Same input, same bytes.

    `constants`: methods without inputs that give a number or a text.
    """
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig
    from executorch.exir import to_edge_transform_and_lower as to_edge

    with quiet(), _unbounded(), _shared_history(), _code_when_called(), torch.no_grad():
        edge = to_edge(
            dict(methods),
            partitioner=backend.partitioners(),
            constant_methods=dict(constants),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        # Before `to_executorch`, which rewrites the programs.
        maps = {name: delegation_map(edge.exported_program(name)) for name in methods}
        program = edge.to_executorch(ExecutorchBackendConfig())
    return Lowered(program, maps)


@contextmanager
def _unbounded() -> Iterator[None]:
    """Nothing is assumed of a length because of the example's."""
    shapes: Any = symbolic_shapes
    with shapes.patch(backed_size_oblivious=True), torch.backends.mkldnn.flags(enabled=False):
        yield


@contextmanager
def _shared_history() -> Iterator[None]:
    """A node keeps what it was made from, of which every pass would copy all, for every node.

    Nothing changes it and nothing here reads it; the copies are a seventh of lowering's time.
    """
    history: Any = NodeSource
    history.__deepcopy__ = lambda kept, _memo: kept
    try:
        yield
    finally:
        del history.__deepcopy__


@contextmanager
def _code_when_called() -> Iterator[None]:
    """A graph's Python code is written when it is called, and not whenever a pass has changed it.

    Passes read the graph, and nearly none of them is ever called: writing and compiling their code
    is an eighth of lowering's time.
    """
    modules: Any = GraphModule
    write = modules.recompile

    def put_off(module: Any) -> None:
        codegen: Any = module.graph._codegen
        if isinstance(codegen, _PyTreeCodeGen):
            module._in_spec = codegen.pytree_info.in_spec
            module._out_spec = codegen.pytree_info.out_spec
        module._code = ""  # what a debug message prints

        def forward(called: Any, *inputs: Any, **named: Any) -> Any:
            write(called)
            return called(*inputs, **named)

        # Every graph module has a class of its own.
        type(module).forward = forward

    modules.recompile = put_off
    try:
        yield
    finally:
        modules.recompile = write
