"""MAC counts by hand, op lists as they are written, partitions as ONNX Runtime cuts them."""

from typing import Any

import numpy as np
import onnx
import pytest
from lpa_validate.checks.onnx_ops import kernels_missing
from lpa_validate.rules.onnx.conditions import CONDITIONS, NOTES
from lpa_validate.rules.onnx.coverage import coverage
from lpa_validate.rules.onnx.graph import Node, concrete_graph, fixed_shapes
from lpa_validate.rules.onnx.macs import macs
from lpa_validate.rules.onnx.partition import partitions
from lpa_validate.rules.onnx.providers import OpRule, Provider, all_providers, op_list
from onnx import TensorProto, helper, numpy_helper


def node(op: str, inputs: list[Any], output: tuple[int, ...] = (), **attributes: Any) -> Node:
    """A node by the shapes of its inputs; a shape in a list is a weight."""
    shapes = [tuple(shape) for shape in inputs]
    return Node(
        op,
        op,
        tuple(f"in{i}" for i in range(len(inputs))),
        ("out",),
        tuple(shapes),
        tuple("float32" for _ in inputs),
        (output,),
        frozenset(i for i, shape in enumerate(inputs) if isinstance(shape, list)),
        tuple("" for _ in inputs),
        attributes,
    )


MAC_CASES = [
    # 16 outputs at 10 places, each over 8 channels and 3 taps.
    (node("ai.onnx:Conv", [(1, 8, 12), [16, 8, 3]], (1, 16, 10)), 16 * 10 * 8 * 3),
    # Depthwise: one channel each.
    (node("ai.onnx:Conv", [(2, 6, 12), [6, 1, 3]], (2, 6, 10)), 2 * 6 * 10 * 3),
    (node("com.microsoft:FusedConv", [(1, 3, 8, 8), [4, 3, 2, 2]], (1, 4, 7, 7)), 4 * 49 * 12),
    (node("ai.onnx:ConvInteger", [(1, 8, 12), [16, 8, 3]], (1, 16, 10)), 16 * 10 * 24),
    (
        node("ai.onnx:QLinearConv", [(1, 8, 12), (), (), [16, 8, 3]], (1, 16, 10)),
        16 * 10 * 24,
    ),
    (node("ai.onnx:ConvTranspose", [(1, 4, 5), [4, 6, 3]], (1, 6, 7)), 4 * 5 * 6 * 3),
    (node("ai.onnx:MatMul", [(2, 7, 5), [5, 3]], (2, 7, 3)), 2 * 7 * 5 * 3),
    (node("ai.onnx:MatMul", [(2, 4, 7, 5), (2, 4, 5, 7)], (2, 4, 7, 7)), 2 * 4 * 7 * 5 * 7),
    (node("ai.onnx:MatMulInteger", [(1, 7, 5), [5, 3]], (1, 7, 3)), 105),
    (node("com.microsoft:DynamicQuantizeMatMul", [(1, 7, 5), [5, 3]], (1, 7, 3)), 105),
    (node("com.microsoft:FusedMatMul", [(1, 5, 7), (1, 5, 3)], (1, 7, 3), transA=1), 105),
    (node("com.microsoft:MatMulNBits", [(1, 7, 64), [8, 2, 16]], (1, 7, 8), K=64), 7 * 8 * 64),
    (node("ai.onnx:Gemm", [(7, 5), [5, 3]], (7, 3)), 105),
    (node("ai.onnx:Gemm", [(5, 7), [3, 5]], (7, 3), transA=1, transB=1), 105),
    (node("ai.onnx:Einsum", [(2, 7, 5), (2, 3, 5)], (2, 7, 3), equation=b"btd,bsd->bts"), 210),
    (node("ai.onnx:Einsum", [(2, 7, 5), (5, 3)], (2, 7, 3), equation="...d,de->...e"), 210),
    (node("ai.onnx:Einsum", [(7, 5)], (5, 7), equation=b"td->dt"), 0),
    (
        node("com.microsoft:Attention", [(1, 10, 6), [6, 18], [18]], (1, 10, 6)),
        10 * 6 * 18 + 2 * 10 * 10 * 6,
    ),
    (
        node("com.microsoft:MultiHeadAttention", [(1, 10, 6), (1, 12, 6), (1, 12, 6)]),
        2 * 10 * 12 * 6,
    ),
    (node("ai.onnx:Attention", [(1, 2, 10, 3), (1, 2, 12, 3), (1, 2, 12, 3)]), 2 * 10 * 12 * 6),
    (node("ai.onnx:Add", [(1, 10, 6), (6,)], (1, 10, 6)), 0),
]


