"""The programs of a bundle: the front end and an encoder per bucket, or the whole model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpa_export.formats.manifest import Bucket
from lpa_export.targets.coreml.convert import Input, Program, convert
from lpa_export.targets.coreml.kit import split_kit, whole_kit
from lpa_export.targets.coreml.limits import BLOCK
from lpa_export.targets.coreml.normalisation import ValidPositions
from lpa_export.targets.skeleton import Skeleton

if TYPE_CHECKING:
    from lpa_export.hosts.parts import Parts

__all__ = [
    "Encoder",
    "FrontEnd",
    "TappedEncoder",
    "WholeModel",
    "edges_tensor",
    "encoder_program",
    "front_end_program",
    "tap_tensor",
    "tapped_outputs",
    "tapped_program",
    "whole_program",
]


class FrontEnd(Skeleton):
    """waveform (1, N), exactly the valid samples -> projected features, features."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, split_kit(BLOCK), encoder=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (1, N) -> projected (1, D, 1, frames), features (1, C, 1, frames)."""
        features, projected, _, _ = self.front(waveform)
        return projected, features


class Encoder(Skeleton):
    """The rest of the model for exactly `frames` frames, a multiple of `limits.BLOCK`."""

    def __init__(self, parts: Parts, frames: int) -> None:
        super().__init__(parts, split_kit(frames), front_end=False)

    def forward(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """projected (1, D, 1, T), finite at padding; mask (1, 1, 1, T), 1 or 0.

        Returns logits (1, V, 1, T), the embedded input and each layer's output (1, D, 1, T).
        Nothing at padding means anything.
        """
        return tuple(self.encode(projected, mask))


class TappedEncoder(Encoder):
    """An encoder that tells the edges of its aperiodic windows too."""

    def forward(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """What `Encoder` returns, then for each layer with such windows (1, 2 H K, 1, T)."""
        edges: list[Tensor] = []
        layers: Iterable[Any] = self.layers
        handles = [
            layer.lpa.edges.register_forward_hook(lambda *seen: edges.append(seen[2]))
            for layer in layers
            if layer.lpa is not None and layer.lpa.edges is not None
        ]
        try:
            outputs = self.encode(projected, mask)
        finally:
            for handle in handles:
                handle.remove()
        return *outputs, *edges


class WholeModel(Skeleton):
    """The whole model for `frames` frames; `samples`: those of exactly so many frames."""

    def __init__(self, parts: Parts, frames: int, samples: int) -> None:
        super().__init__(parts, whole_kit(frames, samples))
        self.positions = ValidPositions(samples, parts.front_end)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, ...]:
        """waveform (1, N), zero behind the valid samples; samples (1,) float32.

        Returns what `Encoder` returns, then the features and projected features (1, C, 1, T).
        """
        features, projected, mask, _ = self.front(waveform, self.positions(samples))
        return *self.encode(projected, mask), features, projected


def tap_tensor(tap: str, layout: str) -> str:
    """The name of a tap's value; outputs of a program keep their own."""
    if tap == "logits":
        return tap
    if tap == "projection" and layout == "split":
        return "projected"
    return "stage_" + tap.replace(".", "_")


def edges_tensor(layer: int) -> str:
    """The name of a layer's window edges, an output of the tapped program."""
    return f"edges_{layer}"


def front_end_program(
    front_end: FrontEnd, shortest: int, longest: int, *, deployment_target: str, half: bool
) -> Program:
    """Waveform (1, N), `shortest` <= N <= `longest` -> `projected`."""
    waveform = torch.zeros(1, min(longest, 16 * shortest))
    return convert(
        front_end,
        [Input("waveform", waveform, float32=True, shortest=shortest, longest=longest)],
        [tap_tensor(tap, "split") for tap in ("projection", "features")],
        deployment_target=deployment_target,
        half=half,
    )


def encoder_program(parts: Parts, bucket: Bucket, *, deployment_target: str, half: bool) -> Program:
    """`projected` (1, D, 1, T) and `mask` (1, 1, 1, T) -> `logits` (1, V, 1, T)."""
    return convert(
        Encoder(parts, bucket.frames),
        _encoder_inputs(parts, bucket),
        _encoder_outputs(parts),
        deployment_target=deployment_target,
        half=half,
    )


def tapped_program(parts: Parts, bucket: Bucket, *, deployment_target: str, half: bool) -> Program:
    """The same with the edges of its windows, and all of it to stay outputs."""
    return convert(
        TappedEncoder(parts, bucket.frames),
        _encoder_inputs(parts, bucket),
        tapped_outputs(parts),
        deployment_target=deployment_target,
        half=half,
    )


def tapped_outputs(parts: Parts) -> list[str]:
    """The outputs of `tapped_program`, in its order."""
    moving = (n for n, layer in enumerate(parts.layers) if layer.lpa and layer.lpa.config.aperiodic)
    return [*_encoder_outputs(parts), *map(edges_tensor, moving)]


def whole_program(parts: Parts, bucket: Bucket, *, deployment_target: str, half: bool) -> Program:
    """`waveform` (1, N), zero behind the valid `samples` (1,) -> `logits` (1, V, 1, T)."""
    return convert(
        WholeModel(parts, bucket.frames, bucket.samples),
        [
            Input("waveform", torch.zeros(1, bucket.samples), float32=True),
            Input("samples", torch.tensor([float(bucket.samples)]), float32=True),
        ],
        [
            *_encoder_outputs(parts),
            *(tap_tensor(tap, "whole") for tap in ("features", "projection")),
        ],
        deployment_target=deployment_target,
        half=half,
    )


def _encoder_inputs(parts: Parts, bucket: Bucket) -> list[Input]:
    return [
        Input("projected", torch.zeros(1, parts.projection.out_features, 1, bucket.frames)),
        Input("mask", torch.ones(1, 1, 1, bucket.frames)),
    ]


def _encoder_outputs(parts: Parts) -> list[str]:
    names = list(parts.taps)
    return ["logits", *(tap_tensor(tap, "split") for tap in names[2:-1])]
