"""Folded modules: what is left in their graphs, what they refuse, how they export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.folding import fold

FRAMES = 150
MADE_FROM_CONSTANTS = ("arange", "floor", "cos", "full", "ones", "zeros", "eye")
NOT_DELEGATED = ("cumsum", "gather", "index", "where", "ge", "gt", "le", "lt", "eq", "sum")


@pytest.fixture(scope="module")
def layer() -> LPA:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(24, 3, aperiodic=2, periodic=2, positional=2, kernel_size=5)).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    layer.hard = True
    return layer.requires_grad_(False)


@pytest.fixture(scope="module")
def dense(layer: LPA) -> torch.nn.Module:
    return fold(layer, form="local_dense_mask", frames=FRAMES).eval()


def _operation(node: torch.fx.Node) -> str:
    """ "add" of aten.add.Tensor."""
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def _inputs(batch: int = 2, frames: int = FRAMES) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.randint(1, frames + 1, (batch, 1))
    return torch.randn(batch, frames, 24), torch.arange(frames) < lengths


@pytest.mark.parametrize(
    "arguments",
    [
        {"form": "prefix_sum", "frames": 10},
        {"form": "local_dense_mask"},
        {"form": "local_dense_mask", "frames": 0},
        {"form": "sparse"},
    ],
)
def test_fold_refuses_a_form_and_frames_that_do_not_fit(
    layer: LPA, arguments: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="expected form="):
        fold(layer, **arguments)  # type: ignore[arg-type]


def test_fixed_length_module_refuses_another_length(dense: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="folded for 150 frames, found 9"):
        dense(torch.zeros(1, 9, 24), torch.ones(1, 9))


def test_folding_leaves_the_layer_as_it_is(layer: LPA) -> None:
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    folded = fold(layer, form="prefix_sum")
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert all(torch.equal(layer.state_dict()[name], tensor) for name, tensor in before.items())


def test_graph_of_the_fixed_length_form_computes_nothing_from_constants(
    dense: torch.nn.Module,
) -> None:
    hidden, valid = _inputs()
    graph = torch.export.export(dense, (hidden, valid.float())).graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    names = {_operation(node) for node in calls}
    assert names.isdisjoint(MADE_FROM_CONSTANTS)
    assert names.isdisjoint(NOT_DELEGATED)
    depends: set[torch.fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in ("hidden", "valid"):
            depends.add(node)
        if node.op == "call_function" and depends.intersection(node.all_input_nodes):
            depends.add(node)
    constant = {_operation(node) for node in calls if node not in depends}
    # Cutting a stored tensor is a view that every exporter folds.
    assert constant <= {"slice", "unsqueeze"}


@pytest.mark.parametrize("form", ["prefix_sum", "local_dense_mask"])
def test_folded_module_holds_no_dead_tensor(layer: LPA, form: str) -> None:
    frames = FRAMES if form == "local_dense_mask" else None
    module = fold(layer, form=form, frames=frames)  # type: ignore[arg-type]
    hidden, valid = _inputs()
    mask = valid.float() if frames else valid
    graph = torch.export.export(module, (hidden, mask)).graph
    dead = [node.name for node in graph.nodes if node.op == "placeholder" and not node.users]
    assert dead == []


@pytest.mark.parametrize("form", ["prefix_sum", "local_dense_mask"])
def test_folded_module_equals_the_hard_layer_in_float32(layer: LPA, form: str) -> None:
    frames = FRAMES if form == "local_dense_mask" else None
    module = fold(layer, form=form, frames=frames)  # type: ignore[arg-type]
    hidden, valid = _inputs(3)
    mask = valid.float() if frames else valid
    found, expected = module(hidden, mask)[valid], layer(hidden, valid)[valid]
    # Sums in float32 round, those of the hard layer are in float64.
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_stored_windows_agree_however_the_layer_is_cast(layer: LPA) -> None:
    double = LPA(layer.config).double()
    double.load_state_dict(layer.state_dict())
    double.hard = True
    single = fold(layer, form="local_dense_mask", frames=FRAMES)
    wide = fold(double, form="local_dense_mask", frames=FRAMES)
    for name in ("teeth_0", "teeth_1", "members_1", "start_steps", "end_steps"):
        assert torch.equal(single.get_buffer(name).double(), wide.get_buffer(name)), name


def test_fixed_length_form_runs_in_onnx_runtime_without_cumsum_or_gather(
    dense: torch.nn.Module, layer: LPA, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    hidden, valid = _inputs()
    program = torch.onnx.export(
        dense,
        (hidden, valid.float()),
        dynamo=True,
        input_names=["hidden", "valid"],
        verbose=False,
    )
    assert program is not None
    operations = {node.op_type for node in program.model.graph}
    assert operations.isdisjoint({"CumSum", "Gather", "GatherND", "Range", "Floor", "Where"})
    program.save(tmp_path / "dense.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "dense.onnx", providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"hidden": hidden.numpy(), "valid": valid.float().numpy()})
    assert np.abs(found - layer(hidden, valid).numpy()).max() < 1e-5