@pytest.mark.parametrize(("case", "count"), MAC_CASES, ids=lambda value: getattr(value, "op", None))
def test_multiply_accumulates_are_those_of_a_hand_count(case: Node, count: int) -> None:
    assert macs(case) == count


def test_shapes_come_from_running_where_inference_would_not_know_them() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("NonZero", ["x"], ["places"]),
            helper.make_node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["w", "floats"], ["y"], name="product"),
        ],
        "computed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    found = concrete_graph(model, {"x": np.array([0, 1, 0, 2, 3], np.float32)})
    product = next(item for item in found.nodes if item.name == "product")
    assert product.input_shapes == ((4, 1), (1, 3))
    assert product.constant == {0}
    assert macs(product) == 4 * 3


def test_fixing_shapes_folds_what_depends_on_them_alone() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Add", ["x", "zeros"], ["y"]),
        ],
        "shapes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    fixed = fixed_shapes(model, {"x": (1, 3)})
    assert not {"Shape", "ConstantOfShape"} & {item.op_type for item in fixed.graph.node}


def test_a_body_may_name_what_it_holds_as_the_graph_around_does() -> None:
    """The runtime's rewrites do: a product and a sum become a Gemm between two Reshapes."""

    def product(read: str, made: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", [read, "weight"], [f"{made}_product"]),
            helper.make_node("Add", [f"{made}_product", "bias"], [made]),
        ]

    def weights(width: int) -> list[onnx.TensorProto]:
        shapes = {"weight": (4, width), "bias": (width,)}
        return [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in shapes.items()]

    def value(name: str, *shape: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or None)

    turn = [*product("piece", "inside"), helper.make_node("Identity", ["carried"], ["kept"])]
    formal = [value("carried", 1), value("piece", 2, 3, 4)]
    body = helper.make_graph(turn, "body", formal, [value("kept"), value("inside")], weights(5))
    scan = helper.make_node("Scan", ["start", "x"], ["end", "z"], body=body, num_scan_inputs=1)
    start = numpy_helper.from_array(np.zeros(1, np.float32), "start")
    graph = helper.make_graph(
        [*product("x", "y"), scan],
        "around",
        [value("x", "turns", 2, 3, 4)],
        [value("y"), value("z")],
        [*weights(7), start],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    fixed = fixed_shapes(model, {"x": (2, 2, 3, 4)})
    found = concrete_graph(fixed, {"x": np.ones((2, 2, 3, 4), np.float32)})
    assert {item.op for item in found.nodes} >= {"ai.onnx:Gemm", "ai.onnx:Scan"}
    assert sum(map(macs, found.nodes)) == 2 * 6 * 4 * 7 + 2 * 6 * 4 * 5


LIST = """
|Operator|Note|
|--------|------|
|ai.onnx:Conv|Only 1D/2D Conv is supported.<br/>Bias if provided must be constant.|
|ai.onnx.ReduceSum||
|ai.onnx:Argmax||
|ai.onnx:Tile|Something that nobody can check.|
"""


def test_an_op_list_is_read_with_its_notes_as_conditions() -> None:
    found = op_list(LIST)
    assert found == {
        "ai.onnx:conv": OpRule(("conv_1d_2d", "constant_bias")),
        "ai.onnx:reducesum": OpRule(),
        "ai.onnx:argmax": OpRule(),
        "ai.onnx:tile": OpRule((), ("Something that nobody can check.",)),
    }


def test_the_lists_in_the_installed_runtime_are_read_whole() -> None:
    providers = {provider.name: provider for provider in all_providers()}
    assert set(providers) == {
        "CoreML NeuralNetwork",
        "CoreML MLProgram",
        "NNAPI",
        "XNNPACK",
        "QNN",
    }
    for provider in providers.values():
        assert len(provider.ops) >= 12
        assert provider.source
        assert provider.rule(node("ai.onnx:Conv", [])) is not None
        assert all(name in CONDITIONS for rule in provider.ops.values() for name in rule.conditions)
    # The bundled lists have no cumulative sum but QNN's; the road to phones turns on it.
    takes_cumsum = [n for n, p in providers.items() if p.rule(node("ai.onnx:CumSum", []))]
    assert takes_cumsum == ["QNN"]


def test_every_note_maps_to_conditions_that_exist() -> None:
    assert {name for names in NOTES.values() for name in names} <= set(CONDITIONS)


def provider_of(**ops: str) -> Provider:
    rules = {f"ai.onnx:{op.lower()}": OpRule(tuple(filter(None, [c]))) for op, c in ops.items()}
    return Provider("P", "a list", rules, "accepted", "", 4)


REFUSALS = [
    (node("ai.onnx:Tanh", [(1, 2)]), "not in the op list"),
    (node("ai.onnx:Conv", [(1, 2, 9), [4, 2, 3]]), "weight of rank 3"),
    (node("ai.onnx:Conv", [(1, 2, 9, 9), [4, 2, 3, 3]]), ""),
    (node("ai.onnx:MatMul", [(1, 9, 4), [4, 4]]), ""),
    (node("ai.onnx:MatMul", [(2, 3, 9, 4), [4, 4]]), "operands of rank 4 and 2"),
    (node("ai.onnx:MatMul", [(1, 9, 4), (4, 4)]), "operand B not constant"),
    (node("ai.onnx:Transpose", [(1, 2, 3, 4, 5)]), "rank 5, at most 4"),
    (node("ai.onnx:Softmax", [(1, 2, 3)], axis=1), "axis 1 of rank 3"),
    (node("ai.onnx:Softmax", [(1, 2, 3)], axis=2), ""),
]


@pytest.mark.parametrize(("case", "reason"), REFUSALS)
def test_a_node_is_refused_for_the_reason_that_applies(case: Node, reason: str) -> None:
    provider = provider_of(
        Conv="conv_2d", MatMul="xnnpack_matmul", Transpose="", Softmax="last_axis"
    )
    assert provider.refusal(case) == reason


def test_coverage_counts_nodes_macs_partitions_and_what_breaks_them() -> None:
    product = node("ai.onnx:MatMul", [(1, 9, 4), [4, 4]], (1, 9, 4))
    nodes = [
        Node("a", "ai.onnx:Relu", ("x",), ("in0",), ((1, 9, 4),), ("float32",)),
        product,
        Node("b", "ai.onnx:CumSum", ("out",), ("sums",), ((1, 9, 4),), ("float32",)),
        Node("c", "ai.onnx:Relu", ("sums",), ("y",), ((1, 9, 4),), ("float32",)),
    ]
    found = coverage(nodes, provider_of(Relu="", MatMul=""))
    assert (found.node_share, found.mac_share) == (75.0, 100.0)
    assert (found.partitions, found.longest_nodes, found.longest_mac_share) == (2, 2, 100.0)
    assert [(b.op, b.nodes, b.reason) for b in found.breakers] == [
        ("ai.onnx:CumSum", 1, "not in the op list")
    ]


def test_an_unsupported_side_branch_need_not_cut_the_graph() -> None:
    # x -> A -> C and x -> B(unsupported) -> D: A and C stay one piece.
    nodes = [
        Node("A", "ai.onnx:Relu", ("x",), ("a",)),
        Node("B", "ai.onnx:CumSum", ("x",), ("b",)),
        Node("C", "ai.onnx:Relu", ("a",), ("c",)),
    ]
    assert partitions(nodes, [True, False, True]) == [[0, 2]]


@pytest.mark.parametrize("seed", range(12))
def test_partitions_are_as_many_as_the_runtimes_own_checker_counts(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.tools.mobile_helpers import usability_checker

    # The checker makes protobuf nodes hashable for the whole process; keep that to this test.
    monkeypatch.setattr(onnx.NodeProto, "__hash__", onnx.NodeProto.__hash__)
    generator = np.random.default_rng(seed)
    made = []
    for index in range(30):
        op = generator.choice(["Relu", "Add", "CumSum"], p=[0.5, 0.3, 0.2])
        count = 2 if op == "Add" else 1
        sources = [f"t{generator.integers(max(0, index - 6), index + 1)}" for _ in range(count)]
        inputs = [*sources, "axis"] if op == "CumSum" else sources
        made.append(helper.make_node(op, inputs, [f"t{index + 1}"], name=f"n{index}"))
    graph = helper.make_graph(
        made,
        "random",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("t30", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(1), "axis")],
    )

    class Checker:
        def is_op_supported(self, item: onnx.NodeProto) -> bool:
            return item.op_type != "CumSum"

    expected = usability_checker.check_partitioning(graph, Checker(), False)
    nodes = [Node(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in made]
    found = partitions(nodes, [item.op_type != "CumSum" for item in made])
    assert len(found) == expected.num_partitions
    assert sorted(map(len, found)) == sorted(map(len, expected.supported_groups))


def _scan(body: list[onnx.NodeProto]) -> onnx.ModelProto:
    """x (1, 8) added to itself, then three turns of `body`: y -> z, reading `sum` around it."""
    places: Any = ("first", TensorProto.INT64, [])
    graph = helper.make_graph(
        body,
        "turn",
        [helper.make_tensor_value_info(*places)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((8, 5), np.float32), "inner")],
    )
    whole = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["sum"]),
            helper.make_node("Scan", ["starts"], ["all"], "scan", body=graph, num_scan_inputs=1),
            helper.make_node("MatMul", ["x", "outer"], ["y"]),
        ],
        "whole",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [
            helper.make_tensor_value_info("all", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
        [
            numpy_helper.from_array(np.arange(3), "starts"),
            numpy_helper.from_array(np.ones((8, 2), np.float32), "outer"),
        ],
    )
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_the_work_of_a_loop_is_that_of_all_its_turns() -> None:
    model = _scan(
        [
            helper.make_node("MatMul", ["sum", "inner"], ["wide"]),
            helper.make_node("MatMul", ["sum", "outer"], ["narrow"]),
            helper.make_node("Concat", ["wide", "narrow"], ["z"], axis=1),
        ]
    )
    graph = concrete_graph(model, {"x": np.ones((1, 8), np.float32)})
    (loop,) = (node for node in graph.nodes if node.body)
    assert (loop.op, loop.turns, loop.output_shapes) == ("ai.onnx:Scan", 3, ((3, 1, 7),))
    assert [node.op for node in loop.body] == ["ai.onnx:MatMul", "ai.onnx:MatMul", "ai.onnx:Concat"]
    assert loop.body[0].constant == {1}
    assert macs(loop) == 3 * (8 * 5 + 8 * 2)
    assert sum(map(macs, graph.nodes)) == macs(loop) + 8 * 2


def test_what_is_in_a_loop_needs_kernels_too() -> None:
    model = _scan([helper.make_node("Wobble", ["sum"], ["z"])])
    assert kernels_missing(model) == ["no CPU kernel for ai.onnx:Wobble at opset 20 (1 nodes)"]


def test_constants_and_functions_need_no_kernel_of_their_own() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value_float=1.0),
            helper.make_node("Mish", ["x"], ["m"]),
            helper.make_node("Add", ["m", "c"], ["y"]),
        ],
        "functions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert kernels_missing(model) == []
    model.graph.node.append(helper.make_node("Wobble", ["y"], ["z"]))
    assert kernels_missing(model) == ["no CPU kernel for ai.onnx:Wobble at opset 18 (1 nodes)"]
