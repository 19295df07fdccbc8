"""The exporter's own check of its work: the rewritten modules against the golden clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from lpa_export.errors import LpaError
from lpa_export.formats.golden import GoldenClip
from lpa_export.hosts.frames import FrameArithmetic, check_frame_arithmetic
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import tap_names
from lpa_export.targets.coreml.encoder import Encoder, Padding
from lpa_export.targets.coreml.frontend import FrontEnd
from lpa_export.targets.coreml.limits import BLOCK

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint

__all__ = ["require_equal", "require_frames"]

SELF_CHECK_DB = 70.0

# An edge within float noise of a whole frame falls on one side in the reference and on the other
# here. That is no mistake and moves one frame of its layer; a wrong rewrite moves far more.
FLIPPED_SHARE = 0.02


def require_frames(front_end: FrontEnd, arithmetic: FrameArithmetic) -> None:
    """Raise LpaError unless the front end makes as many frames as the manifest's formula says."""

    def model(waveform: Tensor, _lengths: Tensor) -> tuple[Tensor, Tensor]:
        projected = front_end(waveform)[0][:, :, 0].transpose(1, 2)
        return projected, torch.tensor([projected.shape[1]])

    check_frame_arithmetic(cast(Any, model), arithmetic)


def require_equal(checkpoint: Checkpoint, clips: Sequence[GoldenClip]) -> None:
    """Raise LpaError unless every stage gives, from the reference's stage before it, the next one.

    In float32 and before any conversion: at least `SELF_CHECK_DB` on every clip, the worst
    `FLIPPED_SHARE` of its frames left out. Clips are padded, and must not hear it.
    """
    frames = max(len(clip.taps["logits"]) for clip in clips) + 1
    front_end = FrontEnd(checkpoint)
    encoder = Encoder(checkpoint, -(-frames // BLOCK) * BLOCK)
    for clip in clips:
        with torch.inference_mode():
            found = _run(front_end, encoder, clip)
        for stage, expected in clip.taps.items():
            level = _level(expected, found[stage])
            if not level >= SELF_CHECK_DB:
                raise LpaError(
                    f"the rewritten model is not the model: {stage} of clip {clip.id} has a PSNR "
                    f"of {level:.1f} dB, at least {SELF_CHECK_DB:g} are required; nothing was "
                    "written, please report it with the checkpoint"
                )


def _run(front_end: FrontEnd, encoder: Encoder, clip: GoldenClip) -> Mapping[str, np.ndarray]:
    """Each stage (frames, width), computed from the reference's stage before it."""
    frames = len(clip.taps["logits"])
    size = encoder.ramp.shape[-1]
    mask = torch.zeros(1, 1, 1, size)
    mask[..., :frames] = 1.0
    padding = Padding.of(mask, encoder)
    given = {stage: _padded(values, size) for stage, values in clip.taps.items()}
    _, features = front_end(torch.from_numpy(clip.waveform)[None])
    found = {
        "features": features,
        "projection": front_end.project(given["features"]),
        "encoder.embed": encoder.embed(given["projection"], mask),
    }
    names = tap_names(len(encoder.layers))
    before = "encoder.embed"
    for stage, layer in zip(names[3:-1], encoder.layers, strict=True):
        found[stage] = layer(given[before], padding)
        before = stage
    found["logits"] = encoder.decode(given[before])
    return {stage: _frames_first(values)[:frames] for stage, values in found.items()}


def _padded(values: np.ndarray, size: int) -> Tensor:
    """(frames, width) -> (1, width, 1, size), something loud at padding."""
    padded = torch.full((1, values.shape[1], 1, size), 10.0)
    padded[0, :, 0, : len(values)] = torch.from_numpy(values).T
    return padded


def _frames_first(values: Tensor) -> np.ndarray:
    return values[0, :, 0].T.numpy()


def _level(expected: np.ndarray, found: np.ndarray) -> float:
    """PSNR in dB without the worst frames; NaN where the shapes differ. Both (frames, width)."""
    if found.shape != expected.shape:
        return math.nan
    errors = np.square(expected.astype(np.float64) - found).sum(axis=1)
    if not np.isfinite(errors).all():
        return math.nan
    kept = np.argsort(errors)[: max(1, len(errors) - math.ceil(FLIPPED_SHARE * len(errors)))]
    return psnr(expected[kept], found[kept])
