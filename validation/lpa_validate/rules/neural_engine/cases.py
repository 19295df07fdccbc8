"""Published placements rebuilt as small programs, one per line of ``observed.jsonl``.

What an observation does not say (most shapes) is chosen so that nothing but the operation it is
about could move it. Weights are zeros that take no memory.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lpa_validate.rules.neural_engine.graph import Graph, read_graph

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function

__all__ = ["APART", "Observation", "Rebuilt", "observations", "rebuild"]

Shape = tuple[int, ...]
Inputs = tuple[tuple[Shape, str], ...]
Body = Callable[..., Any]

_CHIP = re.compile(r"\b([AM]\d+)\b")
_STAYS = frozenset({"ne", "able"})


@dataclass(frozen=True)
class Observation:
    """A published placement.

    ``ne``: preferred, ``able``: among the devices that could take it; ``off``, ``unsupported``
    and ``fails``: not on the Neural Engine; ``wrong``: on it, with wrong numbers.
    """

    id: str
    source: str
    device: str
    op: str
    params: str
    placement: Literal["ne", "able", "off", "unsupported", "fails", "wrong"]
    confidence: Literal["high", "medium", "low"]

    @property
    def stays(self) -> bool:
        """Whether it is on the Neural Engine and right there, or could be."""
        return self.placement in _STAYS

    @property
    def engine(self) -> str | None:
        """The chip, where the source names one: "M1"."""
        found = _CHIP.search(self.device)
        return found[1] if found else None


@dataclass(frozen=True)
class Rebuilt:
    """A program for an observation. ``judged`` are the kinds, or the names, of the operations
    that it is about; none: all of them."""

    graph: Graph
    judged: frozenset[str]


_SMALL = "so small that the scheduler preferred the CPU, although the engine takes it"

APART: Mapping[str, str] = {
    "088": _SMALL,
    "119": "a cast at the border of a program",
    "124": _SMALL,
    "131": _SMALL,
    "132": _SMALL,
    "135": _SMALL,
    "168": "no reason is stated, so nothing can be rebuilt",
    "192": _SMALL,
    "214": "beside an island, which it follows",
}
"""Observations that are no matter of an operation's own: id -> why. They are not graded."""


@cache
def observations() -> tuple[Observation, ...]:
    """What is published, in the order of the file."""
    place = resources.files("lpa_validate") / "rules" / "neural_engine" / "observed.jsonl"
    names = Observation.__dataclass_fields__
    return tuple(
        Observation(**{name: row[name] for name in names})
        for row in map(json.loads, place.read_text("utf-8").splitlines())
    )


def rebuild(seen: Observation) -> Rebuilt | None:
    """A program for it; None for one that stands apart."""
    if seen.id in APART:
        return None
    case = _CASES.get(seen.id) or _by_kind(seen)
    graph = read_graph(_function(case.body, case.inputs), engine=seen.engine, **case.facts)
    return Rebuilt(graph, case.judged)


@dataclass(frozen=True)
class _Case:
    body: Body
    inputs: Inputs
    judged: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)


def _function(body: Body, inputs: Inputs) -> "Function":
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, types

    placeholders = {
        f"x{place}": Builder.state_tensor_placeholder(shape, types.fp16)
        if kind == "state"
        else Builder.placeholder(shape, types.string_to_builtin(kind))
        for place, (shape, kind) in enumerate(inputs)
    }
    with Function(placeholders, opset_version=coremltools.target.iOS18) as function:
        outputs = body(Builder, *function.inputs.values())
        function.set_outputs(list(outputs) if isinstance(outputs, list | tuple) else [outputs])
    return function


def _case(body: Body, *inputs: tuple[Shape, str], judged: str = "", **facts: Any) -> _Case:
    return _Case(body, inputs, frozenset(judged.split()), facts)


def _half(*shape: int) -> tuple[Shape, str]:
    return shape, "fp16"


def _zeros(*shape: int, kind: Any = np.float16) -> Any:
    """A weight of zeros that no memory is spent on: one, seen from everywhere."""
    return np.broadcast_to(kind(0), shape)


# One operation alone, by its kind.

