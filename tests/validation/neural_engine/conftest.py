"""Tiny Core ML programs, built with coremltools' own builder."""

from collections.abc import Callable
from typing import Any

import coremltools as ct
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from lpa_validate.rules.neural_engine import Graph, read_graph

Build = Callable[..., Any]
GraphOf = Callable[..., Graph]


@pytest.fixture(scope="session")
def function_of() -> Callable[..., Any]:
    """``function_of(build, *shapes, dtype)``: the function that ``build(x)`` or (x, y) writes."""

    def made(build: Build, *shapes: tuple[Any, ...], dtype: Any = types.fp16) -> Any:
        specs = [mb.TensorSpec(shape=shape, dtype=dtype) for shape in shapes]
        decorate = mb.program(input_specs=specs, opset_version=ct.target.iOS18)
        if len(shapes) == 1:
            return decorate(lambda x: build(x)).functions["main"]
        return decorate(lambda x, y: build(x, y)).functions["main"]

    return made


@pytest.fixture(scope="session")
def graph_of(function_of: Callable[..., Any]) -> GraphOf:
    """As ``function_of``, read; keywords other than ``dtype`` go to ``read_graph``."""

    def made(
        build: Build, *shapes: tuple[Any, ...], dtype: Any = types.fp16, **facts: Any
    ) -> Graph:
        return read_graph(function_of(build, *shapes, dtype=dtype), **facts)

    return made
