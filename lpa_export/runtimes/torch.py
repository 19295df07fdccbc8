"""The references every artifact is compared with: Hugging Face's own forward pass, gates hard.

They share no lowering, mask or normalisation code with the exporters: the waveform is normalised
by transformers' feature extractor, one utterance at a time, never padded. `TorchReference` runs a
checkpoint that this package has loaded; `OriginalModel` shares not even the loader and reads all
of a folder with transformers' own calls.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)

from lpa_export.environment import quiet
from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.lpa_section import LPASection, harden_gates, put_in, read_section
from lpa_export.hosts import host_of, lpa_layers

__all__ = ["OriginalModel", "TorchReference", "tap_names"]


def tap_names(layers: int) -> tuple[str, ...]:
    """The places along the model where artifact and reference are compared, in order."""
    encoder = (f"encoder.layers.{index}" for index in range(layers))
    return ("features", "projection", "encoder.embed", *encoder, "logits")


class TorchReference:
    """Logits and taps of a checkpoint, in float32 on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model
        self._extract: Any = Wav2Vec2FeatureExtractor(do_normalize=checkpoint.do_normalize)

    def logits(self, waveform: np.ndarray) -> np.ndarray:
        """(frames, vocabulary) float32 logits of one waveform (samples,) at 16 kHz."""
        inputs = self._extract(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            made = self._model(inputs.input_values, return_dict=True)
            logits: np.ndarray = made.logits[0].numpy()
        return logits

    def taps(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Tap name -> (frames, width) float32, in the order of `tap_names`."""
        seen: dict[str, np.ndarray] = {}
        with _taps(self._model, seen):
            seen["logits"] = self.logits(waveform)
        return seen


class OriginalModel(TorchReference):
    """A checkpoint folder as transformers reads it: config, feature extractor, tokenizer, model.

    Only the replaced layers of an `lpa` section are swapped in; without one the model is as
    `AutoModelForCTC` loads it. `language` chooses a language's adapter and vocabulary.
    Raises LpaError when transformers cannot open the folder or leaves weights to chance.
    """

    def __init__(self, folder: Path, language: str | None = None) -> None:
        try:
            with quiet():
                self._config = AutoConfig.from_pretrained(folder, **_LOCAL)
                self._extract = _extractor(folder)
                self._tokenizer = _tokenizer(folder, language)
                self._model = _model(folder, self._config, language)
        except LpaError:
            raise
        except Exception as error:  # transformers raises whatever its readers do
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise LpaError(f"{folder}: transformers cannot open it ({reason})") from error

    def text(self, logits: np.ndarray) -> str:
        """What the checkpoint's own tokenizer makes of logits (frames, vocabulary), greedily."""
        best: Sequence[int] = logits.argmax(axis=-1).tolist()
        if "group_tokens" not in inspect.signature(type(self._tokenizer)._decode).parameters:
            # No CTC tokenizer: what those do by themselves comes first.
            best = [i for i, _ in groupby(best) if i != self._config.pad_token_id]
        text = self._tokenizer.decode(best, clean_up_tokenization_spaces=False)
        return str(text).strip()


_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def _extractor(folder: Path) -> Any:
    stated = ("processor_config.json", "preprocessor_config.json")
    if not any((folder / name).is_file() for name in stated):
        return Wav2Vec2FeatureExtractor()
    return AutoFeatureExtractor.from_pretrained(folder, **_LOCAL)


def _tokenizer(folder: Path, language: str | None) -> Any:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    # Where the files name no class, transformers goes by a table, which has not every family.
    named = settings.get("tokenizer_class") or (folder / "tokenizer.json").is_file()
    opens: Any = AutoTokenizer if named else Wav2Vec2CTCTokenizer
    chosen = {"target_lang": language} if language is not None else {}
    tokenizer = opens.from_pretrained(folder, **_LOCAL, **chosen)
    delimiter = settings.get("word_delimiter_token", "|")
    if isinstance(tokenizer, Wav2Vec2CTCTokenizer):  # whose setting from_pretrained loses
        tokenizer._word_delimiter_token = (
            delimiter["content"] if isinstance(delimiter, dict) else delimiter
        )
    return tokenizer


def _model(folder: Path, config: Any, language: str | None) -> Any:
    place = folder / "config.json"
    section = read_section(json.loads(place.read_text("utf-8")).get("lpa"), place)
    adapted = language is not None and getattr(config, "adapter_attn_dim", None) is not None
    model, loading = AutoModelForCTC.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=adapted,  # a language brings a head of its own width
        **_LOCAL,
    )
    replaced = [f"encoder.layers.{i}.attention." for i in (section.layers if section else ())]
    for name in loading["missing_keys"]:
        unused = name.endswith("masked_spec_embed") or any(part in name for part in replaced)
        if not unused and not (adapted and _is_languages(name)):
            raise LpaError(f"{folder}: transformers finds no weights for {name}")
    for name, *_ in loading["mismatched_keys"]:
        if not _is_languages(name):
            raise LpaError(f"{folder}: {name} is of another shape than config.json says")
    if adapted:
        model.load_adapter(language, use_safetensors=True, local_files_only=True)
    if section is not None:
        _swap_in(model, section, folder)
    return model.eval()


def _is_languages(name: str) -> bool:
    return ".adapter_layer." in name or name.startswith("lm_head.")


def _swap_in(model: Any, section: LPASection, folder: Path) -> None:
    """Put the section's LPA layers in, with the tensors that transformers has no place for."""
    put_in(model, section, folder / "config.json")
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if ".attention.lpa." in name]  # noqa: SIM118
            found |= {name: file.get_tensor(name).float() for name in names}
    for index, lpa in lpa_layers(model).items():
        part = f"encoder.layers.{index}.attention.lpa."
        state = {name.partition(part)[2]: t for name, t in found.items() if part in name}
        lpa.load_state_dict(state)
    harden_gates(model, section)


@contextmanager
def _taps(model: Any, seen: dict[str, np.ndarray]) -> Iterator[None]:
    """Forward hooks that copy each tap's output while the block runs."""

    def tap(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            channels_last = output.transpose(1, 2) if name == "features" else output
            seen[name] = channels_last[0].float().numpy().copy()

        return hook

    places = host_of(model).taps(model)
    handles = [module.register_forward_hook(tap(name)) for name, module in places.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
