"""Cases that hold every operation, in every opset that has it, against a source outside this code.

    python tests/runtimes/coreml/conformance.py

prints how many operations and cases each opset has, by source, and how many operations have no
source but our own code. The operation is built by coremltools from constants and computed by the
evaluator as a program's step: types, shapes and defaults are those of coremltools.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import torch

from lpa_export.environment import quiet
from lpa_export.runtimes.coreml import Arithmetic
from lpa_export.runtimes.coreml.constants import Constants
from lpa_export.runtimes.coreml.errors import one_line
from lpa_export.runtimes.coreml.execution import Run
from lpa_export.runtimes.coreml.handlers import HANDLERS
from lpa_export.runtimes.coreml.plan import plan_block

F: Any = torch.nn.functional

OPSETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9}
FOLDING = "coremltools value_inference"


@dataclass(frozen=True)
class Case:
    """Inputs of an operation, and what it must give.

    Without ``expected`` coremltools' own folding tells. ``since``: the first opset that takes it.
    """

    op: str
    inputs: dict[str, Any]
    source: str = FOLDING
    expected: Any = None
    since: int = 6


@dataclass(frozen=True)
class Outcome:
    """What the evaluator gave beside what was expected, both in the order of the outputs."""

    found: list[Any]
    expected: list[Any]
    types: list[str]
    shapes: list[tuple[Any, ...]]


def claimed() -> dict[str, list[str]]:
    """Opset -> the operations that the evaluator computes and coremltools has there."""
    with quiet():
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return {
        opset: [op for op in HANDLERS if any(int(v) <= n for v in SSAOpRegistry.core_ops[op])]
        for opset, n in OPSETS.items()
    }


def evaluate(case: Case, opset: str) -> Outcome:
    """One case in one opset. Raises whatever building or computing it raises."""
    with quiet():
        import coremltools
        from coremltools.converters.mil import Builder
        from coremltools.converters.mil.mil import Function, types

    target = coremltools.target[opset]
    with np.errstate(all="ignore"), Function({}, opset_version=target) as function:
        made = getattr(Builder, case.op)(**case.inputs)
        outputs = list(made) if isinstance(made, list | tuple) else [made]
        function.set_outputs(outputs)
    plan = plan_block(function, HANDLERS, "main")
    run = Run(
        Constants(HANDLERS, {}, {}),
        Arithmetic.FP16,
        function="main",
        kept=frozenset(plan.outputs),
        wide=False,
        values={},
    )
    for _ in run.block(plan):
        pass
    found = [run.value(variable) for variable in plan.outputs]
    expected = [v.val for v in outputs] if case.expected is None else case.expected
    return Outcome(
        [value.numpy() for value in found],
        list(expected) if isinstance(expected, list | tuple) else [expected],
        [types.builtin_to_string(v.dtype) for v in outputs],
        [tuple(v.shape) for v in outputs],
    )


_TOLERANCE: dict[str, dict[str, Any]] = {
    "fp16": {"rtol": 4e-3, "atol": 2e-3},
    "fp32": {"rtol": 2e-5, "atol": 2e-6},
}


def check(case: Case, opset: str) -> None:
    """Raises AssertionError where values, shapes or kinds are not those expected."""
    with np.errstate(all="ignore"):
        outcome = evaluate(case, opset)
    assert len(outcome.found) == len(outcome.expected)
    for found, expected, kind, shape in zip(
        outcome.found, outcome.expected, outcome.types, outcome.shapes, strict=True
    ):
        assert expected is not None, "coremltools does not fold it"
        wanted = np.asarray(expected)
        assert found.shape == wanted.shape
        # Where type inference knows the size it must be this one.
        known = zip(found.shape, shape, strict=True)
        assert all(size == told for size, told in known if isinstance(told, int))
        floating = kind.startswith("fp")
        assert (found.dtype.kind == "f") == floating, (found.dtype, kind)
        if floating:
            np.testing.assert_allclose(found, wanted.astype(np.float64), **_TOLERANCE[kind])
        else:
            np.testing.assert_array_equal(found, wanted)


def _normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Any:
    values = np.random.default_rng(len(shape) + sum(shape)).normal(size=shape)
    return (shift + scale * values).astype(np.float32)


RANKS = [(4,), (3, 2), (2, 3, 2), (1, 2, 3, 2), (2, 1, 2, 1, 3)]
EXTREMES = np.array([-65504, -1, -6e-8, 0, 6e-8, 0.5, 65504], np.float16)
HALVES = np.array([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5], np.float32)
WHOLE = np.array([[-7, -3, 0], [2, 5, 7]], np.int32)
EMPTY = np.zeros((2, 0, 3), np.float32)


def _elementwise() -> Iterator[Case]:
    bounded = {"acos": 0.3, "asin": 0.3, "atanh": 0.3}
    positive = {"sqrt", "log", "rsqrt", "inverse"}
    unary = (
        "abs acos asin atan atanh ceil cos cosh erf exp exp2 floor inverse log round rsqrt sign "
        "sin sinh sqrt square tan tanh relu relu6 sigmoid softplus softsign"
    ).split()
    for op in unary:
        for shape in RANKS:
            x = _normal(*shape, scale=bounded.get(op, 1.0))
            x = np.abs(x) + np.float32(0.1) if op in positive else x
            yield Case(op, {"x": x})
            yield Case(op, {"x": x.astype(np.float16)})
        if op not in bounded:
            x = np.abs(EXTREMES) if op in positive else EXTREMES
            yield Case(op, {"x": x}) if op not in _FOLDED_ROUGHLY else _at_extremes(op, x)
            if op not in positive:
                yield Case(op, {"x": HALVES})
    yield Case("log", {"x": np.zeros(2, np.float16)})
    yield Case("log", {"x": np.array([0, 1], np.float32), "epsilon": np.float32(0.5)})
    for op in ("abs", "sign", "square", "ceil", "floor", "round", "relu"):
        if op in ("abs", "sign", "square"):
            yield Case(op, {"x": WHOLE})
    yield Case("logical_not", {"x": WHOLE > 0})
    yield Case("identity", {"x": _normal(3, 2)})
    for x in (HALVES, WHOLE, np.array([True, False]), EXTREMES):
        for dtype in ("fp16", "fp32", "int32", "bool"):
            finite = np.abs(x.astype(np.float64)) < 65504
            yield Case("cast", {"x": x[finite] if x.ndim == 1 else x, "dtype": dtype})
    yield Case("silu", {"x": _normal(3, 2)}, "scipy expit", _silu(_normal(3, 2)))


# The folding of these in float16 overflows inside where the true value fits.
_FOLDED_ROUGHLY = {"softplus": np.logaddexp, "sigmoid": scipy.special.expit, "softsign": None}


def _at_extremes(op: str, x: Any) -> Case:
    wide = x.astype(np.float64)
    expected = {
        "softplus": np.logaddexp(0, wide),
        "sigmoid": scipy.special.expit(wide),
        "softsign": wide / (1 + np.abs(wide)),
    }
    return Case(op, {"x": x}, "scipy and numpy in float64", expected[op])


def _silu(x: Any) -> Any:
    return x * scipy.special.expit(x.astype(np.float64))


def _pairs() -> Iterator[Case]:
    arithmetic = "add sub mul real_div floor_div mod maximum minimum pow".split()
    comparisons = "equal not_equal greater greater_equal less less_equal".split()
    for op in [*arithmetic, *comparisons]:
        for shape in RANKS:
            x, y = _normal(*shape), _normal(*shape[-1:], shift=3.0)
            x = np.abs(x) if op == "pow" else x
            yield Case(op, {"x": x, "y": y})
            yield Case(op, {"x": x.astype(np.float16), "y": y.astype(np.float16)})
        yield Case(op, {"x": EMPTY, "y": np.ones(3, np.float32)})
        yield Case(op, {"x": HALVES, "y": HALVES[::-1] + np.float32(3)})
    for op in ["add", "sub", "mul", "maximum", "minimum", *comparisons]:
        yield Case(op, {"x": WHOLE, "y": np.array([2, -3, 5], np.int32)})
    for op in ("floor_div", "mod"):
        yield Case(op, {"x": WHOLE, "y": np.array([2, -3, 5], np.int32)})
    truth = np.array([True, True, False, False])
    for op in ("logical_and", "logical_or", "logical_xor"):
        yield Case(op, {"x": truth, "y": np.array([True, False, True, False])})
    yield Case("select", {"cond": truth, "a": _normal(4), "b": _normal(4, shift=2.0)})


def _parametrised() -> Iterator[Case]:
    for shape in RANKS[:4]:
        x = _normal(*shape, scale=3.0)
        for kind in (np.float32, np.float16):
            x, alpha, beta = x.astype(kind), kind(0.75), kind(1.25)
            for op in ("elu", "leaky_relu", "threshold", "thresholded_relu"):
                yield Case(op, {"x": x, "alpha": alpha})
            for op in ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard"):
                yield Case(op, {"x": x, "alpha": alpha, "beta": beta})
            yield Case("clip", {"x": x, "alpha": kind(-0.5), "beta": beta})
            for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"):
                yield Case("gelu", {"x": x, "mode": mode})
            yield Case("softmax", {"x": x, "axis": -1})
            yield Case("softmax", {"x": x, "axis": 0})
    for shape, slopes in (((2, 3, 4), [0.5] * 3), ((1, 3, 2, 2), [0.5, -0.25, 2])):
        x, per_channel = _normal(*shape), np.array(slopes, np.float32)
        yield Case("prelu", {"x": x, "alpha": per_channel})
        yield Case(
            "softplus_parametric", {"x": x, "alpha": per_channel, "beta": np.abs(per_channel)}
        )
    # From iOS17 on parameters may be of another type than what they work on.
    half = _normal(2, 3).astype(np.float16)
    for op in ("elu", "leaky_relu", "thresholded_relu"):
        yield Case(op, {"x": half, "alpha": np.float32(0.1)}, since=8)


def _reductions() -> Iterator[Case]:
    kinds = (
        "reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean "
        "reduce_min reduce_prod reduce_sum reduce_sum_square"
    ).split()
    for op in kinds:
        for shape in RANKS:
            x = np.abs(_normal(*shape)) + np.float32(0.1)
            last = len(shape) - 1
            for axes in ([0], [-1], sorted({0, last})):
                yield Case(op, {"x": x, "axes": axes, "keep_dims": last % 2 == 0})
            yield Case(op, {"x": x, "axes": list(range(len(shape))), "keep_dims": True})
            yield Case(op, {"x": x.astype(np.float16), "axes": [-1]})
    for op in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_sum_square"):
        yield Case(op, {"x": WHOLE, "axes": [1]})
    for op in ("reduce_argmax", "reduce_argmin"):
        for axis in (0, 1, -1):
            yield Case(op, {"x": _normal(3, 4), "axis": axis, "keep_dims": True})
        ties = np.array([[1, 2, 2], [2, 2, 1]], np.float32)
        yield Case(op, {"x": ties, "axis": 1})
    for x, axis in ((_normal(3, 4), 1), (_normal(2, 3, 2), 0), (_normal(3, 4), 0)):
        forward, backward = np.cumsum(x, axis), np.flip(np.cumsum(np.flip(x, axis), axis), axis)
        # Exclusive ones stand in handlers/test_reduction.py: coremltools cannot fold them.
        for flags, sums in (({}, forward), ({"reverse": True}, backward)):
            yield Case("cumsum", {"x": x, "axis": axis, **flags}, "numpy", sums)
    ties = np.array([[3, 1, 3, 2]], np.float32)
    for x in (ties, _normal(2, 4)):
        for ascending in (True, False):
            yield Case(
                "argsort", {"x": x, "axis": -1, "ascending": ascending}, *_sorted(x, ascending)
            )
            yield Case(
                "topk", {"x": x, "k": 2, "axis": -1, "ascending": ascending}, *_best(x, ascending)
            )


def _sorted(x: Any, ascending: bool) -> tuple[str, Any]:
    return "numpy stable argsort", np.argsort(x if ascending else -x, axis=-1, kind="stable")


def _best(x: Any, ascending: bool) -> tuple[str, Any]:
    source, places = _sorted(x, ascending)
    places = places[..., :2]
    return source, [np.take_along_axis(x, places, -1), places]


def _shapes() -> Iterator[Case]:
    x = _normal(2, 3, 4)
    for value in (x, WHOLE[None], x > 0):
        yield Case("transpose", {"x": value, "perm": [2, 0, 1]})
        yield Case("transpose", {"x": value, "perm": [-1, 0, 1]})
        yield Case("expand_dims", {"x": value, "axes": [0, -1]})
        yield Case("reshape", {"x": value, "shape": [-1, 2]})
        yield Case("reverse", {"x": value, "axes": [-1, 0]})
        yield Case("slice_by_index", {"x": value, "begin": [0, 0, 1], "end": [1, 3, 3]})
    yield Case("reshape", {"x": EMPTY, "shape": [0, 6]}, "numpy", EMPTY.reshape(0, 6), since=8)
    yield Case("squeeze", {"x": _normal(1, 3, 1), "axes": [0, -1]})
    yield Case("squeeze", {"x": _normal(1, 3, 1)})
    yield Case("flatten2d", {"x": x, "axis": 1})
    yield Case("flatten2d", {"x": x, "axis": -1})
    for axis in (0, 1, -2):
        yield Case("stack", {"values": (x, x + 1), "axis": axis})
        yield Case("concat", {"values": (x, x + 1), "axis": axis})
    turns = np.stack([x, x + 1], 2).reshape(2, 6, 4)
    yield Case("concat", {"values": (x, x + 1), "axis": 1, "interleave": True}, "numpy", turns)
    yield Case("split", {"x": x, "num_splits": 2, "axis": -1})
    yield Case("split", {"x": x, "split_sizes": [1, 2], "axis": 1})
    yield Case("tile", {"x": x, "reps": [2, 1, 3]})
    yield Case("shape", {"x": x})
    yield Case("shape", {"x": EMPTY})
    for pads, mode in (
        ([0, 0, 1, 0, 0, 2], "constant"),
        ([1, 1], "reflect"),
        ([2, 1], "replicate"),
    ):
        yield Case("pad", {"x": x, "pad": pads, "mode": mode, "constant_val": np.float32(1.5)})
    masks = {"begin_mask": [True, False, False], "squeeze_mask": [False, True, False]}
    yield Case(
        "slice_by_index",
        {"x": x, "begin": [1, 1, 3], "end": [2, 2, 0], "stride": [1, 1, -1], **masks},
    )
    yield Case("slice_by_size", {"x": x, "begin": [0, 1, -2], "size": [-1, 2, 2]})
    yield Case(
        "slice_update",
        {"x": x, "update": np.ones((1, 3, 2), np.float32), "begin": [1, 0, 1], "end": [2, 3, 3]},
        since=9,
    )
    turned = np.stack([x[0, [1, 0, 2]], x[1, ::-1]])
    yield Case(
        "reverse_sequence",
        {"x": x, "lengths": np.array([2, 3], np.int32), "seq_axis": 1, "batch_axis": 0},
        "numpy",
        turned,
    )
    yield Case(
        "sliding_windows",
        {"x": x, "axis": 2, "size": 2},
        "numpy",
        np.moveaxis(np.lib.stride_tricks.sliding_window_view(x, 2, 2), -1, 3),
    )
    yield Case(
        "reshape_like",
        {"x": _normal(6), "ref_tensors": (x,), "begins": (0,), "ends": (2,), "end_masks": (False,)},
        "numpy",
        _normal(6).reshape(2, 3),
        since=7,
    )
    yield Case(
        "crop",
        {"x": _normal(1, 2, 4, 5), "crop_height": [1, 1], "crop_width": [0, 2]},
        "numpy",
        _normal(1, 2, 4, 5)[..., 1:3, :3],
    )
    for lower, upper in ((0, -1), (-1, 0), (1, 1), (0, 0)):
        yield Case("band_part", {"x": _normal(3, 4), "lower": lower, "upper": upper})
    yield Case("fill", {"shape": [2, 0, 3], "value": 2.5})
    yield Case("fill", {"shape": [2], "value": 7})
    yield Case("fill_like", {"ref_tensor": WHOLE, "value": np.float32(1.5)}, since=7)
    yield Case("range_1d", {"start": 1, "end": 8, "step": 3})
    yield Case(
        "range_1d", {"start": np.float32(1), "end": np.float32(-1), "step": np.float32(-0.5)}
    )
    yield Case("non_zero", {"x": WHOLE})
    yield Case(
        "one_hot",
        {
            "indices": np.array([2, 0, -1], np.int32),
            "one_hot_vector_size": 3,
            "on_value": 5,
            "off_value": -1,
        },
        "numpy",
        np.array([[-1, -1, 5], [5, -1, -1], [-1, -1, -1]]),
    )


def _indexed() -> Iterator[Case]:
    x, places = _normal(3, 4, 2), np.array([[2, 0], [1, 2]], np.int32)
    for axis in (0, 1, -1):
        yield Case("gather", {"x": x, "indices": np.array([1, 0, 1], np.int32), "axis": axis})
    yield Case("gather", {"x": x, "indices": places, "axis": 0})
    along = np.array([[[2, 0], [1, 1], [0, 0], [2, 2]]], np.int32)
    yield Case("gather_along_axis", {"x": x, "indices": along, "axis": 0})
    yield Case("gather_nd", {"x": x, "indices": places}, "numpy", x[places[:, 0], places[:, 1]])
    for mode in ("add", "sub", "mul", "div", "max", "min", "update"):
        updates = _normal(1, 4, 2, shift=2.0)
        expected = x.astype(np.float64)
        steps: dict[str, Callable[..., Any]] = {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "div": np.divide,
            "max": np.maximum,
            "min": np.minimum,
            "update": lambda old, new: new,
        }
        expected[1] = steps[mode](expected[1], updates[0])
        inputs = {"data": x, "updates": updates, "mode": mode}
        yield Case("scatter", {**inputs, "indices": np.array([1], np.int32)}, "numpy", expected)
        yield Case(
            "scatter_nd", {**inputs, "indices": np.array([[1]], np.int32)}, "numpy", expected
        )
        ones = np.ones((1, 4, 2), np.int32)
        yield Case("scatter_along_axis", {**inputs, "indices": ones}, "numpy", expected)


def _products() -> Iterator[Case]:
    for left, right in (((3, 4), (4, 2)), ((2, 3, 4), (4, 2)), ((2, 1, 3, 4), (1, 2, 4, 5))):
        yield Case("matmul", {"x": _normal(*left), "y": _normal(*right)})
    yield Case(
        "matmul", {"x": _normal(4, 3), "y": _normal(2, 4), "transpose_x": True, "transpose_y": True}
    )
    for shape in ((3,), (4, 3), (2, 4, 3)):
        yield Case("linear", {"x": _normal(*shape), "weight": _normal(5, 3), "bias": _normal(5)})
    for equation, shapes in (
        ("nchw,nwhu->nchu", ((1, 2, 3, 4), (1, 4, 3, 2))),
        ("chw,whr->chr", ((2, 3, 4), (4, 3, 2))),
    ):
        yield Case("einsum", {"values": tuple(_normal(*s) for s in shapes), "equation": equation})
    q = _normal(1, 2, 3, 4)
    yield Case(
        "scaled_dot_product_attention",
        {"query": q, "key": q, "value": q},
        "torch",
        F.scaled_dot_product_attention(*[torch.tensor(q)] * 3).numpy(),
        since=9,
    )
    mask = np.tril(np.ones((3, 3), bool))
    yield Case(
        "scaled_dot_product_attention",
        {"query": q, "key": q, "value": q, "attn_mask": mask},
        "torch",
        F.scaled_dot_product_attention(*[torch.tensor(q)] * 3, torch.tensor(mask)).numpy(),
        since=9,
    )


def _layers() -> Iterator[Case]:
    convolutions: list[tuple[Any, Any, Any]] = [
        (F.conv1d, F.conv_transpose1d, (8,)),
        (F.conv2d, F.conv_transpose2d, (6, 8)),
        (F.conv3d, F.conv_transpose3d, (4, 5, 6)),
    ]
    for forward, backward, sizes in convolutions:
        axes = len(sizes)
        x, weight, bias = _normal(2, 4, *sizes), _normal(6, 2, *(3,) * axes), _normal(6)
        stride, dilation = [2] * axes, [1] * axes
        expected = forward(*map(torch.tensor, (x, weight, bias)), stride, 1, dilation, 2).numpy()
        given = {"x": x, "weight": weight, "bias": bias, "strides": stride, "groups": 2}
        yield Case(
            "conv", {**given, "pad_type": "custom", "pad": [1] * 2 * axes}, "torch", expected
        )
        turned = _normal(4, 3, *(3,) * axes)
        expected = backward(
            torch.tensor(x), torch.tensor(turned), torch.tensor(bias), stride, groups=2
        ).numpy()
        yield Case("conv_transpose", {**given, "weight": turned}, "torch", expected)
        pools = [
            ("max_pool", F.max_pool1d, F.max_pool2d, F.max_pool3d),
            ("avg_pool", F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        ]
        for op, *functions in pools:
            expected = functions[axes - 1](torch.tensor(x), 3, 2).numpy()
            yield Case(
                op,
                {"x": x, "kernel_sizes": [3] * axes, "strides": stride, "pad_type": "valid"},
                "torch",
                expected,
            )
        if axes < 3:
            squares = (F.avg_pool1d, F.avg_pool2d)[axes - 1](
                torch.tensor(x).square(), 3, 2
            ) * 3**axes
            yield Case(
                "l2_pool",
                {"x": x, "kernel_sizes": [3] * axes, "strides": stride, "pad_type": "valid"},
                "torch",
                squares.sqrt().numpy(),
            )
    for shape in ((2, 3, 4), (2, 3, 4, 2)):
        x, vector = _normal(*shape), np.array([0.5, 1, 2], np.float32)
        tensors = [torch.tensor(v) for v in (x, vector, vector)]
        yield Case(
            "batch_norm",
            {"x": x, "mean": vector, "variance": vector},
            "torch",
            F.batch_norm(*tensors).numpy(),
        )
        yield Case(
            "instance_norm",
            {"x": x, "gamma": vector, "beta": vector},
            "torch",
            F.instance_norm(tensors[0], weight=tensors[1], bias=tensors[2]).numpy(),
        )
        yield Case("layer_norm", {"x": x, "axes": [-1], "epsilon": np.float32(1e-3)})
        yield Case("layer_norm", {"x": x, "axes": [1, 2]})
        yield Case("l2_norm", {"x": x})
    x = _normal(2, 5, 3, 2)
    yield Case(
        "local_response_norm",
        {"x": x, "size": 3, "alpha": np.float32(0.5)},
        "torch",
        F.local_response_norm(torch.tensor(x), 3, 0.5).numpy(),
    )
    published = np.array([[[1, -7], [5, -6], [-3, -5]]], np.float32)
    yield Case(
        "local_response_norm",
        {"x": published, "size": 3},
        "coremltools' tests",
        np.array(
            [[[0.99997497, -6.99143696], [4.99687672, -5.99460602], [-2.99932504, -4.99687672]]]
        ),
    )
    blocks = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    tensor = torch.tensor(blocks)
    yield Case(
        "pixel_shuffle",
        {"x": blocks, "upscale_factor": 2},
        "torch",
        F.pixel_shuffle(tensor, 2).numpy(),
    )
    image = _normal(1, 2, 4, 6)
    yield Case(
        "pixel_unshuffle",
        {"x": image, "downscale_factor": np.uint32(2)},
        "torch",
        F.pixel_unshuffle(torch.tensor(image), 2).numpy(),
        since=7,
    )
    yield Case(
        "quantize",
        {"input": _normal(2, 3), "scale": np.float32(0.1), "output_dtype": "int8"},
        since=8,
    )
    whole = np.array([[-3, 0, 7]], np.int8)
    yield Case(
        "dequantize",
        {"input": whole, "scale": np.float32(0.5), "zero_point": np.int8(1)},
        "numpy",
        (whole.astype(float) - 1) * 0.5,
        since=8,
    )


FAMILIES = (
    _elementwise,
    _pairs,
    _parametrised,
    _reductions,
    _shapes,
    _indexed,
    _products,
    _layers,
)


def cases() -> list[Case]:
    """All cases, in the order of the families above."""
    return [case for family in FAMILIES for case in family()]


ELSEWHERE = {
    "handlers/test_images.py": (
        "torch and coremltools' tests",
        "affine crop_resize resample resize resize_bilinear resize_nearest_neighbor "
        "upsample_bilinear upsample_nearest_neighbor",
    ),
    "handlers/test_shape.py": (
        "NumPy and TensorFlow's documentation",
        "batch_to_space depth_to_space space_to_batch space_to_depth",
    ),
    "handlers/test_recurrent.py": ("loops in float64 and torch", "gru lstm rnn"),
    "handlers/test_lists.py": (
        "Python lists",
        "list_gather list_length list_read list_scatter list_write make_list",
    ),
    "handlers/test_random.py": (
        "the distribution's moments",
        "random_bernoulli random_categorical random_normal random_uniform",
    ),
    "test_constexpr.py": (
        "NumPy and coremltools' decompression",
        "constexpr_affine_dequantize constexpr_blockwise_shift_scale constexpr_cast "
        "constexpr_lut_to_dense constexpr_lut_to_sparse constexpr_sparse_blockwise_shift_scale "
        "constexpr_sparse_to_dense",
    ),
}
"""Operations whose sources need more than a table: test file -> source, operations."""


def sources() -> dict[str, set[str]]:
    """Operation -> the sources outside this code that it is held against."""
    found: dict[str, set[str]] = {}
    for case in cases():
        found.setdefault(case.op, set()).add(case.source)
    for source, ops in ELSEWHERE.values():
        for op in ops.split():
            found.setdefault(op, set()).add(source)
    return found


def main() -> None:
    every, known = cases(), sources()
    failed: Counter[str] = Counter()
    for opset, number in OPSETS.items():
        for case in every:
            if case.since <= number:
                try:
                    check(case, opset)
                except Exception as error:
                    failed[opset] += 1
                    print(f"{opset} {case.op}: {type(error).__name__}: {one_line(error)[:150]}")
    print(f"{'opset':<8}{'operations':>12}{'uncovered':>11}{'cases':>8}{'failed':>8}")
    for opset, ops in claimed().items():
        uncovered = [op for op in ops if op not in known]
        count = sum(case.since <= OPSETS[opset] for case in every)
        print(f"{opset:<8}{len(ops):>12}{len(uncovered):>11}{count:>8}{failed[opset]:>8}")
        if uncovered:
            print("        ", ", ".join(uncovered))
    held: Counter[str] = Counter(source for names in known.values() for source in names)
    for source, count in held.most_common():
        print(f"{count:>5} operations by {source}")


if __name__ == "__main__":
    main()
