"""The reference that validation uses, held against transformers called by hand on the folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import LPASection, load_checkpoint, save_checkpoint
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import encoder_layers, lpa_layers, replace_layers
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.runtimes.torch import OriginalModel, TorchReference, tap_names

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
Host = Callable[..., Any]


def waveform(samples: int = 16_000) -> np.ndarray:
    """Noise that is neither centred nor of unit variance."""
    random = np.random.default_rng(4)
    return (0.3 * random.standard_normal(samples) + 0.1).astype(np.float32)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")


def plain_folder(folder: Path, model: Any, tokens: tuple[str, ...], pad: str) -> Path:
    """As transformers saves it: nothing of this package has written a line."""
    model.save_pretrained(folder)
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    write_json(folder / "tokenizer_config.json", {"pad_token": pad, "unk_token": pad})
    return folder


def by_hand(folder: Path, pad: str, *, do_normalize: bool) -> tuple[np.ndarray, str]:
    """Logits and text by transformers alone, every setting written out."""
    speech = waveform()
    if do_normalize:
        speech = (speech - speech.mean()) / np.sqrt(speech.var() + 1e-7)
    model = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.from_numpy(speech)[None]).logits[0].numpy()
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token=pad, unk_token=pad)
    return logits, tokenizer.decode(logits.argmax(-1).tolist())


@pytest.mark.parametrize("form", ["processor_config.json", "preprocessor_config.json", "neither"])
@pytest.mark.parametrize("do_normalize", [False, True])
def test_a_folder_of_transformers_gives_what_transformers_gives(
    tiny_host: Host, tmp_path: Path, form: str, do_normalize: bool
) -> None:
    tokens = ("<pad>", "|", "'", *LETTERS)
    # A norm over time behind the first convolution would undo what is not done to the waveform.
    model = tiny_host("wav2vec2 pre-norm")
    folder = plain_folder(tmp_path / "plain", model, tokens, "<pad>")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize).to_dict()
    if form == "processor_config.json":
        write_json(folder / form, {"feature_extractor": extractor})
        # What an older version wrote, and transformers passes over.
        write_json(folder / "preprocessor_config.json", extractor | {"do_normalize": True})
    elif form == "preprocessor_config.json":
        write_json(folder / form, extractor)
    else:
        do_normalize = True
    logits, text = by_hand(folder, "<pad>", do_normalize=do_normalize)
    reference = OriginalModel(folder)
    np.testing.assert_allclose(reference.logits(waveform()), logits, rtol=0, atol=1e-5)
    assert reference.text(logits) == text
    loaded = load_checkpoint(folder)
    assert loaded.do_normalize is do_normalize
    ours = TorchReference(loaded).logits(waveform())
    np.testing.assert_allclose(ours, logits, rtol=0, atol=1e-5)


def test_a_model_whose_blank_is_last(tiny_host: Host, tmp_path: Path) -> None:
    tokens = ("|", "'", *LETTERS, "[PAD]")
    model = tiny_host("wav2vec2", pad_token_id=28)
    folder = plain_folder(tmp_path / "plain", model, tokens, "[PAD]")
    logits, text = by_hand(folder, "[PAD]", do_normalize=True)
    assert OriginalModel(folder).text(logits) == text
    vocabulary = load_checkpoint(folder).vocabulary
    assert vocabulary.blank == 28
    assert vocabulary.decode(i for i, _, _ in vocabulary.merge(logits.argmax(-1))) == text


@pytest.mark.parametrize("replaced", [(), (0,), (1,)])
def test_every_family_is_read_and_only_the_replaced_layers_are_swapped_in(
    tiny_host: Host, host_variant: str, tmp_path: Path, replaced: tuple[int, ...]
) -> None:
    model = tiny_host(host_variant)
    section = None
    if replaced:
        pulses = Pulses(aperiodic=2, periodic=1, positional=1)
        replace_layers(model, replaced, LPAConfig(32, 2, **pulses.shape))
        section = LPASection(replaced, pulses, temperature=0.1, name="tiny")
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    vocabulary = Vocabulary(("<pad>", "|", "'", *LETTERS))
    folder = save_checkpoint(tmp_path / "tiny", model, vocabulary, section)
    speech = waveform()
    normalised = (speech - speech.mean()) / np.sqrt(speech.var() + 1e-7)
    with torch.inference_mode():
        expected = model(torch.from_numpy(normalised)[None]).logits[0].numpy()
    reference = OriginalModel(folder)
    np.testing.assert_allclose(reference.logits(speech), expected, rtol=0, atol=1e-4)
    taps, ours = reference.taps(speech), TorchReference(load_checkpoint(folder)).taps(speech)
    assert tuple(taps) == tuple(ours) == tap_names(2)
    for name in taps:
        np.testing.assert_allclose(taps[name], ours[name], rtol=0, atol=1e-4)


def test_float16_weights_are_read_as_float32(tiny_host: Host, tmp_path: Path) -> None:
    vocabulary = Vocabulary(("<pad>", "|", "'", *LETTERS))
    folder = save_checkpoint(tmp_path / "half", tiny_host("hubert"), vocabulary, None, half=True)
    logits = OriginalModel(folder).logits(waveform())
    assert logits.dtype == np.float32
    ours = TorchReference(load_checkpoint(folder)).logits(waveform())
    np.testing.assert_allclose(logits, ours, rtol=0, atol=1e-5)


def test_a_language_brings_its_adapter_its_head_and_its_vocabulary(
    tiny_host: Host, tmp_path: Path
) -> None:
    """As facebook/mms-1b-all has them: adapter.<language>.safetensors and a nested vocab.json."""
    english = tiny_host("wav2vec2 language adapter")
    german = tiny_host("wav2vec2 language adapter", vocab_size=31)
    adapters = {name: german.get_parameter(name).clone() for name in german._get_adapters()}
    with torch.no_grad():
        for tensor in adapters.values():
            tensor.add_(0.1)
    folder = tmp_path / "mms"
    english.save_pretrained(folder)
    save_file(adapters, folder / "adapter.deu.safetensors")
    tokens = ("<pad>", "|", "'", *LETTERS)
    nested = {"eng": tokens, "deu": (*tokens, "ä", "ß")}
    write_json(
        folder / "vocab.json", {k: {t: i for i, t in enumerate(v)} for k, v in nested.items()}
    )
    write_json(folder / "tokenizer_config.json", {"target_lang": "eng", "pad_token": "<pad>"})
    by_transformers = AutoModelForCTC.from_pretrained(folder, ignore_mismatched_sizes=True)
    by_transformers.load_adapter("deu", local_files_only=True)
    speech = waveform()
    normalised = torch.from_numpy((speech - speech.mean()) / np.sqrt(speech.var() + 1e-7))[None]
    with torch.inference_mode():
        expected = by_transformers(normalised).logits[0].numpy()
        in_english = english(normalised).logits[0].numpy()
    assert expected.shape[1] == 31
    loaded = load_checkpoint(folder, language="deu")
    assert loaded.vocabulary.tokens[-2:] == ("ä", "ß")
    assert loaded.language == "deu"
    for reference in (TorchReference(loaded), OriginalModel(folder, "deu")):
        np.testing.assert_allclose(reference.logits(speech), expected, rtol=0, atol=1e-5)
    for reference in (TorchReference(load_checkpoint(folder)), OriginalModel(folder)):
        np.testing.assert_allclose(reference.logits(speech), in_english, rtol=0, atol=1e-5)
    assert loaded.sha256 != load_checkpoint(folder).sha256
    with pytest.raises(LpaError, match="no adapter for language 'fra'; there are: deu"):
        load_checkpoint(folder, language="fra")
    again = save_checkpoint(tmp_path / "one", loaded.model, loaded.vocabulary, None)
    np.testing.assert_allclose(OriginalModel(again).logits(speech), expected, rtol=0, atol=1e-5)


def test_weights_left_to_chance_are_refused(tiny_host: Host, tmp_path: Path) -> None:
    folder = plain_folder(
        tmp_path / "plain", tiny_host("wavlm"), ("<pad>", "|", "'", *LETTERS), "<pad>"
    )
    tensors = load_file(folder / "model.safetensors")
    del tensors["wavlm.encoder.layers.1.attention.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LpaError, match=r"finds no weights for .*layers\.1\.attention\.q_proj"):
        OriginalModel(folder)


def test_a_folder_that_transformers_cannot_open_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(LpaError, match="transformers cannot open it") as caught:
        OriginalModel(tmp_path)
    assert "\n" not in str(caught.value)


def test_opening_and_running_leaves_no_hook_and_says_nothing(
    tiny_host: Host, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vocabulary = Vocabulary(("<pad>", "|", "'", *LETTERS))
    model = tiny_host("wav2vec2")
    pulses = Pulses()
    replace_layers(model, (0,), LPAConfig(32, 2, **pulses.shape))
    section = LPASection((0,), pulses, temperature=0.1, name="tiny")
    reference = OriginalModel(save_checkpoint(tmp_path / "tiny", model, vocabulary, section))
    reference.taps(waveform())
    assert not any(layer._forward_hooks for layer in encoder_layers(reference._model))
    assert capfd.readouterr() == ("", "")
