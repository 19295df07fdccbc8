"""The exporter: the parts of a model as arrays and a description of how they are joined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.manifest import Port
from lpa_export.formats.schemes import Scheme
from lpa_export.hosts import parts_of
from lpa_export.hosts.parts import Layer, Parts
from lpa_export.layers import LPA
from lpa_export.targets import Job, Written
from lpa_export.targets.describe import families, normalisation, own_words, taps, tools

from .runner import ARTIFACT, NpzRuntime
from .settings import NpzSettings

Named = Iterator[tuple[str, Tensor]]


class NpzTarget:
    """`model.npz`: float32, any length, one utterance at a time."""

    def check(self, checkpoint: Checkpoint, settings: NpzSettings, scheme: Scheme) -> None:
        """Raise LpaError for parts that the numpy runner has no line for."""
        parts = parts_of(checkpoint)
        plain = len(parts.positional) == 1 and not (
            parts.positional[0].norm or parts.positional[0].affine
        )
        adapted = parts.length_adapter or any(layer.adapter for layer in parts.layers)
        if not plain or adapted or parts.position_bias:
            raise LpaError(f"{checkpoint.name}: target npz is for plain wav2vec2 models")

    def write(self, job: Job, folder: Path) -> Written:
        """Write `model.npz`."""
        parts = parts_of(job.checkpoint)
        job.announce("writing the arrays")
        arrays: dict[str, Any] = {name: value.detach().numpy() for name, value in _named(parts)}
        about = {"model": _structure(parts), "words": own_words(job.checkpoint)}
        save = np.savez_compressed if job.settings.packing == "deflate" else np.savez
        save(folder / ARTIFACT, about=np.array(json.dumps(about)), **arrays)
        return Written(
            artifacts=(ARTIFACT,),
            lowering=families(parts, "windows_of_prefix_sums"),
            normalisation=normalisation(parts.do_normalize),
            inputs=(Port(name="waveform", dtype="float32", shape=("samples",)),),
            outputs=(
                Port(name="logits", dtype="float32", shape=("frames", parts.head.out_features)),
            ),
            taps=taps(parts, lambda name: name),
            buckets=None,
            tools=tools("numpy", "torch", "transformers"),
            runtime=NpzRuntime(arrays=len(arrays)),
        )


def _structure(parts: Parts) -> dict[str, Any]:
    """What the arrays do not say: plain values for JSON."""
    norms = {nn.LayerNorm: "layer", nn.GroupNorm: "group", type(None): None}
    (positional,) = parts.positional
    return {
        "do_normalize": parts.do_normalize,
        "norm_first": parts.norm_first,
        "epsilon": parts.norm.eps,
        "features": [
            {"stride": layer.conv.stride[0], "norm": norms[type(layer.norm)]}
            for layer in parts.features
        ],
        "groups": positional.conv.groups,
        "trim": positional.trim,
        "layers": [_layer_structure(layer) for layer in parts.layers],
    }


def _layer_structure(layer: Layer) -> dict[str, Any]:
    if layer.attention:
        return {"heads": layer.attention.heads, "scaling": layer.attention.scaling}
    assert layer.lpa is not None
    config = layer.lpa.config
    names = ("aperiodic", "max_offset", "min_width", "max_width")
    return {"heads": config.num_heads, "lpa": {name: getattr(config, name) for name in names}}


def _named(parts: Parts) -> Named:
    """Every array by the name that the runner asks for."""
    for index, feature in enumerate(parts.features):
        yield from _of(f"features.{index}.conv", feature.conv)
        yield from _of(f"features.{index}.norm", feature.norm)
    yield from _of("feature_norm", parts.feature_norm)
    yield from _of("projection", parts.projection)
    yield from _of("positional", parts.positional[0].conv)
    yield from _of("norm", parts.norm)
    yield from _of("head", parts.head)
    for index, layer in enumerate(parts.layers):
        place = f"layers.{index}"
        yield from _of(f"{place}.norm", layer.norm)
        yield from _of(f"{place}.final_norm", layer.final_norm)
        yield from _of(f"{place}.expand", layer.feed_forward.expand)
        yield from _of(f"{place}.contract", layer.feed_forward.contract)
        if layer.attention:
            for name in ("query", "key", "value", "output"):
                yield from _of(f"{place}.{name}", getattr(layer.attention, name))
        elif layer.lpa:
            yield from _of_lpa(place, layer.lpa)


def _of_lpa(place: str, lpa: LPA) -> Named:
    for name in ("value", "output", "context", "controls"):
        yield from _of(f"{place}.{name}", getattr(lpa, name))
    for windows in lpa.fixed_windows():
        if windows is not None:
            for name, value in windows._asdict().items():
                yield f"{place}.{type(windows).__name__.lower()}.{name}", value


def _of(name: str, module: nn.Module | None) -> Named:
    for kind, value in module.named_parameters() if module else ():
        yield f"{name}.{kind}", value
