"""What the target accepts, refuses and writes."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lpa_export.environment import quiet
from lpa_export.errors import LpaError
from lpa_export.formats.schemes import scheme_named
from lpa_export.targets import target_named
from lpa_export.targets.executorch.backends import known_backends, load_backend
from lpa_export.targets.executorch.lower import lower, trace
from lpa_export.targets.executorch.settings import ExecutorchSettings
from lpa_export.targets.executorch.target import ExecutorchTarget

Make = Callable[..., Any]
FP32 = scheme_named("fp32")


def test_the_registry_gives_the_target() -> None:
    spec = target_named("executorch")
    assert isinstance(spec.load(), ExecutorchTarget)
    assert spec.schemes[0].name == "fp32"


@pytest.mark.parametrize("name", known_backends())
def test_every_backend_has_its_row(name: str) -> None:
    backend = load_backend(name)
    assert backend.name == name
    assert backend.install or backend.runs_here


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LpaError, match=r"unknown ExecuTorch backend 'ethos'.*xnnpack, portable"):
        load_backend("ethos")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qualcomm", "QNN_SDK_ROOT is not set; install Qualcomm's QNN SDK"),
        ("mediatek", "'mtk_converter' is missing; install mtk_converter"),
        ("mlx", "'executorch.backends.mlx.partitioner' is missing; build executorch"),
    ],
)
def test_a_backend_whose_compiler_is_not_here_says_what_to_install(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with pytest.raises(LpaError, match=message):
        ExecutorchTarget().check(make_checkpoint(), ExecutorchSettings(backend=name), FP32)


def test_a_missing_executorch_is_one_line_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(name: str, package: str | None = None) -> Any:
        return None if name == "executorch" else importlib.util.find_spec(name, package)

    monkeypatch.setattr("lpa_export.targets.find_spec", gone)
    missing = target_named("executorch").missing
    assert "lpa-export[executorch]" in str(missing() if callable(missing) else missing)


def test_prefix_sums_are_refused_where_lengths_are_fixed(make_checkpoint: Make) -> None:
    settings = ExecutorchSettings(backend="coreml", lowering="prefix_sum")
    with pytest.raises(LpaError, match="coreml takes fixed lengths"):
        ExecutorchTarget().check(make_checkpoint(), settings, FP32)


def test_a_precision_that_a_backend_lacks_is_refused(make_checkpoint: Make) -> None:
    settings = ExecutorchSettings(backend="coreml")
    with pytest.raises(LpaError, match="int8 is there for backend xnnpack"):
        ExecutorchTarget().check(make_checkpoint(), settings, scheme_named("int8"))


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(exported: Make, job: Make, tmp_path: Path) -> None:
    first = exported("portable")
    request = job(first.checkpoint, backend="portable", buckets=(12.0,))
    ExecutorchTarget().write(request, tmp_path)
    for file in ("model.pte", "model.bpte", "delegation.json"):
        assert (tmp_path / file).read_bytes() == (first.folder / file).read_bytes(), file


def test_silence_leaves_logging_as_it_was() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), logging.root.manager.disable)
    with quiet():
        logging.basicConfig(force=False)
        root.addHandler(logging.NullHandler())
    assert (list(root.handlers), logging.root.manager.disable) == before


def test_the_code_of_a_graph_is_written_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    modules: Any = torch.fx.GraphModule
    write = modules.recompile

    def counting(module: Any) -> Any:
        written.append(module)
        return write(module)

    monkeypatch.setattr(modules, "recompile", counting)
    traced = trace(torch.nn.Linear(4, 4), (torch.ones(1, 4),), None)
    written.clear()
    lowered = lower({"forward": traced}, load_backend("xnnpack"), {})
    assert lowered.subgraphs == {"XnnpackBackend": 1}
    assert len(written) <= 30  # of some 500 changes
    assert modules.recompile is counting
