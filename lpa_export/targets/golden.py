"""Choosing golden clips: demo recordings that every runtime should hear as the reference does.

They prove a bundle on a machine without torch, and the exporter checks its own work on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio, require_frames
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import GoldenClip
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.formats.text import greedy_text
from lpa_export.hosts import lpa_layers
from lpa_export.layers import LPA
from lpa_export.runtimes.torch import TorchReference

__all__ = ["as_stored", "edge_margins", "golden_clips", "require_finite"]

CLIPS = 3
CANDIDATES = 8
# Shorter clips say little, longer ones make the taps of a large model weigh many megabytes.
_SHORTEST_SECONDS = 1.0


def golden_clips(checkpoint: Checkpoint) -> tuple[GoldenClip, ...]:
    """Of the shortest demo recordings, those whose window edges lie safest; by id.

    An edge within rounding error of a whole frame (one clip in a hundred and fifty has one) falls
    to either side on different processors and runtimes. That is no fault of theirs, and must not
    be read as one: such a clip is not fit for a standard.

    Raises LpaError when the reference does not give finite logits: such a model cannot be
    exported, and every comparison with it would be vain.
    """
    reference = TorchReference(checkpoint)
    candidates = []
    for utterance in _shortest(load_utterances(None)):
        waveform = as_stored(load_audio(utterance.audio))
        require_frames(waveform, checkpoint.receptive_field, utterance.id)
        with edge_margins(checkpoint.model) as margins:
            taps = reference.taps(waveform)
        require_finite(taps, checkpoint.name)
        transcript = greedy_text(taps["logits"], checkpoint.vocabulary)
        clip = GoldenClip(utterance.id, utterance.text, waveform, taps, transcript)
        candidates.append((min(margins, default=math.inf), clip))
    safest = sorted(candidates, key=lambda candidate: -candidate[0])[:CLIPS]
    return tuple(sorted((clip for _, clip in safest), key=lambda clip: clip.id))


@contextmanager
def edge_margins(model: Any) -> Iterator[list[float]]:
    """Collect, per LPA layer that runs in the block, its least edge margin in frames.

    The margin of an aperiodic window edge is its distance from the whole number where it rounds
    the other way. Other windows do not depend on the content and are computed in float64.
    """
    margins: list[float] = []

    def note(lpa: LPA, inputs: tuple[Any, ...], _output: Any) -> None:
        _, controls, _ = lpa.read(inputs[0], None)
        edges = torch.cat([controls.lower.flatten(), controls.upper.flatten()])
        if edges.numel():
            margins.append(float((edges - edges.round()).abs().min()))

    handles = [lpa.register_forward_hook(note) for lpa in lpa_layers(model).values()]
    try:
        yield margins
    finally:
        for handle in handles:
            handle.remove()


def _shortest(utterances: Sequence[Utterance]) -> list[Utterance]:
    long_enough = [u for u in utterances if (u.duration or 0.0) >= _SHORTEST_SECONDS]
    return sorted(long_enough, key=lambda u: (u.duration, u.id))[:CANDIDATES]


def require_finite(taps: Mapping[str, np.ndarray], model: str) -> None:
    """Raise LpaError, naming the model and the first tap, for a value that is not finite."""
    for name, values in taps.items():
        if not np.isfinite(values).all():
            raise LpaError(
                f"{model}: the model itself gives NaN or infinite values from {name} on; train "
                "or convert it again"
            )


def as_stored(waveform: Waveform) -> Waveform:
    """The waveform as 16-bit FLAC gives it back: the reference must have heard the very same."""
    steps = np.clip(np.round(waveform * 2.0**15), -(2**15), 2**15 - 1)
    return (steps / 2.0**15).astype(np.float32)
