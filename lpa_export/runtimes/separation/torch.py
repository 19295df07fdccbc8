"""The references that a separator's artifact is compared with: the host's own module, gates hard.

They share nothing with the exporters but that module, which is held against SpeechBrain's: one
mixture at a time, never padded. `SeparatorReference` runs a model that this package has loaded;
`OriginalSeparator` shares not even the loader: config.json is read as it stands, tensors as
safetensors gives them, and every one has to have a place of its shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from lpa_export.errors import LpaError
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig
from lpa_export.runtimes import Array

__all__ = ["OriginalSeparator", "SeparatorReference"]

# Buffers that SpeechBrain stores beside its weights; the module computes them.
_SINUSOIDS = ".pos_enc.pe"


class SeparatorReference:
    """Waveforms and taps of a model, in float32 on the CPU."""

    def __init__(self, model: SepFormer) -> None:
        self._model = model

    def sources(self, waveform: Array) -> Array:
        """(samples, sources) of one mixture (samples,)."""
        with torch.inference_mode():
            made: Array = self._model(torch.from_numpy(waveform)[None])[0].T.numpy()
        return np.ascontiguousarray(made)

    def taps(self, waveform: Array) -> dict[str, Array]:
        """Tap name -> (frames, width) float32, in the order of the model."""
        seen: dict[str, Array] = {}
        handles = [
            module.register_forward_hook(_noting(seen, name, across))
            for name, module, across in _places(self._model)
        ]
        try:
            seen["sources"] = self.sources(waveform)
        finally:
            for handle in handles:
                handle.remove()
        return seen


class OriginalSeparator(SeparatorReference):
    """A checkpoint folder.

    Raises LpaError for one that cannot be read, or whose tensors are not those of its config.
    """

    def __init__(self, folder: Path) -> None:
        try:
            content = json.loads((folder / "config.json").read_text("utf-8"))
            section = content.pop("lpa", None)
            config = SepFormerConfig.from_json(content, folder)
            tensors: dict[str, torch.Tensor] = {}
            for path in sorted(folder.glob("model*.safetensors")):
                tensors |= load_file(path)
        except (OSError, ValueError) as error:
            raise LpaError(f"{folder}: cannot be read ({error})") from error
        model = SepFormer(config)
        if section is not None:
            _swap_in(model, section)
        kept = {n: t.float() for n, t in tensors.items() if not n.endswith(_SINUSOIDS)}
        try:
            model.load_state_dict(kept)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise LpaError(
                f"{folder}: its tensors are not those of its config: {reason}"
            ) from error
        super().__init__(model.eval())


def _swap_in(model: SepFormer, section: dict[str, Any]) -> None:
    """LPA in place of the section's attention, its gates hard."""
    from lpa_export.hosts.attention import LPAAttention
    from lpa_export.layers import LPA, LPAConfig, Pulses

    config = model.config
    shape = Pulses(**section["pulses"]).shape
    for index in section["layers"]:
        lpa = LPA(LPAConfig(config.hidden_size, config.num_attention_heads, **shape))
        lpa.hard, lpa.temperature = True, float(section["temperature"])
        model.layers[index].self_att = LPAAttention(lpa)


def _places(model: SepFormer) -> list[tuple[str, torch.nn.Module, bool]]:
    """Taps but the last, their modules, and whether those run across chunks."""
    masker: Any = model.masknet
    places: list[tuple[str, torch.nn.Module, bool]] = [("encoder", model.encoder, False)]
    for number, block in enumerate(masker.dual_mdl):
        places.append((f"blocks.{number}.intra", block.intra_mdl, False))
        places.append((f"blocks.{number}.inter", block.inter_mdl, True))
    return places


def _noting(seen: dict[str, Array], name: str, across: bool) -> Any:
    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        # Stacks across chunks have (chunk, S, D): as within them, chunk after chunk.
        ordered = output.transpose(0, 1) if across else output
        seen[name] = ordered.reshape(-1, output.shape[-1]).numpy().copy()

    return hook
