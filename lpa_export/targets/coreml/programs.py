"""The programs of a bundle: the front end and an encoder per bucket, or the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lpa_export.hosts import encoder_layers
from lpa_export.runtimes.torch import tap_names
from lpa_export.targets.coreml.buckets import Bucket
from lpa_export.targets.coreml.convert import Input, Program, convert
from lpa_export.targets.coreml.encoder import Encoder
from lpa_export.targets.coreml.frontend import FrontEnd
from lpa_export.targets.coreml.whole import WholeModel

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint

__all__ = ["encoder_program", "front_end_program", "stage_tensor", "whole_program"]


def stage_tensor(stage: str, layout: str) -> str:
    """The name of a stage's value; outputs of a program keep their own."""
    if stage == "logits":
        return stage
    if stage == "projection" and layout == "split":
        return "projected"
    return "stage_" + stage.replace(".", "_")


def front_end_program(
    front_end: FrontEnd, shortest: int, longest: int, *, deployment_target: str, half: bool
) -> Program:
    """Waveform (1, N), `shortest` <= N <= `longest` -> `projected`."""
    waveform = torch.zeros(1, min(longest, 16 * shortest))
    return convert(
        front_end,
        [Input("waveform", waveform, float32=True, shortest=shortest, longest=longest)],
        [stage_tensor(stage, "split") for stage in ("projection", "features")],
        deployment_target=deployment_target,
        half=half,
    )


def encoder_program(
    checkpoint: Checkpoint, bucket: Bucket, *, deployment_target: str, half: bool
) -> Program:
    """`projected` (1, D, 1, T) and `mask` (1, 1, 1, T) -> `logits` (1, V, 1, T)."""
    width = checkpoint.model.config.hidden_size
    return convert(
        Encoder(checkpoint, bucket.frames),
        [
            Input("projected", torch.zeros(1, width, 1, bucket.frames)),
            Input("mask", torch.ones(1, 1, 1, bucket.frames)),
        ],
        _encoder_outputs(checkpoint),
        deployment_target=deployment_target,
        half=half,
    )


def whole_program(
    checkpoint: Checkpoint, bucket: Bucket, *, deployment_target: str, half: bool
) -> Program:
    """`waveform` (1, N), zero behind the valid `samples` (1,) -> `logits` (1, V, 1, T)."""
    return convert(
        WholeModel(checkpoint, bucket.frames, bucket.max_samples),
        [
            Input("waveform", torch.zeros(1, bucket.max_samples), float32=True),
            Input("samples", torch.tensor([float(bucket.max_samples)]), float32=True),
        ],
        [
            *_encoder_outputs(checkpoint),
            *(stage_tensor(stage, "whole") for stage in ("features", "projection")),
        ],
        deployment_target=deployment_target,
        half=half,
    )


def _encoder_outputs(checkpoint: Checkpoint) -> list[str]:
    names = tap_names(len(encoder_layers(checkpoint.model)))
    return ["logits", *(stage_tensor(stage, "split") for stage in names[2:-1])]
