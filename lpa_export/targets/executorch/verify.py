"""The exporter's own check of its work: the program against the reference on the golden clips."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import GoldenClip
from lpa_export.hosts import encoder_layers
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import tap_names
from lpa_export.targets.executorch.programs import FORWARD, STAGES, Bucket

__all__ = ["require_equal", "require_equal_in_buckets", "require_sound", "run_program"]

SELF_CHECK_DB = 90.0

# A window edge within float noise of a frame's centre may fall to the other side in another
# runtime: one frame of its layer moves. A wrong operator moves far more frames than these.
FLIPPED_SHARE = 0.02

_TIMEOUT_SECONDS = 1800
_PLAYER = "lpa_export.targets.executorch.play"


def run_program(
    program: Path, method: str, clips: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, list[np.ndarray]]:
    """Outputs of each clip's inputs (batch axis and all), in a process of its own.

    Raises LpaError when the runtime refuses the program, crashes or takes half an hour.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        given: dict[str, Any] = {
            f"{i}.{n}": values
            for i, clip in enumerate(clips.values())
            for n, values in enumerate(clip)
        }
        np.savez(inputs, **given)
        files = [str(path) for path in (program, method, inputs, outputs)]
        command = [sys.executable, "-m", _PLAYER, *files]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise LpaError(
                f"the exported program ran for {_TIMEOUT_SECONDS} s without an end; nothing was "
                "written, please report it with the checkpoint"
            ) from None
        if done.returncode != 0 or not outputs.is_file():
            raise LpaError(
                f"the ExecuTorch runtime fails on the exported program ({_reason(done)}); nothing "
                "was written, please report it with the checkpoint"
            )
        with np.load(outputs) as found:
            return {
                clip: [found[f"{i}.{n}"] for n in range(_count(found.files, i))]
                for i, clip in enumerate(clips)
            }


def require_equal(program: Path, checkpoint: Checkpoint, clips: Sequence[GoldenClip]) -> None:
    """Raise LpaError unless each stage is what Hugging Face's module makes of the one before it.

    At least `SELF_CHECK_DB` on every clip, the worst `FLIPPED_SHARE` of its frames left out. The
    stage before is the program's own: what a wrong operator breaks shows where it is, and window
    edges that fall to the other side do not add up from layer to layer.
    """
    found = run_program(program, STAGES, {clip.id: [clip.waveform[None]] for clip in clips})
    steps = _steps(checkpoint)
    for clip in clips:
        values = dict(zip(clip.taps, found[clip.id], strict=True))
        first, *others = values
        _require_near(clip.id, first, clip.taps[first], values[first][0])
        for stage, before in zip(others, values, strict=False):
            with torch.inference_mode():
                expected = steps[stage](torch.from_numpy(values[before]))
            _require_near(clip.id, stage, expected[0].numpy(), values[stage][0])


def require_equal_in_buckets(
    program: Path, buckets: Sequence[Bucket], clips: Sequence[GoldenClip]
) -> None:
    """Raise LpaError unless each bucket gives the reference's logits of the clips that fit in."""
    for bucket in buckets:
        fitting = [clip for clip in clips if len(clip.waveform) <= bucket.samples]
        if not fitting:
            continue
        found = run_program(
            program, bucket.method, {c.id: bucket.inputs(c.waveform) for c in fitting}
        )
        for clip in fitting:
            expected = clip.taps["logits"]
            _require_near(clip.id, "logits", expected, found[clip.id][0][0, : len(expected)])


def require_sound(program: Path, clips: Sequence[GoldenClip]) -> dict[str, np.ndarray]:
    """Logits (frames, V) of every clip. Raises LpaError unless finite and of the right shape.

    For a quantised program: how far it may stray is a question of WER, which validation answers.
    """
    found = run_program(program, FORWARD, {clip.id: [clip.waveform[None]] for clip in clips})
    logits = {clip.id: found[clip.id][0][0] for clip in clips}
    for clip in clips:
        values, expected = logits[clip.id], clip.taps["logits"]
        if values.shape != expected.shape or not np.isfinite(values).all():
            raise LpaError(
                f"the quantised program is broken: logits of clip {clip.id} must be finite and of "
                f"shape {expected.shape}, found shape {values.shape} and "
                f"{int((~np.isfinite(values)).sum())} values that are not; leave out --quantize"
            )
    return logits


def _steps(checkpoint: Checkpoint) -> dict[str, Callable[[Tensor], Tensor]]:
    """Stage -> the reference's own step from the stage before it, (1, frames, width) both."""
    model = checkpoint.model
    host, encoder = model.wav2vec2, model.wav2vec2.encoder
    norm_first = model.config.do_stable_layer_norm

    def embed(hidden: Tensor) -> Tensor:
        embedded = hidden + encoder.pos_conv_embed(hidden)
        return embedded if norm_first else encoder.layer_norm(embedded)

    def head(hidden: Tensor) -> Tensor:
        return model.lm_head(encoder.layer_norm(hidden) if norm_first else hidden)

    def through(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        def step(hidden: Tensor) -> Tensor:
            output = layer(hidden)
            return output[0] if isinstance(output, tuple) else output

        return step

    layers = [through(layer) for layer in encoder_layers(model)]
    steps = [lambda features: host.feature_projection(features)[0], embed, *layers, head]
    return dict(zip(tap_names(len(layers))[1:], steps, strict=True))


def _require_near(clip: str, stage: str, expected: np.ndarray, found: np.ndarray) -> None:
    level = _level(expected, found)
    if not level >= SELF_CHECK_DB:
        raise LpaError(
            f"the exported program is not the model: {stage} of clip {clip} has a PSNR of "
            f"{level:.1f} dB, at least {SELF_CHECK_DB:g} are required; nothing was written, "
            "please report it with the checkpoint"
        )


def _level(expected: np.ndarray, found: np.ndarray) -> float:
    """PSNR in dB without the worst frames; NaN where the shapes differ. Both (frames, width)."""
    if found.shape != expected.shape:
        return math.nan
    errors = np.square(expected.astype(np.float64) - found).sum(axis=1)
    if not np.isfinite(errors).all():
        return math.nan
    kept = np.argsort(errors)[: max(1, len(errors) - math.ceil(FLIPPED_SHARE * len(errors)))]
    return psnr(expected[kept], found[kept])


def _count(names: Sequence[str], clip: int) -> int:
    return sum(name.startswith(f"{clip}.") for name in names)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that the process said, or the signal that ended it."""
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"
