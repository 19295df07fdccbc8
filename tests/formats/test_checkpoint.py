"""Checkpoints: exact round trips, Hugging Face compatibility, and files nobody should trust."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.hosts import lpa_layers
from lpa_export.runtimes.torch import TorchReference

Make = Callable[..., Path]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_round_trip_is_exact(tiny_checkpoint: Make, tmp_path: Path, norm: str) -> None:
    first = load_checkpoint(tiny_checkpoint(norm))
    again = load_checkpoint(
        save_checkpoint(tmp_path / "again", first.model, first.vocabulary, first.lpa)
    )
    assert again.lpa == first.lpa
    assert again.vocabulary == first.vocabulary
    states = first.model.state_dict(), again.model.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert again.sha256 == first.sha256


def test_float16_storage_loads_as_the_rounded_float32(
    tiny_checkpoint: Make, tmp_path: Path
) -> None:
    first = load_checkpoint(tiny_checkpoint())
    folder = save_checkpoint(tmp_path / "half", first.model, first.vocabulary, first.lpa, half=True)
    half = load_checkpoint(folder).model.state_dict()
    for name, tensor in first.model.state_dict().items():
        assert half[name].dtype == torch.float32
        assert torch.equal(half[name], tensor.half().float())


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_who_may_read_a_config_may_read_the_weights(
    tiny_checkpoint: Make, tmp_path: Path, umask: int
) -> None:
    first = load_checkpoint(tiny_checkpoint())
    before = os.umask(umask)
    try:
        folder = save_checkpoint(tmp_path / "shared", first.model, first.vocabulary, first.lpa)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)


def test_what_a_config_wants_returned_changes_nothing(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint()
    noise = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    logits = TorchReference(load_checkpoint(folder)).logits(noise)
    _edit_config(
        folder,
        lambda c: c.update(output_hidden_states=[None], output_attentions=True, return_dict=False),
    )
    np.testing.assert_array_equal(TorchReference(load_checkpoint(folder)).logits(noise), logits)


def test_gates_are_hard_after_loading(tiny_checkpoint: Make) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(layers=(1,)))
    assert checkpoint.replaced == (1,)
    assert [lpa.hard for lpa in lpa_layers(checkpoint.model).values()] == [True]


def test_a_plain_hugging_face_folder_loads_with_nothing_replaced(
    tiny_config: Callable[..., Any], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    model = Wav2Vec2ForCTC(tiny_config("post")).eval()
    model.save_pretrained(tmp_path / "plain")
    vocabulary = (tiny_checkpoint() / "vocab.json").read_bytes()
    (tmp_path / "plain" / "vocab.json").write_bytes(vocabulary)
    checkpoint = load_checkpoint(tmp_path / "plain")
    assert checkpoint.lpa is None
    assert checkpoint.replaced == ()
    waveform = torch.randn(1, 8_000)
    with torch.inference_mode():
        assert torch.equal(checkpoint.model(waveform).logits, model(waveform).logits)


def test_transformers_loads_the_layers_that_are_not_replaced(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint(layers=(2,))
    theirs = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32)
    ours = load_checkpoint(folder).model
    for layer in (0, 1):
        states = (m.wav2vec2.encoder.layers[layer].state_dict() for m in (theirs, ours))
        for a, b in zip(*(s.values() for s in states), strict=True):
            assert torch.equal(a, b)


def test_transformers_processor_opens_the_folder(tiny_checkpoint: Make) -> None:
    processor: Any = Wav2Vec2Processor.from_pretrained(tiny_checkpoint())
    ids = processor.tokenizer("NINE").input_ids
    assert load_checkpoint(tiny_checkpoint(name="b")).vocabulary.encode("nine") == ids


def test_weight_norm_names_of_older_transformers_are_read(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint()
    tensors = load_file(folder / "model.safetensors")
    prefix = "wav2vec2.encoder.pos_conv_embed.conv."
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        tensors[prefix + old] = tensors.pop(f"{prefix}parametrizations.weight.{new}")
    del tensors["wav2vec2.masked_spec_embed"]
    before = load_checkpoint(folder).model
    save_file(tensors, folder / "model.safetensors")
    after = load_checkpoint(folder).model
    waveform = torch.randn(1, 4_000)
    with torch.inference_mode():
        assert torch.equal(before(waveform).logits, after(waveform).logits)


def test_the_masking_embedding_is_left_out_where_the_config_masks_nothing(
    tiny_checkpoint: Make,
) -> None:
    folder = tiny_checkpoint()
    before = load_checkpoint(folder).model
    _edit_config(folder, lambda config: config.update(mask_time_prob=0.0, mask_feature_prob=0.0))
    after = load_checkpoint(folder).model
    assert "wav2vec2.masked_spec_embed" not in after.state_dict()
    waveform = torch.randn(1, 4_000)
    with torch.inference_mode():
        assert torch.equal(before(waveform).logits, after(waveform).logits)


def test_the_hash_covers_the_normalisation(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint()
    before = load_checkpoint(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    after = load_checkpoint(folder)
    assert (before.do_normalize, after.do_normalize) == (True, False)
    assert before.sha256 != after.sha256


def test_a_mistyped_folder_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    with pytest.raises(LpaError, match="no such checkpoint folder"):
        load_checkpoint("build/my-model")


def _edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def _edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


HEAD = "lm_head.weight"


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5_000])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "missing; expected the weights"),
    "pickle": (_only_pickle, "pickled weights .*never opened"),
    "truncated": (_truncate, "not a readable safetensors file"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: missing"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
    "other model": (
        lambda f: _edit_config(f, lambda c: c.update(model_type="bert")),
        "model_type is 'bert', .*known: wav2vec2, hubert, data2vec-audio",
    ),
    "newer format": (
        lambda f: _edit_config(f, lambda c: c["lpa"].update(format_version=9)),
        "format 9 is newer than this tool's 1",
    ),
    "layer out of range": (
        lambda f: _edit_config(f, lambda c: c["lpa"].update(layers=[0, 7])),
        "layer 7 does not exist: the model has layers 0 to 2",
    ),
    "negative layer": (
        lambda f: _edit_config(f, lambda c: c["lpa"].update(layers=[-1])),
        "layer -1 does not exist",
    ),
    "unknown pulse key": (
        lambda f: _edit_config(f, lambda c: c["lpa"]["pulses"].update(wobble=3)),
        "lpa pulses: .*wobble",
    ),
    "figures no object": (
        lambda f: _edit_config(f, lambda c: c["lpa"].update(figures=[])),
        "lpa figures must be an object",
    ),
    "temperature no number": (
        lambda f: _edit_config(f, lambda c: c["lpa"].update(temperature="hot")),
        "lpa temperature must be a number, found 'hot'",
    ),
    "huge layer count": (
        lambda f: _edit_config(f, lambda c: c.update(num_hidden_layers=10**9)),
        "num_hidden_layers is 1000000000, expected 1 to 200",
    ),
    "no stride": (
        lambda f: _edit_config(f, lambda c: c.update(conv_stride=[0, 4])),
        r"conv_stride is \[0, 4\], expected 1 to 1048576",
    ),
    "huger width": (
        lambda f: _edit_config(f, lambda c: c.update(hidden_size=2**31 - 1)),
        "hidden_size is 2147483647, expected 1 to 1048576",
    ),
    "huge vocabulary": (
        lambda f: _edit_config(f, lambda c: c.update(vocab_size=2**40)),
        "vocab_size is 1099511627776, expected 1 to 1048576",
    ),
    "huge width": (
        lambda f: _edit_config(f, lambda c: c.update(hidden_size=2**20)),
        "has shape .* expected|describes no model",
    ),
    "missing tensor": (
        lambda f: _edit_weights(f, lambda t: t.pop(HEAD)),
        "1 tensors are missing, the first is lm_head.weight",
    ),
    "unknown tensor": (
        lambda f: _edit_weights(f, lambda t: t.update(extra=torch.zeros(1))),
        "belong to no layer, the first is extra",
    ),
    "wrong shape": (
        lambda f: _edit_weights(f, lambda t: t.update({HEAD: torch.zeros(5, 32)})),
        r"lm_head.weight has shape \(5, 32\), expected \(29, 32\)",
    ),
    "NaN": (
        lambda f: _edit_weights(f, lambda t: t[HEAD].view(-1)[3].fill_(float("nan"))),
        "lm_head.weight holds NaN",
    ),
    "vocabulary too small": (
        lambda f: (f / "vocab.json").write_text('{"<pad>": 0, "|": 1, "A": 2}'),
        "3 tokens, but config.json says vocab_size 29",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_in_one_line(tiny_checkpoint: Make, kind: str) -> None:
    folder = tiny_checkpoint()
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(LpaError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["nowhere", "./a/b", "a/b/c", ""])
def test_a_source_that_is_neither_folder_nor_hub_id_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such checkpoint folder"):
        load_checkpoint(source or tmp_path / "nothing")


def test_a_hub_id_that_cannot_be_fetched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> str:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(LpaError, match=r"owner/model: .*did not give it \(no network\)"):
        load_checkpoint("owner/model")


def test_a_hub_id_loads_like_a_folder(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    folder = tiny_checkpoint(layers=())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    checkpoint = load_checkpoint("owner/model")
    assert checkpoint.name == "owner--model"
    assert checkpoint.sha256 == load_checkpoint(folder).sha256


def test_saving_over_an_existing_folder_is_refused(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint()
    checkpoint = load_checkpoint(folder)
    with pytest.raises(LpaError, match="exists"):
        save_checkpoint(folder, checkpoint.model, checkpoint.vocabulary, checkpoint.lpa)
    assert load_checkpoint(folder).sha256 == checkpoint.sha256
