"""What the attention of a teacher looks at, on average: by distance, and by place in the utterance.

Attention weights are computed here from the layer's own query and key projections, whatever
kernel the host model runs, one unpadded utterance at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.hosts import encoder_layers, family_of, valid_frames
from lpa_export.training.batches import SpeechSet, normalise, pad

__all__ = [
    "AttentionProfile",
    "Seen",
    "attention_of",
    "attention_profiles",
    "attention_weights",
    "capture",
    "profiles_of",
]

CLIPS = 32
# Attention weights take memory by the square of the length.
SECONDS = 30
CELLS = 16


@dataclass(frozen=True)
class AttentionProfile:
    """Mean attention of each of H heads over some speech.

    `relative`: (H, 2 L + 1), weight of frame t + d for d from -L to L, where both are valid.
    `far`: (H,), weight of a frame farther away than L. `places`: (H, M, M), that weight times the
    number of frames, by the place of query and key as a share of the utterance; `pairs`: (M, M),
    how many such pairs there were.
    """

    relative: np.ndarray
    far: np.ndarray
    places: np.ndarray
    pairs: np.ndarray


@dataclass
class Seen:
    """What an attention layer was given and what it gave: hidden and output (B, T, D).

    `bias`: the position bias of all layers (B H, T, T), where a family has one.
    """

    hidden: Tensor
    valid: Tensor | None
    output: Tensor
    bias: Tensor | None = None


@contextmanager
def capture(model: Any, layers: Sequence[int]) -> Iterator[dict[int, Seen]]:
    """While the block runs, the dictionary holds what each layer saw in the last forward pass.

    Raises LpaError for a layer whose attention is of no known kind.
    """
    seen: dict[int, Seen] = {}

    def keep(index: int) -> Any:
        def hook(_module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            valid = valid_frames(kwargs.get("attention_mask"))
            seen[index] = Seen(hidden, valid, output[0], output[2] if len(output) > 2 else None)

        return hook

    handles = [
        attention_of(model, index).register_forward_hook(keep(index), with_kwargs=True)
        for index in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def attention_of(model: Any, layer: int) -> Any:
    """The self-attention of an encoder layer; LpaError when it is of no known kind."""
    host: Any = encoder_layers(model)[layer]
    attention = getattr(host, family_of(model).attention, None)
    if not all(isinstance(getattr(attention, name, None), nn.Linear) for name in _PROJECTIONS):
        raise LpaError(
            f"layer {layer}: expected self-attention with {', '.join(_PROJECTIONS)}, found "
            f"{type(attention).__name__}, which is not known how to replace"
        )
    return attention


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def attention_weights(model: Any, layer: int, seen: Seen) -> Tensor:
    """(B, H, T, T) softmax weights of what a layer saw, without padding."""
    attention = attention_of(model, layer)
    query, key, hidden = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in (attention.q_proj(seen.hidden), attention.k_proj(seen.hidden), seen.hidden)
    )
    scores = query * attention.scaling @ key.transpose(2, 3)
    gate = family_of(model).gate(attention)
    if gate is not None and seen.bias is not None:
        # WavLM: each head opens the bias of all layers by its own part of the frame.
        first, second = gate.linear(hidden).sigmoid().unbind(-1)
        opened = first * (second * gate.constant[..., 0] - 1.0) + 2.0
        scores = scores + opened[..., None] * seen.bias.view_as(scores)
    return scores.softmax(-1)


def attention_profiles(
    model: Any, layers: Sequence[int], speech: SpeechSet, *, reach: int
) -> dict[int, AttentionProfile]:
    """Layer -> its profile up to `reach` frames, over some clips of `speech`."""
    # Spread over the set: neighbours in it are often of one speaker.
    chosen = np.linspace(0, len(speech) - 1, min(CLIPS, len(speech))).round().astype(int)
    clips = (
        pad([normalise(speech.clips[index][0][: SECONDS * SAMPLE_RATE])], [speech.labels[index]])
        for index in chosen
    )
    return profiles_of(model, layers, (clip.waveforms for clip in clips), reach=reach)


@torch.no_grad()
def profiles_of(
    model: Any, layers: Sequence[int], waveforms: Iterable[Tensor], *, reach: int
) -> dict[int, AttentionProfile]:
    """The same over waveforms (1, samples), of which a layer may see many rows (chunks) at once."""
    model.eval()
    device = next(model.parameters()).device
    sums: dict[int, _Sums] = {}
    with capture(model, layers) as seen:
        for waveform in waveforms:
            model(waveform.to(device))
            for layer in layers:
                weights = attention_weights(model, layer, seen[layer]).mean(0)
                sums.setdefault(layer, _Sums(len(weights), reach)).add(weights)
    return {layer: total.profile() for layer, total in sums.items()}


class _Sums:
    """Sums of attention weights over utterances, float64."""

    def __init__(self, heads: int, reach: int) -> None:
        self.reach = reach
        self.relative = np.zeros((heads, 2 * reach + 1))
        self.frames = np.zeros(2 * reach + 1)
        self.far = np.zeros(heads)
        self.places = np.zeros((heads, CELLS, CELLS))
        self.pairs = np.zeros((CELLS, CELLS))

    def add(self, weights: Tensor) -> None:
        """Take in the weights (H, T, T) of one utterance."""
        frames = weights.shape[-1]
        widest = min(self.reach, frames - 1)
        for distance in range(-widest, widest + 1):
            diagonal = weights.diagonal(distance, dim1=1, dim2=2)
            self.relative[:, self.reach + distance] += diagonal.sum(-1).double().cpu().numpy()
            self.frames[self.reach + distance] += frames - abs(distance)
        frame = torch.arange(frames, device=weights.device)
        far = ((frame - frame[:, None]).abs() > self.reach).to(weights.dtype)
        cell = torch.nn.functional.one_hot(frame * CELLS // frames, CELLS).to(weights.dtype)
        places = (cell.T @ (weights * far) @ cell).double().cpu().numpy()
        self.far += places.sum((1, 2))
        self.places += frames * places
        self.pairs += (cell.T @ far @ cell).double().cpu().numpy()

    def profile(self) -> AttentionProfile:
        """Sums as means; where there was no pair the mean is zero."""
        relative = self.relative / np.maximum(self.frames, 1)
        far = self.far / max(self.pairs.sum(), 1)
        places = self.places / np.maximum(self.pairs, 1)
        return AttentionProfile(relative, far, places, self.pairs)
