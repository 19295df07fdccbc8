"""The reference every artifact is compared with: Hugging Face's own forward pass, gates hard.

It shares no lowering, mask or normalisation code with the exporters: the waveform is normalised
by transformers' feature extractor, one utterance at a time, never padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor

from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import encoder_layers

__all__ = ["TorchReference", "tap_names"]


def tap_names(layers: int) -> tuple[str, ...]:
    """The places along the model where artifact and reference are compared, in order."""
    encoder = (f"encoder.layers.{index}" for index in range(layers))
    return ("features", "projection", "encoder.embed", *encoder, "logits")


class TorchReference:
    """Logits and taps of a checkpoint, in float32 on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model
        self._extract = Wav2Vec2FeatureExtractor(do_normalize=checkpoint.do_normalize)

    def logits(self, waveform: np.ndarray) -> np.ndarray:
        """(frames, vocabulary) float32 logits of one waveform (samples,) at 16 kHz."""
        inputs = self._extract(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            return self._model(inputs.input_values).logits[0].numpy()

    def taps(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Tap name -> (frames, width) float32, in the order of `tap_names`."""
        seen: dict[str, np.ndarray] = {}
        with self._taps(seen):
            seen["logits"] = self.logits(waveform)
        return seen

    @contextmanager
    def _taps(self, seen: dict[str, np.ndarray]) -> Iterator[None]:
        """Forward hooks that copy each tap's output while the block runs."""
        host = self._model.wav2vec2
        places = {
            "features": host.feature_extractor,
            "projection": host.feature_projection,
            # Identity in eval mode, and called exactly where both norm styles have embedded.
            "encoder.embed": host.encoder.dropout,
        }
        layers = encoder_layers(self._model)
        places |= {f"encoder.layers.{index}": layer for index, layer in enumerate(layers)}

        def tap(name: str) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                output = output[0] if isinstance(output, tuple) else output
                channels_last = output.transpose(1, 2) if name == "features" else output
                seen[name] = channels_last[0].float().numpy().copy()

            return hook

        handles = [module.register_forward_hook(tap(name)) for name, module in places.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
