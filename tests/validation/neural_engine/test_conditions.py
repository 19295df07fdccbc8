"""Every rule with a program that meets it and one that does not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol, types
from lpa_validate.rules.neural_engine import Graph, examine, read_graph
from lpa_validate.rules.neural_engine.conditions.convolution import channels_not_divisible
from lpa_validate.rules.neural_engine.conditions.kinds import axis_not_constant
from lpa_validate.rules.neural_engine.graph import Op, Value
from lpa_validate.rules.neural_engine.rules import (
    FUNCTION_CONDITIONS,
    MANY_ISLANDS,
    OP_CONDITIONS,
    all_rules,
    sources,
)

Build = Callable[..., Any]
BC1S = (1, 64, 1, 64)


def half(*values: float) -> Any:
    """An fp16 literal: a scalar, or a vector of the values."""
    return np.float16(values[0]) if len(values) == 1 else np.array(values, np.float16)


def weight(*shape: int) -> Any:
    return np.full(shape, 0.5, np.float16)


def conv(x: Any, *shape: int, **options: Any) -> Any:
    return mb.conv(x=x, weight=weight(*shape), pad_type="same", **options)


def palettized_conv(x: Any, stride: int) -> Any:
    packed = mb.constexpr_lut_to_dense(
        indices=np.zeros((64, 64, 1, 1), types.nptype_from_builtin(types.uint4)),
        lut=np.zeros((1, 1, 1, 1, 16, 1), np.float16),
    )
    return mb.conv(x=x, weight=packed, strides=[1, stride])


def plain_norm(x: Any) -> Any:
    return mb.layer_norm(x=x, axes=[1], epsilon=half(1e-4))


def norm_in_pieces(x: Any) -> Any:
    centred = mb.sub(x=x, y=mb.reduce_mean(x=x, axes=[1], keep_dims=True))
    variance = mb.reduce_mean(x=mb.mul(x=centred, y=centred), axes=[1], keep_dims=True)
    return mb.mul(x=centred, y=mb.rsqrt(x=mb.add(x=variance, y=half(1e-4))))


def attention(x: Any, mask: Any = None) -> Any:
    given = {} if mask is None else {"attn_mask": mask}
    return mb.scaled_dot_product_attention(query=x, key=x, value=x, **given)


def inside(x: Any, op: Callable[[Any], Any]) -> Any:
    """``op`` away from the border of the function."""
    return mb.relu(x=op(mb.relu(x=x)))


def relu(x: Any) -> Any:
    return mb.relu(x=x)


def resampled(x: Any) -> Any:
    return mb.resample(
        x=x,
        coordinates=np.zeros((1, 4, 4, 2), np.float32),
        sampling_mode="nearest",
        padding_mode="border",
        padding_value=half(0),
        coordinates_mode="unnormalized",
        align_corners=True,
    )


def looked_up(x: Any, rows: int) -> Any:
    return mb.gather(x=weight(rows, 1), indices=mb.cast(x=x, dtype="uint16"), axis=0)


def quantized(x: Any) -> Any:
    whole = mb.quantize(input=x, scale=half(1), output_dtype="int8")
    return conv(mb.dequantize(input=whole, scale=half(1)), 64, 64, 1, 1)


def with_scales(x: Any, kind: Any) -> Any:
    packed = mb.constexpr_blockwise_shift_scale(
        data=np.zeros((64, 64, 1, 1), types.nptype_from_builtin(kind)),
        scale=np.ones((64, 1, 1, 1), np.float16),
    )
    return mb.conv(x=x, weight=packed)


CAUSAL = np.triu(np.full((8, 8), -1e4, np.float16), 1)


@dataclass(frozen=True)
class Case:
    """``meets`` and ``not_met`` build on inputs of ``shape``."""

    rule: str
    meets: Build
    not_met: Build
    shape: tuple[Any, ...] = BC1S
    dtype: Any = types.fp16
    facts: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "layout.bc1s",
        lambda x: mb.linear(x=x, weight=weight(512, 512)),
        lambda x: mb.linear(x=x, weight=weight(4, 512)),
        (1, 64, 512),
    ),
    Case(
        "layout.bc1s",
        lambda x: mb.matmul(x=mb.squeeze(x=x, axes=[0]), y=weight(512, 512)),
        lambda x: mb.matmul(x=x, y=weight(1, 1, 512, 512)),
        (1, 1, 64, 512),
    ),
    Case(
        "layout.transposes",
        lambda x: inside(x, lambda v: mb.transpose(x=v, perm=[0, 3, 2, 1])),
        lambda x: inside(x, lambda v: mb.transpose(x=v, perm=[0, 2, 1, 3])),
    ),
    Case(
        "layout.transposes",
        lambda x: inside(x, lambda v: mb.reshape(x=v, shape=[1, 64, 8, 8])),
        lambda x: inside(x, lambda v: mb.reshape(x=v, shape=[1, 8, 8, 64])),
    ),
    Case(
        "layout.transposes",
        lambda x: inside(x, lambda v: mb.transpose(x=v, perm=[0, 3, 2, 1])),
        lambda x: mb.relu(x=mb.transpose(x=x, perm=[0, 3, 2, 1])),
    ),
    Case(
        "dtype.fp32",
        lambda x: mb.exp(x=mb.cast(x=x, dtype="fp32")),
        lambda x: mb.cast(x=mb.exp(x=x), dtype="fp32"),
    ),
    Case(
        "dtype.fp32",
        lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp16"),
        lambda x: mb.reduce_argmax(x=x, axis=1),
    ),
    Case(
        "dtype.fp32_literal",
        lambda x: mb.softmax(x=mb.cast(x=x, dtype="fp32")),
        lambda x: mb.cast(x=mb.softmax(x=x), dtype="fp32"),
    ),
    Case(
        "dtype.fp32_literal",
        lambda x: mb.add(x=x, y=np.float32(1)),
        lambda x: mb.relu(x=x),
        dtype=types.fp32,
    ),
    Case("op.none", lambda x: mb.mod(x=x, y=half(2)), lambda x: mb.mul(x=x, y=half(2))),
    Case("op.none", lambda x: mb.reduce_prod(x=x, axes=[1]), lambda x: mb.reduce_sum(x=x)),
    Case("op.none", lambda x: mb.tan(x=x), lambda x: mb.atan(x=x)),
    Case("op.none", lambda x: mb.non_zero(x=x), lambda x: mb.sign(x=x)),
    Case(
        "op.none",
        lambda x: mb.logical_and(x=mb.greater(x=x, y=half(0)), y=mb.less(x=x, y=half(1))),
        lambda x: mb.logical_not(x=mb.greater(x=x, y=half(0))),
    ),
    Case(
        "op.none",
        lambda x: mb.band_part(x=x, lower=1, upper=1),
        lambda x: mb.identity(x=x),
    ),
    Case("op.none", lambda x: mb.sliding_windows(x=x, axis=3, size=4), lambda x: mb.relu(x=x)),
    Case("op.cumsum", lambda x: mb.cumsum(x=x, axis=3), lambda x: mb.matmul(x=x, y=weight(64, 64))),
    Case(
        "op.gather",
        lambda x: mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=3),
        lambda x: mb.slice_by_index(x=x, begin=[0, 0, 0, 0], end=[1, 64, 1, 2]),
    ),
    Case("op.topk", lambda x: mb.topk(x=x, k=2, axis=1)[0], lambda x: mb.reduce_max(x=x)),
    Case("op.topk", lambda x: mb.argsort(x=x, axis=1), lambda x: mb.reduce_max(x=x)),
    Case("op.trig", lambda x: mb.sin(x=x), lambda x: mb.atan(x=x)),
    Case("op.argreduce", lambda x: mb.reduce_argmax(x=x), lambda x: mb.reduce_max(x=x)),
    Case("op.argreduce", lambda x: mb.reduce_argmin(x=x), lambda x: mb.reduce_min(x=x)),
    Case("op.identity", lambda x: mb.identity(x=x), relu),
    Case("op.none", lambda x: mb.random_uniform(shape=[1], low=half(0), high=half(1)), relu),
    Case("op.resample", resampled, relu, (1, 4, 8, 8)),
    Case(
        "op.gather_constant",
        lambda x: mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=3),
        lambda x: mb.gather(x=x, indices=mb.cast(x=x, dtype="uint16"), axis=3),
        (1, 1, 1, 8),
    ),
    Case("op.gather_rows", lambda x: looked_up(x, 32_769), lambda x: looked_up(x, 32_768)),
    Case(
        "op.slice_update",
        lambda x: mb.slice_update(x=x, update=mb.relu(x=x), begin=[0] * 4, end=list(BC1S)),
        relu,
    ),
    Case(
        "op.square_product",
        lambda x: mb.matmul(x=x, y=x),
        lambda x: mb.matmul(x=x, y=x, transpose_y=True),
        (1, 1, 8, 8),
    ),
    Case(
        "op.square_product",
        lambda x: mb.matmul(x=x, y=x),
        lambda x: mb.matmul(x=x, y=mb.relu(x=x)),
        (1, 1, 8, 8),
    ),
    Case("op.quantize", quantized, lambda x: conv(x, 64, 64, 1, 1)),
    Case(
        "conv.transposed",
        lambda x: mb.conv_transpose(x=x, weight=weight(64, 64, 8, 1), strides=[4, 1]),
        lambda x: mb.conv_transpose(x=x, weight=weight(64, 64, 8, 1), strides=[4, 4]),
    ),
    Case(
        "conv.transposed",
        lambda x: mb.conv_transpose(x=x, weight=weight(64, 64, 8, 1), strides=[4, 1]),
        lambda x: mb.conv_transpose(
            x=mb.squeeze(x=x, axes=[2]), weight=weight(64, 64, 8), strides=[4]
        ),
    ),
    Case("quant.int4", lambda x: with_scales(x, types.int4), lambda x: with_scales(x, types.int8)),
    Case("quant.int4", lambda x: with_scales(x, types.int4), lambda x: palettized_conv(x, 1)),
    Case(
        "shape.rank_batch",
        lambda x: mb.reshape(x=x, shape=[2, 4, 4, 2, 64]),
        lambda x: mb.reshape(x=x, shape=[1, 2, 32, 1, 64]),
    ),
    Case("conv.kernel_w", lambda x: conv(x, 64, 64, 1, 14), lambda x: conv(x, 64, 64, 14, 13)),
    Case(
        "conv.stride",
        lambda x: conv(x, 64, 64, 1, 1, strides=[1, 5]),
        lambda x: conv(x, 64, 64, 1, 1, strides=[4, 6]),
    ),
    Case(
        "conv.dilation",
        lambda x: conv(x, 64, 64, 1, 3, dilations=[1, 7]),
        lambda x: conv(x, 64, 64, 1, 3, dilations=[1, 9]),
    ),
    Case(
        "conv.groups",
        lambda x: conv(x, 48, 4, 1, 1, groups=12),
        lambda x: conv(x, 48, 1, 1, 1, groups=48),
        (1, 48, 1, 64),
    ),
    Case(
        "pool",
        lambda x: mb.max_pool(x=x, kernel_sizes=[1, 2], strides=[2, 3], pad_type="same"),
        lambda x: mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 4], pad_type="same"),
    ),
    Case(
        "pool",
        lambda x: mb.avg_pool(x=x, kernel_sizes=[1, 14], strides=[2, 2], pad_type="same"),
        lambda x: mb.avg_pool(x=x, kernel_sizes=[1, 13], strides=[2, 2], pad_type="same"),
    ),
    Case("norm.decomposed", norm_in_pieces, plain_norm),
    Case(
        "norm.decomposed",
        lambda x: mb.sqrt(x=mb.reduce_mean(x=mb.square(x=x), axes=[1])),
        lambda x: mb.reduce_mean(x=mb.square(x=x), axes=[1]),
    ),
    Case(
        "reduce.long",
        lambda x: mb.reduce_sum(x=x, axes=[1]),
        lambda x: mb.reduce_sum(x=x, axes=[-1]),
        (1, 192, 1, 191),
    ),
    Case("attn.mask_ignored", lambda x: attention(x, CAUSAL), attention, (1, 1, 8, 8)),
    Case(
        "attn.mask_ignored",
        lambda x: attention(x, mb.cast(x=x, dtype="fp16")),
        lambda x: attention(x, mb.mul(x=x, y=half(2))),
        (1, 1, 8, 8),
    ),
    Case("attn.sdpa", attention, lambda x: mb.relu(x=x), (1, 1, 2049, 8)),
    Case("attn.sdpa", lambda x: attention(x, CAUSAL), attention, (1, 1, 8, 8)),
    Case(
        "attn.sdpa",
        lambda x: attention(x, mb.mul(x=x, y=half(2))),
        lambda x: attention(x, np.zeros((8, 8), np.float16)),
        (1, 1, 8, 8),
    ),
    Case(
        "attn.mask_inf",
        lambda x: mb.add(x=x, y=half(-np.inf)),
        lambda x: mb.add(x=x, y=half(-40000)),
    ),
    Case(
        "attn.mask_inf",
        lambda x: mb.select(cond=mb.less(x=x, y=np.float32(0)), a=x, b=np.finfo(np.float32).min),
        lambda x: mb.select(cond=mb.less(x=x, y=np.float32(0)), a=x, b=np.float32(-1e4)),
        dtype=types.fp32,
    ),
    Case(
        "num.range",
        lambda x: mb.mul(x=x, y=np.float32(70000)),
        lambda x: mb.mul(x=x, y=np.float32(65000)),
        dtype=types.fp32,
    ),
    Case(
        "num.range",
        lambda x: mb.matmul(x=x, y=weight(64, 64), name="big"),
        lambda x: mb.relu(x=x, name="big"),
        facts={"activations": {"big": 40000.0}},
    ),
    Case(
        "num.range",
        lambda x: mb.slice_by_index(x=x, begin=[0, 0, 0, 1], end=[1, 64, 1, 9], name="cut"),
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, 0, 0], end=[1, 64, 1, 9], name="cut"),
        facts={"activations": {"cut": 5000.0}},
    ),
    Case(
        "num.range",
        lambda x: mb.square(x=x, name="huge"),
        lambda x: mb.relu(x=x),
        facts={"activations": {"huge": float("inf")}},
    ),
    Case(
        "num.underflow",
        lambda x: mb.layer_norm(x=x, axes=[1], epsilon=half(1e-6)),
        lambda x: mb.layer_norm(x=x, axes=[1], epsilon=half(1e-5)),
    ),
    Case("num.underflow", lambda x: mb.mul(x=x, y=half(2e-5)), lambda x: mb.mul(x=x, y=half(1e-3))),
    Case("num.lut", lambda x: mb.sigmoid(x=x), lambda x: mb.relu(x=x)),
    Case("num.lut", lambda x: mb.gelu(x=x, mode="EXACT"), lambda x: mb.abs(x=x)),
    Case("num.nan", lambda x: mb.add(x=x, y=half(np.nan)), lambda x: mb.add(x=x, y=half(0.0))),
    Case("num.nan", lambda x: mb.minimum(x=x, y=half(np.inf)), lambda x: mb.relu(x=x)),
    Case("quant.fmt", lambda x: palettized_conv(x, 1), lambda x: conv(x, 64, 64, 1, 1)),
    Case("quant.stride", lambda x: palettized_conv(x, 3), lambda x: palettized_conv(x, 2)),
    Case(
        "pad.channels",
        lambda x: mb.pad(x=x, pad=[0, 0, 0, 3, 0, 0, 1, 1]),
        lambda x: mb.pad(x=x, pad=[0, 0, 1, 1]),
    ),
]


def met(graph: Graph) -> set[str]:
    return {found.rule.id for found in examine(graph).findings}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_is_met_by_the_program_that_breaks_it_and_by_no_other(
    case: Case, graph_of: Callable[..., Graph]
) -> None:
    facts = {"dtype": case.dtype, **case.facts}
    assert case.rule in met(graph_of(case.meets, case.shape, **facts))
    assert case.rule not in met(graph_of(case.not_met, case.shape, **facts))


INPUTS = [
    ("shape.extent", (1, 1, 1, 16_385), (1, 16_385, 1, 16_384)),
    ("shape.extent", (1, 1, 16_385, 1), (1, 1, 16_384, 1)),
    ("shape.extent", (1, 65_537, 1, 1), (1, 65_536, 1, 1)),
    ("shape.extent", (1, 20_000), (1, 20_000, 4)),
    ("shape.dynamic", (1, 4, 1, get_new_symbol()), (1, 4, 1, 64)),
    ("shape.tiny", (1, 4, 1, 71), (1, 4, 1, 72)),
    ("layout.last_axis", (1, 4, 1, 33), (1, 4, 1, 32)),
    ("layout.last_axis", (1, 64, 1, 1), (1, 1, 1, 64)),
    ("io.strides", (2, 32), (32,)),
]


@pytest.mark.parametrize(("rule", "meets", "not_met"), INPUTS)
def test_a_rule_on_shapes_is_met_by_the_input_beyond_its_limit_alone(
    rule: str, meets: Any, not_met: Any, graph_of: Callable[..., Graph]
) -> None:
    assert rule in met(graph_of(relu, meets))
    assert rule not in met(graph_of(relu, not_met))


def test_a_list_of_shapes_is_told_from_a_range_when_the_package_says_so(
    graph_of: Callable[..., Graph],
) -> None:
    shape = (1, 4, 1, get_new_symbol())
    found = met(graph_of(relu, shape, flexible={"x": "enumerated"}))
    assert "shape.enumerated" in found
    assert "shape.dynamic" not in found
    assert "shape.enumerated" not in met(graph_of(relu, shape, flexible={"x": "range"}))


def test_the_size_of_the_package_is_judged_where_it_is_known(
    graph_of: Callable[..., Graph],
) -> None:
    assert "size.ios" in met(graph_of(relu, BC1S, size=2**31))
    assert "size.ios" not in met(graph_of(relu, BC1S, size=2**31 - 1))
    assert "size.ios" not in met(graph_of(relu, BC1S, size=2**33, largest_file=2**31 - 1))
    assert "size.ios" in met(graph_of(relu, BC1S, size=2**33, largest_file=2**31))
    assert "shape.tiny" in met(graph_of(relu, (1, 4, 1, 128), size=49_000_000))
    assert "shape.tiny" not in met(graph_of(relu, (1, 4, 1, 128), size=50_000_000))
    assert "shape.tiny" not in met(graph_of(relu, (1, 4, 1, 128)))


WIDE = [
    (lambda x: mb.add(x=x, y=x), (1, 67_072), True),
    (lambda x: mb.mul(x=x, y=mb.relu(x=x)), (1, 67_073), False),
    (lambda x: mb.mul(x=x, y=half(2)), (1, 16_385), False),
    (lambda x: mb.silu(x=x), (1, 16_385), False),
    (lambda x: mb.reshape(x=x, shape=[1, 1, 10, -1]), (1, 160_000), True),
    (lambda x: mb.linear(x=x, weight=weight(17_408, 8)), (1, 8), True),
    (lambda x: mb.linear(x=x, weight=weight(16_385, 8)), (1024, 8), False),
    (lambda x: mb.linear(x=x, weight=weight(16_384, 8)), (1024, 8), True),
    (lambda x: mb.linear(x=x, weight=weight(8, 16_385)), (1, 16_385), False),
    (lambda x: mb.matmul(x=x, y=weight(8, 4), transpose_x=True), (8, 16_385), False),
    (lambda x: mb.matmul(x=x, y=weight(16_385, 4), transpose_x=True), (16_385, 8), False),
]


@pytest.mark.parametrize(("build", "shape", "stays"), WIDE)
def test_how_wide_an_operation_may_be_depends_on_what_it_does(
    build: Build, shape: tuple[int, ...], stays: bool, graph_of: Callable[..., Graph]
) -> None:
    (*_, judged) = examine(graph_of(build, shape)).verdicts
    assert ("shape.extent" not in judged.rules) == stays


def test_a_chip_that_is_known_makes_its_risks_fatal(graph_of: Callable[..., Graph]) -> None:
    def picked(x: Any) -> Any:
        return mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=3)

    for engine, on_engine in (("M1", False), ("M4", True), (None, True)):
        found = examine(graph_of(picked, BC1S, engine=engine))
        assert [verdict.on_engine for verdict in found.verdicts] == [on_engine]
        item = found.finding("op.gather_constant")
        assert item is not None and item.rule.severity == ("risk" if on_engine else "fatal")


@pytest.mark.parametrize("early", [True, False])
def test_an_update_stays_between_a_state_read_and_the_same_written(early: bool) -> None:
    specs = [mb.StateTensorSpec(BC1S, types.fp16), mb.TensorSpec((1, 64, 1, 1), types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def with_state(kept: Any, x: Any) -> Any:
        changed = mb.slice_update(
            x=mb.read_state(input=kept), update=x, begin=[0] * 4, end=[1, 64, 1, 1]
        )
        used = mb.relu(x=changed) if early else x
        return used, mb.relu(x=mb.coreml_update_state(state=kept, value=changed))

    found = examine(read_graph(with_state.functions["main"]))
    assert (found.finding("op.slice_update") is None) != early


def test_a_program_of_thousands_of_operations_leaves_whole(
    graph_of: Callable[..., Graph],
) -> None:
    def chain(x: Any, count: int) -> Any:
        for _ in range(count):
            x = mb.relu(x=x)
        return x

    found = examine(graph_of(lambda x: chain(x, 3001), (1, 64)))
    assert found.finding("size.ops") is not None and found.free_of_fatal.ops == 0
    assert examine(graph_of(lambda x: chain(x, 3000), (1, 64))).finding("size.ops") is None


def test_a_state_is_a_risk() -> None:
    specs = [mb.TensorSpec(BC1S, types.fp16), mb.StateTensorSpec(BC1S, types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def with_state(x: Any, kept: Any) -> Any:
        return mb.add(x=x, y=mb.read_state(input=kept))

    assert "state" in met(read_graph(with_state.functions["main"]))


def test_many_islands_are_reported_and_one_is_not(graph_of: Callable[..., Graph]) -> None:
    def islands(x: Any, count: int) -> Any:
        for _ in range(count):
            x = mb.relu(x=mb.mod(x=mb.relu(x=x), y=half(2)))
        return x

    assert MANY_ISLANDS in met(graph_of(lambda x: islands(x, 2), BC1S))
    assert MANY_ISLANDS not in met(graph_of(lambda x: islands(x, 1), BC1S))


# What the builder itself refuses to write, as an operation made by hand.


def value(name: str, *shape: int, holds: Any = None) -> Value:
    return Value(name, shape, "fp16", None if holds is None else np.array(holds))


def alone(op: Op) -> Graph:
    return Graph("main", (op,), (), op.outputs)


def test_tensors_of_rank_six_are_fatal() -> None:
    six, five = ((value("x", *[2] * rank),) for rank in (6, 5))
    op = Op("relu", "relu", {"x": six}, (value("y", 2),))
    assert OP_CONDITIONS["shape.rank"](op, alone(op)) == "rank 6"
    op = Op("relu", "relu", {"x": five}, (value("y", 2),))
    assert not OP_CONDITIONS["shape.rank"](op, alone(op))


def test_channels_must_divide_into_the_groups() -> None:
    def grouped(channels: int) -> Op:
        inputs = {"x": (value("x", 1, channels, 1, 8),), "groups": (value("groups", holds=4),)}
        return Op("conv", "conv", inputs, (value("y", 1, 8, 1, 8),))

    assert channels_not_divisible(grouped(10), alone(grouped(10))) == "10 channels in 4 groups"
    assert not channels_not_divisible(grouped(12), alone(grouped(12)))


def test_the_axis_of_a_concat_must_be_stated() -> None:
    def joined(axis: Value) -> Op:
        parts = (value("a", 1, 4), value("b", 1, 4))
        return Op("concat", "concat", {"values": parts, "axis": (axis,)}, (value("y", 2, 4),))

    computed, stated = joined(value("axis")), joined(value("axis", holds=1))
    assert axis_not_constant(computed, alone(computed))
    assert not axis_not_constant(stated, alone(stated))


def test_the_table_and_the_conditions_name_the_same_rules() -> None:
    rules = all_rules()
    assert set(rules) == {*OP_CONDITIONS, *FUNCTION_CONDITIONS, MANY_ISLANDS}
    for rule in rules.values():
        assert rule.severity in ("fatal", "performance", "risk", "info")
        assert rule.why and rule.fix and rule.sources
        assert {source[0] for source in rule.sources} <= set(sources())


def test_what_rests_on_private_interfaces_alone_is_to_be_confirmed() -> None:
    rules = all_rules()
    assert rules["attn.sdpa"].confirm and rules["op.trig"].confirm and rules["num.range"].confirm
    assert not rules["shape.dynamic"].confirm and not rules["conv.kernel_w"].confirm
