"""Hard gates: trained with in the forward pass, and what they cost on held-out speech.

The straight-through estimator (Bengio et al. 2013): the model trains on exactly what it will
compute once hardened, and the thresholds, which have no gradient, take that of their soft twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lpa_export.hosts import encoder_layers, family_of, lpa_layers, valid_frames
from lpa_export.layers import LPA
from lpa_export.layers.harden import harden
from lpa_export.measures.arrays import psnr
from lpa_export.measures.word_errors import count_errors
from lpa_export.training.batches import SpeechSet, normalise, pad
from lpa_export.training.evaluate import transcribe

__all__ = ["Hardening", "captured_inputs", "hard_forward", "measure_hardening"]

CLIPS = 32  # for gates and PSNR; the WER is of the whole set


@contextmanager
def hard_forward(layers: Iterable[LPA]) -> Iterator[None]:
    """While the block runs, soft `layers` that record gradients give their hard output."""
    handles = [lpa.register_forward_hook(_harden) for lpa in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _harden(lpa: Any, inputs: tuple[Any, ...], soft: torch.Tensor) -> torch.Tensor | None:
    if lpa.hard or not torch.is_grad_enabled():
        return None
    lpa.hard = True
    try:
        with torch.no_grad():
            hard: torch.Tensor = lpa.forward(*inputs)
    finally:
        lpa.hard = False
    # The bracket is exactly zero: the sum is the hard output, bit for bit.
    return hard + (soft - soft.detach())


@dataclass(frozen=True)
class Hardening:
    """What a model became when it was hardened.

    `figures`: WER in percent of the teacher, the soft and the hard model on dev, and the PSNR (dB)
    of the hard model's logits against the soft one's. `layers`: share of soft gates and PSNR (dB)
    by layer. `transcripts`: of dev, in its order, by `teacher`, `soft` and `hard`.
    """

    figures: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    transcripts: Mapping[str, list[str]]


def measure_hardening(teacher: Any, model: Any, dev: SpeechSet) -> Hardening:
    """Harden `model` in place and measure it on `dev`."""
    model.eval()
    replaced = lpa_layers(model)
    for lpa in replaced.values():
        lpa.hard = False
    transcripts = {"teacher": transcribe(teacher.eval(), dev), "soft": transcribe(model, dev)}
    captured: dict[int, list[tuple[torch.Tensor, torch.Tensor | None]]] = {i: [] for i in replaced}
    with captured_inputs(model, captured):
        soft_logits = _logits(model, dev)
    hardness = harden(replaced, captured)
    hard_logits = _logits(model, dev)
    # Of a control nothing is soft or hard.
    transcripts["hard"] = transcribe(model, dev) if replaced else transcripts["soft"]
    texts = [utterance.text for utterance in dev.utterances]
    normalise = dev.vocabulary.normalise
    figures = {
        f"{who}_wer": count_errors(texts, said, normalise).wer for who, said in transcripts.items()
    }
    figures |= {
        "hard_psnr_db": psnr(soft_logits, hard_logits),
        "utterances": len(dev),
        "words": sum(len(text.split()) for text in texts),
    }
    layers: dict[str, dict[str, Any]] = {}
    for layer in hardness:
        values = asdict(layer)
        number = str(values.pop("layer"))
        layers[number] = {k: round(v, 4) for k, v in values.items()}
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return Hardening(rounded, layers, transcripts)


@torch.inference_mode()
def _logits(model: Any, dev: SpeechSet) -> torch.Tensor:
    """(frames, vocabulary) of the first clips, one after another."""
    parts = []
    for index in range(min(CLIPS, len(dev))):
        batch = pad([normalise(dev.clips[index][0])], [dev.labels[index]]).to(model.device)
        parts.append(model(batch.waveforms, attention_mask=batch.mask).logits[0].cpu())
    return torch.cat(parts)


@contextmanager
def captured_inputs(
    model: Any, captured: dict[int, list[tuple[torch.Tensor, torch.Tensor | None]]]
) -> Iterator[None]:
    """While the block runs, keep what every LPA layer is given."""

    def keep(index: int) -> Any:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            captured[index].append((hidden.clone(), valid_frames(kwargs.get("attention_mask"))))

        return hook

    layers, place = encoder_layers(model), family_of(model).attention
    handles = [
        getattr(layers[index], place).register_forward_pre_hook(keep(index), with_kwargs=True)
        for index in captured
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
