"""Programs written with coremltools' builder, saved as packages; single operations by hand."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.coreml import Evaluator, Package, load_package
from lpa_export.runtimes.coreml.call import Call
from lpa_export.runtimes.coreml.handlers import HANDLERS

Specs = dict[str, tuple[tuple[int, ...], str]]
"""Input name to shape and type ("fp16", "fp32", "int32")."""

Body = Callable[..., Any]
"""Takes the builder, then the inputs; returns the outputs."""


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """``save(path, body, specs)``: the program of a body, saved without any rewriting."""
    logging.disable(logging.WARNING)
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program, types

    logging.disable(logging.NOTSET)

    def run(path: Path, body: Body, specs: Specs, *, target: str = "iOS17") -> Path:
        opset = coremltools.target[target]
        placeholders = {
            name: Builder.placeholder(shape, types.string_to_builtin(kind))
            for name, (shape, kind) in specs.items()
        }
        with Function(placeholders, opset_version=opset) as function:
            outputs = body(Builder, *function.inputs.values())
            function.set_outputs(outputs if isinstance(outputs, list) else [outputs])
        program = Program()
        program.add_function("main", function)
        model = coremltools.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=opset,
            compute_precision=coremltools.precision.FLOAT32,
            pass_pipeline=coremltools.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.user_defined_metadata["colour"] = "blue"
        model.save(str(path))
        return path

    return run


@pytest.fixture
def package(save: Callable[..., Path], tmp_path: Path) -> Callable[..., Package]:
    """``package(body, specs)``: the same, saved and loaded again."""

    def run(body: Body, specs: Specs, **options: Any) -> Package:
        return load_package(save(tmp_path / "program.mlpackage", body, specs, **options))

    return run


@pytest.fixture(scope="session")
def compute() -> Callable[..., Any]:
    """``compute(op, x=..., axis=...)``: a handler called as the engine calls it, in numpy."""

    def run(op: str, **inputs: Any) -> Any:
        given = {name: _given(value) for name, value in inputs.items() if value is not None}
        result = HANDLERS[op](Call(op, op, given, (torch.float32,)))
        return result.numpy() if isinstance(result, torch.Tensor) else [r.numpy() for r in result]

    return run


@pytest.fixture(scope="session")
def folded() -> Callable[..., Any]:
    """``folded(op, x=..., axis=...)``: what coremltools itself computes out of constants."""
    logging.disable(logging.WARNING)
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function

    logging.disable(logging.NOTSET)

    def run(op: str, *, target: str = "iOS18", **inputs: Any) -> Any:
        with np.errstate(all="ignore"), Function({}, opset_version=coremltools.target[target]):
            result = getattr(Builder, op)(**inputs)
            made: Sequence[Any] = result if isinstance(result, list | tuple) else [result]
            if made[0].val is not None:
                return made[0].val if len(made) == 1 else [one.val for one in made]
            return made[0].op.materialized_val_inference()

    return run


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., float]:
    """``converted(module, shape)``: PSNR in dB of a torch module's program against the module."""
    logging.disable(logging.WARNING)
    import coremltools

    logging.disable(logging.NOTSET)

    def run(module: torch.nn.Module, shape: tuple[int, ...]) -> float:
        x = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
        with torch.no_grad():
            expected = module.eval()(x).numpy()
            traced = torch.jit.trace(module, x)
        model = coremltools.convert(
            traced,
            inputs=[coremltools.TensorType("x", shape, np.float32)],
            outputs=[coremltools.TensorType("y", dtype=np.float32)],
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS17,
            skip_model_load=True,
        )
        model.save(str(tmp_path / "module.mlpackage"))
        loaded = load_package(tmp_path / "module.mlpackage")
        return psnr(expected, Evaluator(loaded).run({"x": x.numpy()})["y"])

    return run


def _given(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return [_given(item) for item in value]
    array = np.asarray(value)
    kinds = {"f": np.float32, "i": np.int32, "u": np.int32, "b": np.bool_}
    return torch.tensor(array.astype(kinds[array.dtype.kind]))