_BLOCK = (1, 64, 1, 128)
_SHAPES = ((93, 98, _BLOCK), (139, 153, (1, 1024, 128, 1)), (169, 183, (1, 96, 1, 32)))
"""First and last observation, and the shape of the activations."""
_FLOAT32 = range(105, 111)


def _by_kind(seen: Observation) -> _Case:
    number = int(seen.id)
    if 56 <= number <= 79:
        width = int(seen.params.split()[-1])
        body = partial(_gated, width=width)
        return _case(body, _half(1, 5120), judged=seen.params.split()[0])
    shape = next((shape for low, high, shape in _SHAPES if low <= number <= high), _BLOCK)
    kind = "fp32" if number in _FLOAT32 else "fp16"
    body = partial(_ALONE[seen.op], seen.op, np.float32 if kind == "fp32" else np.float16)
    return _case(body, (shape, kind), (shape, kind), judged=seen.op)


def _plain(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return getattr(mb, op)(x=x)


def _with(**options: Any) -> Body:
    return lambda op, kind, mb, x, y: getattr(mb, op)(x=x, **options)


def _pairwise(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return getattr(mb, op)(x=x, y=y)


def _conv(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return mb.conv(x=x, weight=_zeros(64, x.shape[1], 1, 1, kind=kind))


def _linear(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return mb.linear(x=x, weight=_zeros(64, x.shape[-1], kind=kind))


def _scatter(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    indices = {
        "scatter": np.zeros((1,), np.int32),
        "scatter_along_axis": np.zeros(x.shape, np.int32),
        "scatter_nd": np.zeros((1, 1), np.int32),
    }
    return getattr(mb, op)(data=x, indices=indices[op], updates=y)


def _recurrent(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[op]
    half = op == "gru"
    steps = mb.transpose(x=mb.squeeze(x=x, axes=[0]), perm=[0, 1, 2])
    steps, kind = (steps, kind) if half else (mb.cast(x=steps, dtype="fp32"), np.float32)
    states = ("initial_h", "initial_c") if op == "lstm" else ("initial_h",)
    return getattr(mb, op)(
        x=steps,
        weight_ih=_zeros(gates * 8, x.shape[-1], kind=kind),
        weight_hh=_zeros(gates * 8, 8, kind=kind),
        **{name: _zeros(1, 8, kind=kind) for name in states},
    )[0]


def _random(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    options = {
        "random_bernoulli": {"prob": kind(0.5)},
        "random_normal": {"mean": kind(0), "stddev": kind(1)},
        "random_uniform": {"low": kind(0), "high": kind(1)},
    }
    return getattr(mb, op)(shape=[1, 4], **options[op])


def _one_hot(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return mb.one_hot(indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=4)


def _slice_update(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return mb.slice_update(x=x, update=y, begin=[0] * 4, end=list(x.shape))


def _suppression(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    boxes = mb.reshape(x=x, shape=[1, -1, 4])
    return mb.non_maximum_suppression(
        boxes=boxes,
        scores=mb.reshape(x=y, shape=[1, boxes.shape[1], -1]),
        max_boxes=2,
        iou_threshold=kind(0.5),
    )[0]


def _reverse_sequence(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    lengths = np.array([2], np.int32)
    return mb.reverse_sequence(x=x, lengths=lengths, seq_axis=1, batch_axis=0)


def _reshape(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    return mb.reshape(x=x, shape=[1, x.shape[1] // 8, 8, -1])


def _einsum(op: str, kind: Any, mb: Any, x: Any, y: Any) -> Any:
    turned = mb.transpose(x=y, perm=[0, 3, 2, 1])
    return mb.einsum(values=[x, turned], equation="nchw,nwhu->nchu")


_ALONE: Mapping[str, Body] = {
    **dict.fromkeys(
        "acos asin atanh cosh sinh tan exp erf relu sigmoid softmax silu square sqrt shape "
        "non_zero random_categorical identity".split(),
        _plain,
    ),
    **dict.fromkeys("add mul sub real_div mod".split(), _pairwise),
    **dict.fromkeys(["reduce_mean", "reduce_prod"], _with(axes=[1], keep_dims=True)),
    **dict.fromkeys("argsort cumsum reduce_argmax reduce_argmin".split(), _with(axis=1)),
    **dict.fromkeys(["scatter", "scatter_nd", "scatter_along_axis"], _scatter),
    **dict.fromkeys(["gru", "lstm", "rnn"], _recurrent),
    **dict.fromkeys(["random_bernoulli", "random_normal", "random_uniform"], _random),
    "conv": _conv,
    "linear": _linear,
    "one_hot": _one_hot,
    "slice_update": _slice_update,
    "non_maximum_suppression": _suppression,
    "band_part": _with(lower=1, upper=1),
    "reverse_sequence": _reverse_sequence,
    "sliding_windows": _with(axis=3, size=4),
    "matmul": lambda op, kind, mb, x, y: mb.matmul(x=x, y=y, transpose_y=True),
    "gelu": _with(mode="EXACT"),
    "layer_norm": lambda op, kind, mb, x, y: mb.layer_norm(x=x, axes=[1], epsilon=kind(1e-4)),
    "gather": _with(indices=np.array([0, 2], np.int32), axis=3),
    "transpose": _with(perm=[0, 3, 2, 1]),
    "reshape": _reshape,
    "rsqrt": lambda op, kind, mb, x, y: mb.rsqrt(x=x, epsilon=kind(1e-4)),
    "pow": lambda op, kind, mb, x, y: mb.pow(x=x, y=kind(2)),
    "slice_by_index": _with(begin=[0, 0, 0, 0], end=[1, 8, 1, 1]),
    "concat": lambda op, kind, mb, x, y: mb.concat(values=[x, y], axis=1),
    "pad": _with(pad=[2, 0, 0, 0]),
    "split": _with(num_splits=2, axis=1),
    "tile": _with(reps=[1, 2, 1, 1]),
    "einsum": _einsum,
}
"""Kind -> one of it, from (kind, number type, builder, x, y)."""


# Programs of several operations.


def _gated(mb: Any, x: Any, *, width: int) -> Any:
    """Normalisation in pieces and a gated pair of layers, with a residual; named as observed."""
    half = np.float16
    square = mb.mul(x=x, y=x, name="rms_square")
    mean = mb.reduce_mean(x=square, axes=[-1], keep_dims=True, name="rms_mean")
    root = mb.rsqrt(x=mb.add(x=mean, y=half(1e-4), name="rms_eps"), name="rms_rsqrt")
    scaled = mb.mul(x=x, y=root, name="rms_scale")
    size = x.shape[-1]
    normal = mb.mul(x=scaled, y=_zeros(size), name="rms_weight")
    gate = mb.linear(x=normal, weight=_zeros(width, size), name="gate_proj")
    up = mb.linear(x=normal, weight=_zeros(width, size), name="up_proj")
    opened = mb.mul(x=mb.silu(x=gate, name="silu"), y=up, name="gate_up_mul")
    down = mb.linear(x=opened, weight=_zeros(size, width), name="down_proj")
    return mb.add(x=x, y=down, name="residual")


def _dense(mb: Any, x: Any, *, columns: int) -> Any:
    return mb.linear(x=x, weight=_zeros(columns, x.shape[-1]))


def _product(mb: Any, x: Any, *, columns: int) -> Any:
    return mb.matmul(x=x, y=_zeros(columns, x.shape[-1]), transpose_y=True)


def _blockwise(mb: Any, x: Any, *, columns: int, bits: int, blocks: int = 1) -> Any:
    """A product with integers of so many bits, and a scale per row and block of it."""
    from coremltools.converters.mil.mil import types

    size = x.shape[-1]
    kind = types.nptype_from_builtin(types.string_to_builtin(f"int{bits}"))
    weight = mb.constexpr_blockwise_shift_scale(
        data=np.zeros((columns, size), kind), scale=np.ones((columns, blocks), np.float16)
    )
    return mb.matmul(x=x, y=weight, transpose_y=True)


def _palettized(mb: Any, x: Any, *, columns: int) -> Any:
    from coremltools.converters.mil.mil import types

    kind = types.nptype_from_builtin(types.string_to_builtin("uint4"))
    weight = mb.constexpr_lut_to_dense(
        indices=np.zeros((columns, x.shape[-1]), kind),
        lut=np.zeros((columns // 16, 1, 16, 1), np.float16),
    )
    return mb.linear(x=x, weight=weight)


def _convolutions(mb: Any, x: Any, *, channels: tuple[int, ...], kind: Any = np.float16) -> Any:
    for count in channels:
        x = mb.conv(x=x, weight=_zeros(count, x.shape[1], 3, 3, kind=kind), pad_type="same")
        x = mb.relu(x=x)
    return mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True)


def _one_by_one(mb: Any, x: Any, *, columns: int = 0, layers: int = 1) -> Any:
    for _ in range(layers):
        x = mb.conv(x=x, weight=_zeros(columns or x.shape[1], x.shape[1], 1, 1))
    return x


def _encoder(mb: Any, x: Any) -> Any:
    """A layer of attention on (1, frames, width), written out, and its feed-forward."""
    batch, frames, width = x.shape
    heads = [
        mb.transpose(
            x=mb.reshape(x=_dense(mb, x, columns=width), shape=[batch, frames, 8, width // 8]),
            perm=[0, 2, 1, 3],
        )
        for _ in range(3)
    ]
    scores = mb.softmax(x=mb.matmul(x=heads[0], y=heads[1], transpose_y=True), axis=-1)
    mixed = mb.transpose(x=mb.matmul(x=scores, y=heads[2]), perm=[0, 2, 1, 3])
    x = mb.add(x=x, y=_dense(mb, mb.reshape(x=mixed, shape=[batch, frames, width]), columns=width))
    x = mb.layer_norm(x=x, axes=[-1], epsilon=np.float16(1e-4))
    wide = mb.gelu(x=_dense(mb, x, columns=4 * width), mode="EXACT")
    return mb.add(x=x, y=_dense(mb, wide, columns=width))


def _decoder(mb: Any, x: Any) -> Any:
    """Rows (frames, width): normalisation in pieces, a gated pair of layers."""
    return _gated(mb, x, width=2 * x.shape[-1])


def _cached(mb: Any, x: Any, kept: Any) -> Any:
    """1x1 convolutions on a step, put behind what was kept of the steps before."""
    return _one_by_one(mb, mb.concat(values=[kept, _one_by_one(mb, x)], axis=3))


def _chain(mb: Any, x: Any, *, count: int) -> Any:
    for _ in range(count):
        x = mb.relu(x=x)
    return x


def _normalised(mb: Any, x: Any) -> Any:
    """A layer norm and a product."""
    return _dense(mb, mb.layer_norm(x=x, axes=[-1], epsilon=np.float16(1e-4)), columns=2048)


def _attention(mb: Any, x: Any, mask: Any = None) -> Any:
    given = {} if mask is None else {"attn_mask": mask}
    return mb.scaled_dot_product_attention(query=x, key=x, value=x, **given)


def _causal(mb: Any, x: Any) -> Any:
    frames = x.shape[-2]
    return _attention(mb, x, np.triu(np.full((frames, frames), -1e4, np.float16), 1))


def _around_half(mb: Any, x: Any, y: Any) -> Any:
    product = mb.matmul(x=mb.cast(x=x, dtype="fp16"), y=mb.cast(x=y, dtype="fp16"))
    return mb.cast(x=product, dtype="fp32")


def _embedding(mb: Any, tokens: Any, *, rows: int = 1000, width: int = 64) -> Any:
    return mb.gather(x=_zeros(rows, width), indices=tokens, axis=0)


def _by_best(mb: Any, scores: Any, rows: Any) -> Any:
    """Rows taken at the positions of the best scores."""
    places = mb.topk(x=scores, k=300, axis=1)[1]
    places = mb.tile(x=mb.expand_dims(x=places, axes=[2]), reps=[1, 1, rows.shape[-1]])
    return mb.gather_along_axis(x=rows, indices=places, axis=1)


def _quantized(mb: Any, x: Any) -> Any:
    scale = np.float16(0.1)
    whole = mb.quantize(input=x, scale=scale, output_dtype="int8")
    return _one_by_one(mb, mb.dequantize(input=whole, scale=scale))


def _between_convolutions(op: Body) -> Body:
    def body(mb: Any, x: Any) -> Any:
        return _one_by_one(mb, op(mb, _one_by_one(mb, x)))

    return body


def _resampled(mb: Any, x: Any) -> Any:
    return mb.resample(
        x=x,
        coordinates=_zeros(1, 64, 64, 2, kind=np.float32),
        sampling_mode="bilinear",
        padding_mode="border",
        padding_value=np.float16(0),
        coordinates_mode="unnormalized",
        align_corners=True,
    )


def _best(mb: Any, x: Any) -> Any:
    """A vocabulary's scores, and the position of the best as another type."""
    scores = _one_by_one(mb, x, columns=16_384)
    return mb.cast(x=mb.topk(x=scores, k=1, axis=1)[1], dtype="fp16")


def _in_five_axes(mb: Any, x: Any) -> Any:
    """Queries, keys and values as one tensor (batch, frames, 3, heads, width)."""
    batch, frames, width = x.shape
    parts = mb.reshape(x=x, shape=[batch, frames, 3, 4, width // 12])
    return mb.reshape(x=mb.relu(x=parts), shape=[batch, frames, width])


def _written_back(mb: Any, state: Any, x: Any, *, early: bool) -> Any:
    """A state read, changed in a place and written; with ``early`` what is new is used before."""
    changed = mb.slice_update(
        x=mb.read_state(input=state), update=x, begin=[0] * 4, end=list(x.shape)
    )
    used = mb.relu(x=changed) if early else None
    written = mb.coreml_update_state(state=state, value=changed)
    return [used, mb.relu(x=written)] if early else mb.relu(x=written)


def _states(mb: Any, state: Any, x: Any) -> Any:
    return mb.add(x=x, y=mb.read_state(input=state))


_TOKENS = ((1, 128), "int32")
_FRAMES = _half(1, 128, 768)
_IMAGE = _half(1, 3, 64, 64)
_MAP = _half(1, 16, 64, 64)
_SOME = (64, 128, 128)
_RANGE: Any = {"flexible": {"x0": "range"}}
_LISTED: Any = {"flexible": {"x0": "enumerated"}}


def _heads(count: int, frames: int, width: int, kind: str = "fp16") -> tuple[Shape, str]:
    return (1, count, frames, width), kind


def _wide(columns: int) -> Body:
    return partial(_dense, columns=columns)


_CASES: Mapping[str, _Case] = {
    "049": _case(_wide(17_408), _half(1, 5120)),
    "050": _case(_wide(512), _half(1, 512)),
    "051": _case(_wide(5120), _half(1, 17_408)),
    "052": _case(_wide(5120), _half(1, 16_512)),
    "053": _case(_wide(5120), _half(1, 16_384)),
    "054": _case(_wide(5120), _half(1, 4096)),
    "080": _case(partial(_blockwise, columns=16_384, bits=8), _half(1024, 5120)),
    "081": _case(partial(_product, columns=17_408), _half(1024, 5120)),
    "082": _case(_wide(4096), _half(1024, 5120)),
    "083": _case(_wide(16_385), _half(1024, 5120)),
    "084": _case(partial(_one_by_one, layers=4), _half(1, 5120, 1, 1024)),
    "085": _case(
        lambda mb, x: mb.conv(x=x, weight=_zeros(64, 1, 1, 4), groups=64), _half(1, 64, 1, 128)
    ),
    "089": _case(lambda mb, x: mb.mul(x=x, y=np.float16(2)), _half(*_BLOCK)),
    "090": _case(lambda mb, x, y: mb.mul(x=x, y=y), _half(*_BLOCK), _half(1, 64, 1, 1)),
    "091": _case(lambda mb, x: mb.matmul(x=x, y=x), _half(1, 1, 512, 512)),
    "092": _case(lambda mb, x: mb.matmul(x=x, y=x, transpose_y=True), _half(1, 1, 512, 512)),
    "099": _case(_quantized, _half(*_BLOCK), judged="quantize"),
    "100": _case(_quantized, _half(*_BLOCK), judged="dequantize"),
    "101": _case(_quantized, _half(*_BLOCK), judged="conv"),
    "102": _case(partial(_blockwise, columns=512, bits=8, blocks=8), _half(128, 512)),
    "103": _case(partial(_chain, count=1630), _half(*_BLOCK)),
    "104": _case(partial(_chain, count=3100), _half(*_BLOCK)),
    "111": _case(partial(_linear, "linear", np.float32), ((1, 1024), "fp32"), ((1, 1), "fp32")),
    "112": _case(partial(_linear, "linear", np.float32), ((128, 1024), "fp32"), ((1, 1), "fp32")),
    "113": _case(_wide(1024), _half(1, 1024)),
    "114": _case(_wide(4096), _half(1, 4096)),
    "115": _case(_wide(1024), _half(128, 1024)),
    "116": _case(partial(_convolutions, channels=_SOME), _IMAGE, judged="conv"),
    "117": _case(partial(_convolutions, channels=_SOME), _IMAGE, judged="relu"),
    "118": _case(partial(_convolutions, channels=_SOME), _IMAGE, judged="reduce_mean"),
    "120": _case(partial(_convolutions, channels=(8,)), _half(1, 3, 16, 16), judged="conv"),
    "121": _case(_cached, _half(1, 64, 1, 1), _half(1, 64, 1, 64), flexible={"x1": "range"}),
    "122": _case(partial(_convolutions, channels=(64,) * 4), _half(1, 32, 128, 128), judged="conv"),
    "123": _case(partial(_convolutions, channels=(64,) * 4), _half(1, 32, 128, 128), judged="relu"),
    "125": _case(_around_half, ((4, 4), "fp32"), ((4, 4), "fp32"), judged="matmul"),
    "126": _case(_around_half, ((4, 4), "fp32"), ((4, 4), "fp32"), judged="cast"),
    "127": _case(_around_half, ((512, 512), "fp32"), ((512, 512), "fp32"), judged="matmul"),
    "128": _case(_around_half, ((512, 512), "fp32"), ((512, 512), "fp32"), judged="cast"),
    "129": _case(_attention, _heads(16, 2048, 64)),
    "130": _case(_attention, _heads(32, 1024, 128)),
    "133": _case(_attention, _heads(16, 1024, 64, "fp32")),
    "134": _case(_attention, _heads(32, 1024, 128, "fp32")),
    "136": _case(_embedding, _TOKENS),
    "137": _case(lambda mb, x: mb.cast(x=x, dtype="fp16"), _TOKENS),
    "138": _case(_decoder, _half(128, 1024)),
    "154": _case(partial(_embedding, rows=65_536, width=1024), _TOKENS),
    "155": _case(lambda mb, x: mb.cast(x=x, dtype="fp16"), _TOKENS),
    "156": _case(_states, ((1, 1024, 3, 1), "state"), _half(1, 1024, 3, 1)),
    "157": _case(partial(_one_by_one, layers=4), _half(1, 1024, 128, 1), **_LISTED),
    "158": _case(_by_best, _half(1, 3600), _half(1, 3600, 4), judged="topk"),
    "159": _case(_by_best, _half(1, 3600), _half(1, 3600, 4), judged="expand_dims"),
    "160": _case(_by_best, _half(1, 3600), _half(1, 3600, 4), judged="tile"),
    "161": _case(_by_best, _half(1, 3600), _half(1, 3600, 4), judged="gather_along_axis"),
    "162": _case(_wide(256), _half(1, 300, 256)),
    "163": _case(_encoder, _half(1, 300, 256)),
    "164": _case(_one_by_one, _half(1, 384, 1, 1500)),
    "165": _case(partial(_convolutions, channels=_SOME), _half(1, 3, 384, 512)),
    "166": _case(
        partial(_convolutions, channels=_SOME, kind=np.float32), ((1, 3, 384, 512), "fp32")
    ),
    "167": _case(_encoder, _FRAMES),
    "184": _case(partial(_blockwise, columns=512, bits=4), _half(1, 512), size=1_610_000_000),
    "185": _case(partial(_blockwise, columns=512, bits=4), _half(1, 512), size=2_150_000_000),
    "186": _case(
        partial(_blockwise, columns=512, bits=4),
        _half(1, 512),
        size=3_220_000_000,
        largest_file=1_070_000_000,
    ),
    "187": _case(partial(_blockwise, columns=8192, bits=4), _half(1, 8192)),
    "188": _case(_decoder, _half(64, 1280)),
    "189": _case(partial(_palettized, columns=1280), _half(64, 1280)),
    "190": _case(partial(_blockwise, columns=1280, bits=4, blocks=40), _half(64, 1280)),
    "191": _case(partial(_blockwise, columns=1280, bits=4), _half(64, 1280)),
    "193": _case(_causal, _heads(12, 64, 64)),
    "194": _case(_attention, _heads(12, 64, 64)),
    "195": _case(_encoder, _half(1, 512, 384)),
    "196": _case(_encoder, _half(1, 512, 384), **_RANGE),
    "197": _case(_encoder, _half(1, 512, 384), **_LISTED),
    "198": _case(_attention, _heads(12, 128, 32), _half(1, 1, 128, 128)),
    "199": _case(_embedding, _TOKENS),
    "200": _case(_normalised, _half(1, 2048, 2048), **_RANGE),
    "201": _case(_normalised, _half(1, 2048, 2048), **_LISTED),
    "202": _case(_wide(2048), _half(1, 2048, 2048), **_LISTED),
    "203": _case(partial(_convolutions, channels=(64,) * 5), _IMAGE, **_RANGE),
    "204": _case(partial(_convolutions, channels=(64,) * 5), _IMAGE, **_RANGE),
    "205": _case(partial(_convolutions, channels=(64,) * 5), _IMAGE, **_LISTED),
    "206": _case(partial(_convolutions, channels=_SOME), _IMAGE, **_RANGE),
    "207": _case(partial(_convolutions, channels=_SOME), _IMAGE),
    "208": _case(_resampled, _MAP),
    "209": _case(partial(_recurrent, "lstm", np.float32), _half(*_BLOCK), _half(1), judged="lstm"),
    "210": _case(
        lambda mb, x: mb.gather_along_axis(x=x, indices=_zeros(262_144, 4, kind=np.int32), axis=0),
        _half(262_144, 4),
    ),
    "211": _case(
        lambda mb, x: mb.conv_transpose(x=x, weight=_zeros(16, 16, 8, 1), strides=[4, 1]), _MAP
    ),
    "212": _case(_between_convolutions(_resampled), _MAP, judged="resample"),
    "213": _case(
        _between_convolutions(
            lambda mb, x: mb.gather(x=x, indices=np.arange(64, dtype=np.int32), axis=3)
        ),
        _MAP,
        judged="gather",
    ),
    "215": _case(_best, _half(1, 3072, 1, 1), judged="topk"),
    "216": _case(_best, _half(1, 3072, 1, 1), judged="cast"),
    "217": _case(_best, _half(1, 3072, 1, 1), judged="conv"),
    "218": _case(lambda mb, x: mb.reduce_argmax(x=x, axis=1), _half(1, 16_384, 1, 1)),
    "219": _case(_decoder, _half(1, 2048)),
    "220": _case(_in_five_axes, _half(1, 128, 768)),
    "221": _case(_in_five_axes, _half(2, 128, 768)),
    "222": _case(_embedding, _TOKENS),
    "223": _case(_embedding, ((1, 128), "int16")),
    "224": _case(_embedding, ((1, 128), "uint16")),
    "225": _case(lambda mb, x: mb.cast(x=x, dtype="uint16"), _TOKENS),
    "226": _case(
        partial(_written_back, early=True),
        (_BLOCK, "state"),
        _half(1, 64, 1, 1),
        judged="slice_update",
    ),
    "227": _case(
        partial(_written_back, early=False),
        (_BLOCK, "state"),
        _half(1, 64, 1, 1),
        judged="slice_update",
    ),
    **{
        number: _case(_decoder, _half(1, 1024), judged=op)
        for number, op in (("228", "mul"), ("229", "reduce_mean"), ("230", "add"), ("231", "rsqrt"))
    },
    "232": _case(
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[28, 28], strides=[2, 2], pad_type="valid"),
        _half(1, 64, 56, 56),
    ),
    "233": _case(
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[4, 4], strides=[4, 4], pad_type="valid"),
        _half(1, 64, 56, 56),
    ),
    "234": _case(
        lambda mb, x: mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=28, scale_factor_width=28
        ),
        _half(1, 64, 2, 2),
    ),
    "235": _case(
        lambda mb, x, y: mb.mul(x=x, y=mb.relu(x=y)), _half(1, 64, 28, 28), _half(1, 64, 1, 1)
    ),
    "236": _case(partial(_embedding, rows=50_257, width=768), _TOKENS),
}
"""Observations that need more than one operation of their kind: id -> program."""
