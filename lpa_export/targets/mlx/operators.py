"""Operators over named weights: what a part of the model is in MLX.

Shapes are (B, T, D), frames before channels. Weights lie as MLX wants them: linear (out, in),
convolutions (out, kernel, in / groups); quantised ones are three arrays, `weight`, `scales` and
`biases`, of `mx.quantize`, of whole groups of inputs. What is computed in float32 whatever the
scheme has its weights so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

__all__ = ["ACTIVATIONS", "Weights", "silenced", "total"]

_BLOCK = 512

ACTIVATIONS: Mapping[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,
    "gelu_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
}
"""By the names of the plain description."""


class Weights:
    """Arrays by name. `bits`, `group_size`: of the quantised ones, None where there are none."""

    def __init__(
        self, arrays: Mapping[str, mx.array], *, bits: int | None, group_size: int | None
    ) -> None:
        self._bits, self._group_size = bits, group_size
        self._arrays = {name: _as_used(name, array, arrays) for name, array in arrays.items()}
        mx.eval(list(self._arrays.values()))

    def __getitem__(self, name: str) -> mx.array:
        """The array of that name, linear weights as (in, out). Raises KeyError for no array."""
        return self._arrays[name]

    def linear(self, hidden: mx.array, place: str) -> mx.array:
        """(..., in) -> (..., out), in the precision of the weights; they may have no bias."""
        weight, bias = self[f"{place}.weight"], self._arrays.get(f"{place}.bias")
        scales = self._arrays.get(f"{place}.scales")
        hidden = hidden.astype((weight if scales is None else scales).dtype)
        if scales is None:
            return hidden @ weight if bias is None else mx.addmm(bias, hidden, weight)
        assert self._group_size is not None
        missing = scales.shape[-1] * self._group_size - hidden.shape[-1]
        if missing:  # the weights were filled up to whole groups
            hidden = mx.pad(hidden, [(0, 0)] * (hidden.ndim - 1) + [(0, missing)])
        product = mx.quantized_matmul(
            hidden,
            weight,
            scales,
            self[f"{place}.biases"],
            transpose=True,
            group_size=self._group_size,
            bits=self._bits,
        )
        return product if bias is None else product + bias

    def norm(self, hidden: mx.array, place: str, epsilon: float) -> mx.array:
        """Over the channels."""
        weight, bias = self[f"{place}.weight"], self[f"{place}.bias"]
        return mx.fast.layer_norm(hidden, weight, bias, epsilon)

    def norm_over_time(
        self, hidden: mx.array, place: str, epsilon: float, valid: mx.array | None
    ) -> mx.array:
        """A GroupNorm of one channel a group, its statistics over the valid frames (B, T)."""
        wide = hidden.astype(mx.float32)
        if valid is None:
            count = wide.shape[1]
            mean = total(wide) / count
            variance = total(mx.square(wide - mean)) / count
        else:
            share = valid.astype(mx.float32)
            share = (share / mx.maximum(share.sum(axis=1, keepdims=True), 1.0))[..., None]
            mean = total(wide * share)
            variance = total(mx.square(wide - mean) * share)
        scale = self[f"{place}.weight"] * mx.rsqrt(variance + epsilon)
        return ((wide - mean) * scale + self[f"{place}.bias"]).astype(hidden.dtype)

    def convolution(
        self, hidden: mx.array, place: str, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> mx.array:
        """(B, T, in) -> (B, T', out)."""
        weight = self[f"{place}.weight"]
        convolved = mx.conv1d(hidden.astype(weight.dtype), weight, stride, padding, 1, groups)
        bias = self._arrays.get(f"{place}.bias")
        return convolved if bias is None else convolved + bias

    def depthwise(self, hidden: mx.array, place: str) -> mx.array:
        """A convolution of each channel by itself, its length kept: (B, T, D) -> (B, T, D).

        As shifted copies, scaled and added: compiled they are one kernel.
        """
        kernel = self[f"{place}.weight"][..., 0].T
        reach, frames = kernel.shape[0] // 2, hidden.shape[1]
        around = mx.pad(hidden.astype(kernel.dtype), [(0, 0), (reach, reach), (0, 0)])
        shifted = [around[:, k : k + frames] * kernel[k] for k in range(kernel.shape[0])]
        return sum(shifted[1:], shifted[0])


def total(values: mx.array) -> mx.array:
    """Sum over axis 1, which is kept: (B, N, ...) -> (B, 1, ...), block by block.

    On a CPU mlx adds one number after another in float32, which costs 3e-5 of a sum over ten
    seconds of samples, and more the longer it is.
    """
    batch, count, *others = values.shape
    behind = -count % _BLOCK
    padded = mx.pad(values, [(0, 0), (0, behind), *[(0, 0)] * len(others)])
    return padded.reshape(batch, -1, _BLOCK, *others).sum(axis=2).sum(axis=1, keepdims=True)


def silenced(hidden: mx.array, valid: mx.array | None) -> mx.array:
    """(B, T, D) with zeros where `valid` (B, T) is False; None: all are valid."""
    if valid is None:
        return hidden
    return mx.where(valid[..., None], hidden, mx.zeros((), hidden.dtype))


def _as_used(name: str, array: mx.array, arrays: Mapping[str, Any]) -> mx.array:
    """Linear weights transposed, once: the product runs over whole rows on every backend."""
    quantised = name.replace(".weight", ".scales") in arrays
    linear = name.endswith(".weight") and array.ndim == 2
    return mx.contiguous(array.T) if linear and not quantised else array
