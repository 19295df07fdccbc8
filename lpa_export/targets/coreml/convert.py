"""From a torch module to an ML program in memory, its values tied to the modules they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lpa_export.targets.coreml.normalisation import ComputesInFloat32, InFloat32
from lpa_export.targets.coreml.operators import teach_operators

if TYPE_CHECKING:
    from coremltools.models import MLModel

__all__ = ["Input", "Program", "convert", "with_constant_shapes"]


@dataclass(frozen=True)
class Input:
    """An input: its name, an example, and, where its last axis is flexible, how long it may be."""

    name: str
    example: Tensor
    float32: bool = False
    shortest: int | None = None
    longest: int | None = None

    def type(self, *, half: bool) -> Any:
        """As coremltools describes it; float16 where `half` and not `float32`."""
        import coremltools

        shape: list[Any] = list(self.example.shape)
        if self.shortest is not None:
            shape[-1] = coremltools.RangeDim(self.shortest, self.longest, shape[-1])
        dtype = np.float16 if half and not self.float32 else np.float32
        return coremltools.TensorType(self.name, tuple(shape), dtype=dtype)


@dataclass(frozen=True)
class Program:
    """A converted module. `scopes`: name of each value -> path of the torch module it is from."""

    model: MLModel
    scopes: Mapping[str, str]


def convert(
    module: nn.Module,
    inputs: Sequence[Input],
    outputs: Sequence[str],
    *,
    deployment_target: str,
    half: bool,
) -> Program:
    """Trace `module` and convert the trace; the values it returns are named `outputs`.

    `deployment_target`: a name in `coremltools.target`. `half`: compute in float16 but for modules
    that are `ComputesInFloat32`. Call it within `quiet`.
    """
    import coremltools

    teach_operators()
    with torch.no_grad():
        examples = tuple(given.example for given in inputs)
        traced = torch.jit.trace(module.eval(), examples, check_trace=False)
    precision = coremltools.precision.FLOAT32
    if half:
        precision = coremltools.transform.FP16ComputePrecision(op_selector=_may_be_half(module))
    dtype = np.float16 if half else np.float32
    model = coremltools.convert(
        traced,
        inputs=[given.type(half=half) for given in inputs],
        outputs=[coremltools.TensorType(name, dtype=dtype) for name in outputs],
        minimum_deployment_target=getattr(coremltools.target, deployment_target),
        compute_precision=precision,
        convert_to="mlprogram",
        skip_model_load=True,
    )
    return Program(model, _scopes(model, module))


def with_constant_shapes(module: nn.Module, examples: tuple[Tensor, ...]) -> nn.Module:
    """`module` for inputs of the examples' shapes alone; its parts keep their paths.

    A trace of the module itself keeps shapes as values to be computed, which coremltools cannot
    read where they make others. `ComputesInFloat32` stay that.
    """
    with torch.no_grad():
        exported = torch.export.export(module, examples).run_decompositions({})
    constant = torch.export.unflatten(exported)
    for path, part in module.named_modules():
        if isinstance(part, ComputesInFloat32):
            constant.set_submodule(path, InFloat32(constant.get_submodule(path)))
    return constant


def _scopes(model: Any, module: nn.Module) -> dict[str, str]:
    """Value name -> path in `module.named_modules()`; empty for the module itself."""
    # A trace leaves the lists out of its paths: `layers.0.norm` is `0.norm` there.
    lists = {path for path, part in module.named_modules() if isinstance(part, nn.ModuleList)}
    paths = {_without(lists, path): path for path, _ in module.named_modules()}
    scopes: dict[str, str] = {}
    for operation in model._mil_program.functions["main"].operations:
        if operation.op_type != "const":
            traced = ".".join(_scope(operation, "TORCHSCRIPT_MODULE_NAME")[:-1])
            scopes |= {value.name: paths.get(traced, traced) for value in operation.outputs}
    return scopes


def _without(lists: set[str], path: str) -> str:
    """The path without the names of the lists on it."""
    parts = path.split(".")
    kept = [part for n, part in enumerate(parts, 1) if ".".join(parts[:n]) not in lists]
    return ".".join(kept)


def _may_be_half(module: nn.Module) -> Callable[[Any], bool]:
    """Whether an operation of the converted module may be computed in float16.

    A trace keeps the names of the classes it came through, not the classes.
    """
    float32 = {type(part).__name__ for part in module.modules() if _is_float32(part)}

    def selector(operation: Any) -> bool:
        return float32.isdisjoint(_scope(operation, "TORCHSCRIPT_MODULE_TYPE"))

    return selector


def _is_float32(part: nn.Module) -> bool:
    return isinstance(part, ComputesInFloat32)


def _scope(operation: Any, source: str) -> list[str]:
    """One of the lists that the converter keeps about where an operation comes from."""
    found = (names for key, names in operation.scopes.items() if key.name == source)
    return list(next(found, []))
