"""The whole model in mlx and numpy: any length, from `model.safetensors` and `config.json` alone.

    from lpa_export.targets.mlx.model import load

    model = load("build/an4-tiny/mlx")
    logits = model(waveform)  # (B, samples) float32 at the bundle's rate -> (B, frames, V) float32

Without torch. The order of a speech encoder is that of `lpa_export.targets.skeleton`; the parts are
those of the plain description (`lpa_export.targets.plain`), which `config.json` holds under
`model`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.targets.mlx.kernel import TOLERANCE, Compared, gpu_kernel
from lpa_export.targets.mlx.layers import TYPES, EncoderLayers, weights_of
from lpa_export.targets.mlx.lpa import Frames, Means, framed, gathered
from lpa_export.targets.mlx.operators import ACTIVATIONS, silenced, total

__all__ = ["CONFIG", "KERNEL", "WEIGHTS", "Model", "load"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"

KERNEL = "kernel"
"""Of `means` in `config.json`: windows are averaged by a kernel of the GPU."""


def load(folder: str | Path, *, fused: bool = True, kernel: bool | None = None) -> Model:
    """The model of a bundle, or of any folder with those two files.

    `fused`: kept attention by `mx.fast.scaled_dot_product_attention`, else by two products and a
    softmax, to compare with. `kernel`: windows averaged by a kernel of the GPU, None: where
    `config.json` says so; it is compared with the plain form on the bundle's golden clips before,
    and where it is not the same, or there is nothing to compare it on, the plain form stays and an
    LpaWarning says why. Raises OSError, ValueError or KeyError for files that are not those.
    """
    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    arrays = mx.load(str(folder / WEIGHTS))
    assert isinstance(arrays, dict)
    model = Model(config, arrays, fused=fused)
    # Bundles of earlier versions do not say how windows are averaged.
    if config.get("means") == KERNEL if kernel is None else kernel:
        try:
            model.means = _compared(model, gpu_kernel(), folder)
        except (LpaError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            warnings.warn(
                f"{folder}: the kernel of window means is not used, the plain form is: {said}",
                LpaWarning,
                stacklevel=2,
            )
    return model


def _compared(model: Model, kernel: Means, folder: Path) -> Means:
    """The kernel, which gave what the plain form gives on the golden clips.

    Raises ValueError where it did not, LpaError where there are no clips, and what MLX raises where
    it does not build.
    """
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.formats.golden import read_golden
    from lpa_export.runtimes import pad

    padded, lengths = pad([clip.waveform for clip in read_golden(open_bundle(folder))])
    model.means = compared = Compared(kernel)
    try:
        mx.eval(model.logits(mx.array(padded), mx.array(lengths, mx.int32)))
    finally:
        model.means = gathered
    if not compared.worst <= TOLERANCE:
        raise ValueError(
            f"on the golden clips it is off by {compared.worst:.2g} of a layer's largest value, "
            f"{TOLERANCE:g} may be"
        )
    return kernel


class Model:
    """See `load`. Called it is compiled, once for each shape."""

    def __init__(
        self, config: Mapping[str, Any], arrays: Mapping[str, mx.array], *, fused: bool = True
    ) -> None:
        self.structure: Mapping[str, Any] = config["model"]
        self._type = TYPES[config["compute"]]
        self._weights = weights_of(config, arrays)
        self._layers = EncoderLayers(
            self._weights,
            self._type,
            sums=config["sums"],
            norm_first=self.structure["norm_first"],
            fused=fused,
        )
        self._whole: Callable[[mx.array], mx.array] = mx.compile(self.logits)
        self._padded: Callable[[mx.array, mx.array], mx.array] = mx.compile(self.logits)

    @property
    def means(self) -> Means:
        """How windows are averaged; set before the first call, which compiles it."""
        return self._layers.means

    @means.setter
    def means(self, chosen: Means) -> None:
        self._layers.means = chosen

    def __call__(self, waveform: mx.array, lengths: mx.array | None = None) -> mx.array:
        """Logits (B, frames, V) float32 of waveforms (B, samples) float32.

        lengths: (B,) int32, valid samples of each, None: all of them. Frames behind those of the
        speech mean nothing.
        """
        return self._whole(waveform) if lengths is None else self._padded(waveform, lengths)

    def logits(self, waveform: mx.array, lengths: mx.array | None = None) -> mx.array:
        """The same, not compiled."""
        return self.taps(waveform, lengths)["logits"]

    def taps(self, waveform: mx.array, lengths: mx.array | None = None) -> dict[str, mx.array]:
        """Every point at which the model is compared with its reference, (B, frames, width)."""
        structure, weights = self.structure, self._weights
        hidden, frames = self._front(waveform, lengths)
        found = {"features": hidden}
        norm = structure["feature_norm"]
        if norm is not None:
            hidden = weights.norm(hidden, "feature_norm", norm["epsilon"])
        hidden = found["projection"] = weights.linear(hidden, "projection")
        # Convolutions look past the end: there must be nothing.
        hidden = silenced(hidden, frames.valid)
        hidden = hidden + self._positional(hidden, frames)
        if not structure["norm_first"]:
            hidden = self._norm(hidden)
        found["encoder.embed"] = hidden
        bias = self._position_bias(frames)
        for index, layer in enumerate(structure["layers"]):
            hidden = self._layers(hidden, f"layers.{index}", layer, frames, bias)
            found[f"encoder.layers.{index}"] = hidden
        if structure["norm_first"]:
            hidden = self._norm(hidden)
        if structure["length_adapter"] is not None:
            hidden = self._shortened(hidden, structure["length_adapter"], frames)
        found["logits"] = weights.linear(hidden, "head")
        return found

    def _norm(self, hidden: mx.array) -> mx.array:
        return self._weights.norm(hidden, "norm", self.structure["norm"]["epsilon"])

    def _front(self, waveform: mx.array, lengths: mx.array | None) -> tuple[mx.array, Frames]:
        """Features, and the frames that they are of."""
        frames = framed(waveform.shape[1], lengths)
        norm = self.structure["features"][0]["norm"]
        if self.structure["do_normalize"]:
            waveform = _normalised(waveform, frames)
        elif norm is not None and norm["kind"] == "group":
            waveform = _centred(waveform, frames)  # as `Parts.levelling` says
        waveform = silenced(waveform[..., None], frames.valid)
        hidden = waveform.astype(self._type)
        for index, layer in enumerate(self.structure["features"]):
            place, norm = f"features.{index}", layer["norm"]
            kernel = self._weights[f"{place}.conv.weight"].shape[1]
            hidden = self._weights.convolution(hidden, f"{place}.conv", stride=layer["stride"])
            frames = _behind(frames, hidden.shape[1], kernel, layer["stride"], 0)
            if norm is not None and norm["kind"] == "group":
                hidden = self._weights.norm_over_time(
                    hidden, f"{place}.norm", norm["epsilon"], frames.valid
                )
            elif norm is not None:
                hidden = self._weights.norm(hidden, f"{place}.norm", norm["epsilon"])
            hidden = ACTIVATIONS[layer["activation"]](hidden)
        return hidden, frames

    def _positional(self, hidden: mx.array, frames: Frames) -> mx.array:
        """What is added to hidden (B, T, D), zero at padding."""
        weights = self._weights
        for index, layer in enumerate(self.structure["positional"]):
            place = f"positional.{index}"
            if layer["affine"]:
                hidden = hidden * weights[f"{place}.affine.scale"]
                hidden = hidden + weights[f"{place}.affine.shift"]
            hidden = weights.convolution(
                silenced(hidden, frames.valid),
                f"{place}.conv",
                padding=layer["padding"],
                groups=layer["groups"],
            )[:, : frames.number]
            if layer["norm"] is not None:
                hidden = weights.norm(hidden, f"{place}.norm", layer["norm"]["epsilon"])
            hidden = ACTIVATIONS[layer["activation"]](hidden)
        return hidden

    def _position_bias(self, frames: Frames) -> mx.array | None:
        """(H, T, T) of query t (rows) and key s, from the table by clipped distance s - t."""
        stated = self.structure["position_bias"]
        if stated is None:
            return None
        number = mx.arange(frames.number)
        distance = mx.clip(number[None] - number[:, None], -stated["reach"], stated["reach"])
        return self._weights["position_bias.table"][distance + stated["reach"]].transpose(2, 0, 1)

    def _shortened(self, hidden: mx.array, adapter: Mapping[str, Any], frames: Frames) -> mx.array:
        """Strided convolutions with gated linear units: fewer frames."""
        weights = self._weights
        if adapter["projection"]:
            hidden = weights.linear(hidden, "length_adapter.projection")
        if adapter["norm"] is not None:
            hidden = weights.norm(hidden, "length_adapter.norm", adapter["norm"]["epsilon"])
        for index, layer in enumerate(adapter["convolutions"]):
            place = f"length_adapter.convolutions.{index}"
            stride, padding = layer["stride"], layer["padding"]
            kernel = weights[f"{place}.weight"].shape[1]
            hidden = weights.convolution(
                silenced(hidden, frames.valid), place, stride=stride, padding=padding
            )
            frames = _behind(frames, hidden.shape[1], kernel, stride, padding)
            value, gate = mx.split(hidden, 2, axis=-1)
            hidden = value * mx.sigmoid(gate)
        return hidden


def _behind(frames: Frames, count: int, kernel: int, stride: int, padding: int) -> Frames:
    """The frames behind a convolution: floor((n + 2 padding - kernel) / stride) + 1 of n."""
    lengths = frames.lengths
    if lengths is not None:
        lengths = mx.maximum(lengths + (2 * padding - kernel + stride), 0) // stride
    return framed(count, lengths)


def _normalised(waveform: mx.array, samples: Frames) -> mx.array:
    """Zero mean and unit variance over each utterance's own samples."""
    centred = _centred(waveform, samples)
    variance = _mean(mx.square(centred), samples)
    return centred * mx.rsqrt(variance + NORMALISATION_EPSILON)


def _centred(waveform: mx.array, samples: Frames) -> mx.array:
    """Zero mean over each utterance's own samples, zero behind them."""
    speech = waveform if samples.valid is None else mx.where(samples.valid, waveform, 0.0)
    centred = speech - _mean(speech, samples)
    return centred if samples.valid is None else mx.where(samples.valid, centred, 0.0)


def _mean(values: mx.array, samples: Frames) -> mx.array:
    """(B, 1) of (B, N), zero behind each utterance."""
    if samples.lengths is None:
        return total(values) / values.shape[1]
    return total(values) / mx.maximum(samples.lengths, 1).astype(mx.float32)[:, None]
