"""Layers of an encoder over named weights, whatever the model is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from lpa_export.targets.mlx.lpa import Frames, Means, gathered, mix
from lpa_export.targets.mlx.operators import ACTIVATIONS, Weights

__all__ = ["TYPES", "EncoderLayers", "weights_of"]

TYPES = {"fp32": mx.float32, "fp16": mx.float16, "bf16": mx.bfloat16}
"""By what `config.json` says under `compute`."""

_MASKED_SCORE = -1e4
"""Added to the score of a key behind the end. Not -inf: a row of nothing else would be NaN."""


def weights_of(config: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Weights:
    """The arrays of a bundle as its `config.json` says that they are kept."""
    quantised = config["quantised"] or {"bits": None, "group_size": None}
    return Weights(arrays, **quantised)


class EncoderLayers:
    """Attention or LPA, then two linear maps, with norms before (`norm_first`) or behind.

    `sums` as in `lpa.SUMS`; `fused`: kept attention by `mx.fast.scaled_dot_product_attention`.
    """

    def __init__(
        self, weights: Weights, compute: mx.Dtype, *, sums: str, norm_first: bool, fused: bool
    ) -> None:
        self._weights, self._type = weights, compute
        self._sums, self._norm_first, self._fused = sums, norm_first, fused
        self.means: Means = gathered
        """How windows are averaged."""

    def __call__(
        self,
        hidden: mx.array,
        place: str,
        layer: Mapping[str, Any],
        frames: Frames,
        bias: mx.array | None = None,
    ) -> mx.array:
        """(B, T, D) -> (B, T, D): the layer whose weights are at `place`; `layer`: its entry in the
        plain description; `bias` (H, T, T): the host's position bias."""
        weights = self._weights

        def mixed(values: mx.array) -> mx.array:
            if layer["lpa"] is not None:
                made = mix(values, place, layer["lpa"], weights, frames, self._sums, self.means)
            else:
                made = self._attention(values, place, layer["attention"], frames, bias)
            return made.astype(self._type)

        def fed_forward(values: mx.array) -> mx.array:
            values = ACTIVATIONS[layer["activation"]](weights.linear(values, f"{place}.expand"))
            return weights.linear(values, f"{place}.contract")

        def norm(values: mx.array, name: str) -> mx.array:
            return weights.norm(values, f"{place}.{name}", layer[name]["epsilon"])

        if self._norm_first:
            hidden = hidden + mixed(norm(hidden, "norm"))
            hidden = hidden + fed_forward(norm(hidden, "final_norm"))
        else:
            hidden = norm(hidden + mixed(hidden), "norm")
            hidden = norm(hidden + fed_forward(hidden), "final_norm")
        adapter = layer["adapter"]
        if adapter is None:
            return hidden
        added = weights.norm(hidden, f"{place}.adapter.norm", adapter["norm"]["epsilon"])
        added = ACTIVATIONS[adapter["activation"]](weights.linear(added, f"{place}.adapter.down"))
        return hidden + weights.linear(added, f"{place}.adapter.up")

    def _attention(
        self,
        hidden: mx.array,
        place: str,
        layer: Mapping[str, Any],
        frames: Frames,
        bias: mx.array | None,
    ) -> mx.array:
        heads, weights = layer["heads"], self._weights
        query, key, value = (
            _heads(weights.linear(hidden, f"{place}.{name}"), heads)
            for name in ("query", "key", "value")
        )
        mask = None
        if frames.valid is not None:
            mask = mx.where(frames.valid, 0.0, _MASKED_SCORE)[:, None, None]
        if layer["gate"] and bias is not None:
            first, second = mx.split(
                mx.sigmoid(weights.linear(hidden, f"{place}.gate")), 2, axis=-1
            )
            gate = first * (second * weights[f"{place}.gate.constant"] - 1.0) + 2.0
            gated = gate.transpose(0, 2, 1)[..., None] * bias
            mask = gated if mask is None else gated + mask
        if mask is not None:
            mask = mask.astype(query.dtype)
        if self._fused:
            mixed = mx.fast.scaled_dot_product_attention(
                query, key, value, scale=layer["scaling"], mask=mask
            )
        else:
            scores = (query * layer["scaling"]) @ key.swapaxes(-1, -2)
            scores = scores if mask is None else scores + mask
            mixed = mx.softmax(scores, axis=-1, precise=True) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(hidden.shape)
        return weights.linear(mixed, f"{place}.output")


def _heads(hidden: mx.array, heads: int) -> mx.array:
    """(B, T, D) -> (B, H, T, d)."""
    return hidden.reshape(*hidden.shape[:2], heads, -1).transpose(0, 2, 1, 3)
