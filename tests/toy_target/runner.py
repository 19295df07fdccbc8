"""The runner: the model in numpy, written from its equations, one utterance at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lpa_export.runtimes import THREADS, Array, ArtifactError, Label

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["ARTIFACT", "NpzRunner", "NpzRuntime"]

ARTIFACT = "model.npz"
_erf = np.frompyfunc(math.erf, 1, 1)


class NpzRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest's ``runtime``."""

    arrays: int


class NpzRunner:
    """``model.npz`` of a bundle. Raises ArtifactError when it does not hold what was written."""

    label: Label = "measured"
    max_samples = None

    def __init__(self, bundle: Bundle, *, threads: int = THREADS) -> None:
        stated = bundle.runtime_as(NpzRuntime)
        try:
            with np.load(bundle.file(ARTIFACT), allow_pickle=False) as file:
                self._arrays = {name: file[name] for name in file.files}
            about = json.loads(str(self._arrays.pop("about")))
            self._model, words = about["model"], about["words"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{ARTIFACT} cannot be read ({error})") from error
        if len(self._arrays) != stated.arrays:
            raise ArtifactError(f"{len(self._arrays)} arrays, {stated.arrays} were written")
        self._taps = tuple(tap.name for tap in bundle.manifest.taps)
        self.min_samples = bundle.manifest.frames.receptive_field
        self._epsilon = bundle.manifest.normalisation.epsilon
        self.metadata: Mapping[str, str] = {name: str(value) for name, value in words.items()}

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(self._taps)

    def run(self, padded: Array, lengths: Sequence[int]) -> list[Array]:
        """Logits (valid frames, vocabulary) of each row of ``padded`` (batch, samples)."""
        return [
            self.taps(row[:length])["logits"] for row, length in zip(padded, lengths, strict=True)
        ]

    def taps(self, waveform: Array) -> dict[str, Array]:
        """All taps of one waveform (samples,): name to (frames, width)."""
        model = self._model
        if model["do_normalize"]:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + self._epsilon)
        hidden = waveform[:, None]
        for index, layer in enumerate(model["features"]):
            hidden = self._feature(hidden, f"features.{index}", layer)
        found = {"features": hidden}
        if "feature_norm.weight" in self._arrays:
            hidden = self._norm(hidden, "feature_norm")
        hidden = found["projection"] = self._linear(hidden, "projection")
        hidden = hidden + self._positional(hidden)
        if not model["norm_first"]:
            hidden = self._norm(hidden, "norm")
        found["encoder.embed"] = hidden
        for index, layer in enumerate(model["layers"]):
            hidden = self._layer(hidden, f"layers.{index}", layer)
            found[f"encoder.layers.{index}"] = hidden
        if model["norm_first"]:
            hidden = self._norm(hidden, "norm")
        found["logits"] = self._linear(hidden, "head")
        return {name: np.asarray(values, np.float32) for name, values in found.items()}

    def _feature(self, hidden: Array, place: str, layer: Mapping[str, Any]) -> Array:
        weight = self._arrays[f"{place}.conv.weight"]
        windows = sliding_window_view(hidden, weight.shape[2], axis=0)[:: layer["stride"]]
        hidden = np.einsum("tck,ock->to", windows, weight)
        hidden = hidden + self._arrays.get(f"{place}.conv.bias", 0)
        if layer["norm"]:
            over_time = layer["norm"]["kind"] == "group"
            hidden = self._norm(hidden, f"{place}.norm", axis=0 if over_time else 1)
        return _gelu(hidden)

    def _positional(self, hidden: Array) -> Array:
        weight = self._arrays["positional.0.conv.weight"]
        (groups,) = (layer["groups"] for layer in self._model["positional"])
        half = weight.shape[2] // 2
        windows = sliding_window_view(np.pad(hidden, ((half, half), (0, 0))), weight.shape[2], 0)
        parts = [
            np.einsum("tck,ock->to", given, kernels)
            for given, kernels in zip(
                np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
            )
        ]
        convolved = np.concatenate(parts, axis=1) + self._arrays["positional.0.conv.bias"]
        return _gelu(convolved[: len(hidden)])

    def _layer(self, hidden: Array, place: str, layer: Mapping[str, Any]) -> Array:
        mix = self._lpa if layer["lpa"] else self._attention
        if self._model["norm_first"]:
            hidden = hidden + mix(self._norm(hidden, f"{place}.norm"), place, layer)
            return hidden + self._feed_forward(self._norm(hidden, f"{place}.final_norm"), place)
        hidden = self._norm(hidden + mix(hidden, place, layer), f"{place}.norm")
        return self._norm(hidden + self._feed_forward(hidden, place), f"{place}.final_norm")

    def _feed_forward(self, hidden: Array, place: str) -> Array:
        return self._linear(_gelu(self._linear(hidden, f"{place}.expand")), f"{place}.contract")

    def _attention(self, hidden: Array, place: str, layer: Mapping[str, Any]) -> Array:
        query, key, value = (
            _heads(self._linear(hidden, f"{place}.{name}"), layer["attention"]["heads"])
            for name in ("query", "key", "value")
        )
        scores = layer["attention"]["scaling"] * np.einsum("thd,shd->hts", query, key)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.einsum("hts,shd->thd", scores / scores.sum(axis=-1, keepdims=True), value)
        return self._linear(mixed.reshape(len(hidden), -1), f"{place}.output")

    def _lpa(self, hidden: Array, place: str, layer: Mapping[str, Any]) -> Array:
        """Hard windows: means over integer ranges of frames, from one prefix sum."""
        frames, heads, config = len(hidden), layer["lpa"]["heads"], layer["lpa"]
        kernel = self._arrays[f"{place}.context.weight"][:, 0]
        half = kernel.shape[1] // 2
        around = sliding_window_view(np.pad(hidden, ((half, half), (0, 0))), kernel.shape[1], 0)
        controls = self._linear(np.einsum("tck,ck->tc", around, kernel), f"{place}.controls")
        pulses = heads * config["aperiodic"]
        offset, width, amplitude = np.split(controls, (pulses, 2 * pulses), axis=1)
        offset = _heads(config["max_offset"] * np.tanh(offset), heads)
        span = config["max_width"] - config["min_width"]
        width = _heads(config["min_width"] + span * _sigmoid(width), heads)
        amplitude = _heads(_sigmoid(amplitude), heads)
        frame = np.arange(frames)[:, None, None]
        starts = [np.ceil(frame + offset - width / 2)]
        ends = [np.ceil(frame + offset + width / 2)]
        if config["teeth"]:
            period, phase, tooth = map(np.asarray, config["teeth"])
            begin = phase + np.floor((frame + 0.5 - phase) / period) * period
            starts.append(np.ceil(begin - 0.5))
            ends.append(np.ceil(begin + tooth - 0.5))
        values = _heads(self._linear(hidden, f"{place}.value"), heads)
        sums = np.concatenate([np.zeros_like(values[:1], float), values.cumsum(0, dtype=float)])
        start, end = _clipped(np.concatenate(starts, 2), np.concatenate(ends, 2), frames=frames)
        local = start.shape[2]
        mixed = np.einsum("thk,thkd->thd", amplitude[..., :local], _means(sums, start, end))
        if config["shares"]:
            low, high = map(np.asarray, config["shares"])
            edges = (np.ceil(edge[None] * frames - 0.5) for edge in (low, high))
            start, end = _clipped(*edges, frames=frames)
            inside = (start <= frame) & (frame < end)
            gated = amplitude[..., local:] * inside
            mixed = mixed + np.einsum("thk,hkd->thd", gated, _means(sums, start, end)[0])
        return self._linear(mixed.reshape(frames, -1), f"{place}.output")

    def _linear(self, hidden: Array, place: str) -> Array:
        return hidden @ self._arrays[f"{place}.weight"].T + self._arrays[f"{place}.bias"]

    def _norm(self, hidden: Array, place: str, *, axis: int = 1) -> Array:
        centred = hidden - hidden.mean(axis=axis, keepdims=True)
        scale = np.sqrt(centred.var(axis=axis, keepdims=True) + self._model["norm"]["epsilon"])
        return centred / scale * self._arrays[f"{place}.weight"] + self._arrays[f"{place}.bias"]


def _heads(values: Array, heads: int) -> Array:
    """(T, H * x) as (T, H, x)."""
    return values.reshape(len(values), heads, -1)


def _clipped(start: Array, end: Array, *, frames: int) -> tuple[Any, Any]:
    """Whole frames, at least one in each window."""
    begin = np.clip(start, 0, frames - 1).astype(int)
    return begin, np.clip(end.astype(int), begin + 1, frames)


def _means(sums: Any, start: Any, end: Any) -> Any:
    """(T, H, K, d) of prefix sums (frames + 1, H, d) and windows (T, H, K)."""
    head = np.arange(sums.shape[1])[None, :, None]
    return (sums[end, head] - sums[start, head]) / (end - start)[..., None]


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def _gelu(values: Any) -> Any:
    step = _erf(values / math.sqrt(2)).astype(np.float64)
    return (values * 0.5 * (1 + step)).astype(np.float32)
