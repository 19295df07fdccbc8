"""Convolutions against loops that follow the definition, in float64."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]

quick = settings(max_examples=15, deadline=None)


def convolved(
    x: Any, weight: Any, bias: Any, strides: Any, dilations: Any, groups: int, pads: Any
) -> Any:
    """Every output element as its own sum; ``pads`` are (before, after) per axis."""
    x = np.pad(np.asarray(x, np.float64), [(0, 0), (0, 0), *pads])
    kernel = weight.shape[2:]
    sizes = [
        (x.shape[2 + a] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1
        for a in range(len(kernel))
    ]
    result = np.zeros((len(x), len(weight), *sizes))
    each_in, each_out = weight.shape[1], len(weight) // groups
    for n, c, *place in np.ndindex(result.shape):
        first = (c // each_out) * each_in
        total = 0.0 if bias is None else float(bias[c])
        for k in np.ndindex(*kernel):
            at = [place[a] * strides[a] + k[a] * dilations[a] for a in range(len(kernel))]
            total += x[(n, slice(first, first + each_in), *at)] @ weight[(c, slice(None), *k)]
        result[(n, c, *place)] = total
    return result


def spread(x: Any, weight: Any, strides: Any, dilations: Any, groups: int) -> Any:
    """A transposed convolution without padding: every input element adds a scaled kernel."""
    kernel = weight.shape[2:]
    sizes = [
        (x.shape[2 + a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1
        for a in range(len(kernel))
    ]
    each_in, each_out = x.shape[1] // groups, weight.shape[1]
    result = np.zeros((len(x), each_out * groups, *sizes))
    for n, c, *place in np.ndindex(x.shape):
        first = (c // each_in) * each_out
        for k in np.ndindex(*kernel):
            at = [place[a] * strides[a] + k[a] * dilations[a] for a in range(len(kernel))]
            values = float(x[(n, c, *place)]) * weight[(c, slice(None), *k)]
            result[(n, slice(first, first + each_out), *at)] += values
    return result


@st.composite
def cases(draw: st.DrawFn, transposed: bool = False) -> dict[str, Any]:
    """Random operands of a convolution over one to three axes."""
    axes = draw(st.integers(1, 3))
    small = st.integers(1, 3)
    per_axis = st.lists(small, min_size=axes, max_size=axes)
    groups, kernel, dilations = draw(small), draw(per_axis), draw(per_axis)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    extra = draw(st.lists(st.integers(0, 4), min_size=axes, max_size=axes))
    sizes = [e + (1 if transposed else s) for e, s in zip(extra, spans, strict=True)]
    each_in, each_out = draw(small), draw(small)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    channels = (each_in * groups, each_out) if transposed else (each_out * groups, each_in)
    return {
        "x": generator.normal(size=(draw(small), each_in * groups, *sizes)).astype(np.float32),
        "weight": generator.normal(size=(*channels, *kernel)).astype(np.float32),
        "bias": draw(
            st.sampled_from([None, generator.normal(size=each_out * groups).astype(np.float32)])
        ),
        "strides": draw(per_axis),
        "dilations": dilations,
        "groups": groups,
    }


@quick
@given(case=cases(), data=st.data())
def test_custom_and_no_padding(compute: Compute, case: dict[str, Any], data: st.DataObject) -> None:
    axes = case["x"].ndim - 2
    pad = data.draw(st.lists(st.integers(0, 3), min_size=2 * axes, max_size=2 * axes))
    found = compute("conv", pad_type="custom", pad=pad, **case)
    pads = list(zip(pad[0::2], pad[1::2], strict=True))
    np.testing.assert_allclose(found, convolved(pads=pads, **case), rtol=1e-4, atol=1e-5)
    found = compute("conv", pad_type="valid", pad=pad, **case)
    unpadded = [(0, 0)] * axes
    np.testing.assert_allclose(found, convolved(pads=unpadded, **case), rtol=1e-4, atol=1e-5)


@quick
@given(case=cases())
def test_same_padding_keeps_the_size_over_the_stride(
    compute: Compute, case: dict[str, Any]
) -> None:
    for kind in ("same", "same_lower"):
        pads = []
        for a, size in enumerate(case["x"].shape[2:]):
            span = (case["weight"].shape[2 + a] - 1) * case["dilations"][a] + 1
            # As few zeros as give one output per started stride, found by trying.
            total = next(
                n
                for n in itertools.count()
                if (size + n - span) // case["strides"][a] + 1 == -(-size // case["strides"][a])
                and size + n >= span
            )
            halves = (total // 2, total - total // 2)
            pads.append(halves if kind == "same" else halves[::-1])
        found = compute("conv", pad_type=kind, **case)
        assert found.shape[2:] == tuple(
            -(-size // s) for size, s in zip(case["x"].shape[2:], case["strides"], strict=True)
        )
        np.testing.assert_allclose(found, convolved(pads=pads, **case), rtol=1e-4, atol=1e-5)


@quick
@given(case=cases(transposed=True), data=st.data())
def test_transposed_convolution(
    compute: Compute, case: dict[str, Any], data: st.DataObject
) -> None:
    bias = case.pop("bias")
    whole = spread(**case)
    axes = whole.ndim - 2
    added = whole if bias is None else whole + bias.reshape(-1, *(1,) * axes)
    found = compute("conv_transpose", pad_type="valid", bias=bias, **case)
    np.testing.assert_allclose(found, added, rtol=1e-4, atol=1e-5)
    pads = [
        data.draw(st.tuples(st.integers(0, (n - 1) // 2), st.integers(0, (n - 1) // 2)))
        for n in whole.shape[2:]
    ]
    cut = tuple(
        slice(before, n - after) for (before, after), n in zip(pads, whole.shape[2:], strict=True)
    )
    pad = [count for pair in pads for count in pair]
    found = compute("conv_transpose", pad_type="custom", pad=pad, bias=bias, **case)
    np.testing.assert_allclose(found, added[(..., *cut)], rtol=1e-4, atol=1e-5)


@quick
@given(case=cases(transposed=True))
def test_transposed_same_padding_multiplies_the_size_by_the_stride(
    compute: Compute, case: dict[str, Any]
) -> None:
    case["bias"] = None
    found = compute("conv_transpose", pad_type="same", **case)
    del case["bias"]
    whole = spread(**case)
    for a, stride in enumerate(case["strides"], 2):
        size = case["x"].shape[a] * stride
        start = max(whole.shape[a] - size, 0) // 2
        short = np.zeros(
            [max(size - whole.shape[a], 0) if b == a else n for b, n in enumerate(whole.shape)]
        )
        whole = np.concatenate([whole, short], a).take(range(start, start + size), a)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "extra"), [([9], 0), ([10], 1), ([7], -2)])
def test_an_output_shape_asks_for_its_part(
    compute: Compute, size: Sequence[int], extra: int
) -> None:
    generator = np.random.default_rng(0)
    x, weight = generator.normal(size=(1, 2, 4)), generator.normal(size=(2, 3, 3))
    whole = spread(x, weight, [2], [1], 1)
    expected = np.pad(whole, [(0, 0), (0, 0), (0, max(extra, 0))])[..., : whole.shape[-1] + extra]
    found = compute(
        "conv_transpose", x=x, weight=weight, strides=[2], pad_type="valid", pad=[0, 0],
        output_shape=[1, 3, *size],
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output_padding", [0, 1])
def test_torch_modules_come_through_conversion(
    output_padding: int, converted: Callable[..., float]
) -> None:
    import torch

    layer = torch.nn.ConvTranspose1d(
        4, 6, 5, stride=3, padding=2, output_padding=output_padding, groups=2
    )
    assert converted(layer, (1, 4, 11)) > 110
