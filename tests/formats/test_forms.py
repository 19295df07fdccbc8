"""The forms that checkpoints come in, and what is said of those that cannot be taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.source import checkpoint_folder

Make = Callable[..., Path]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def plain(tiny_host: Callable[..., Any], tmp_path: Path) -> Make:
    """`plain(variant, shards=)`: a folder that transformers has saved, with a vocabulary."""

    def make(variant: str = "wav2vec2", *, shards: bool = False, **changes: Any) -> Path:
        folder = tmp_path / "plain"
        model = tiny_host(variant, **changes)
        size: dict[str, Any] = {"max_shard_size": "40KB"} if shards else {}
        model.save_pretrained(folder, **size)
        tokens = ("<pad>", "|", "'", *"abcdefghijklmnopqrstuvwxyz")
        ids = {token: index for index, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(ids))
        return folder

    return make


def refusal(folder: Path | str, **options: Any) -> str:
    """The one line that the checkpoint is refused with."""
    with pytest.raises(LpaError) as caught:
        load_checkpoint(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(folder: Path) -> torch.Tensor:
    waveform = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found: torch.Tensor = load_checkpoint(folder).model(waveform).logits
    return found


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_shards_load_like_one_file(plain: Make, tmp_path: Path) -> None:
    whole = plain()
    expected = logits(whole)
    whole.rename(tmp_path / "whole")
    sharded = plain(shards=True)
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    assert torch.equal(logits(sharded), expected)


def test_the_hash_covers_every_shard(plain: Make) -> None:
    folder = plain(shards=True)
    before = load_checkpoint(folder).sha256
    last = sorted(folder.glob("model-*.safetensors"))[-1]
    tensors = load_file(last)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, last)
    assert load_checkpoint(folder).sha256 != before


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ("{", "not readable as an index of shards"),
        ("[]", "not readable as an index of shards"),
        ('{"weight_map": 3}', "not readable as an index of shards"),
        ('{"weight_map": {}}', "names no shard"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "is no file beside the index"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "is no file beside the index"),
        ('{"weight_map": {"a": "%s"}}' % ("a" * 300), "is no file beside the index"),
        ('{"weight_map": {"a": "model-9.safetensors"}}', "shard model-9.safetensors is missing"),
    ],
)
def test_a_damaged_index_is_refused(plain: Make, index: str, problem: str) -> None:
    folder = plain(shards=True)
    (folder / INDEX).write_text(index)
    assert problem in refusal(folder)


def test_what_pretraining_left_behind_is_passed_over(plain: Make) -> None:
    folder = plain()
    expected = logits(folder)
    left = ("quantizer.codevectors", "project_q.weight", "project_hid.bias")
    edit(folder, lambda tensors: tensors.update({name: torch.ones(3) for name in left}))
    assert torch.equal(logits(folder), expected)


def test_a_head_wider_than_the_vocabulary_is_the_common_recipe(plain: Make) -> None:
    folder = plain(vocab_size=31)
    assert load_checkpoint(folder).vocabulary.tokens[29:] == ("<s>", "</s>")
    folder = plain(vocab_size=40)
    assert len(load_checkpoint(folder).vocabulary) == 40


# One line each, which says what it is and what to do.


def test_an_encoder_without_a_head_is_said_to_be_one(plain: Make) -> None:
    folder = edit(plain(), lambda t: [t.pop("lm_head.weight"), t.pop("lm_head.bias")])
    assert "no CTC head (lm_head.weight is missing)" in refusal(folder)
    assert "fine-tune it for CTC first" in refusal(folder)


def test_lora_adapters_are_told_how_they_are_merged(plain: Make, tmp_path: Path) -> None:
    beside = edit(
        plain(), lambda t: t.update({"wav2vec2.encoder.layers.0.lora_A.weight": torch.ones(1)})
    )
    alone = tmp_path / "lora"
    alone.mkdir()
    (alone / "adapter_config.json").write_text("{}")
    save_file({"base_model.lora_A": torch.ones(1)}, alone / "adapter_model.safetensors")
    for folder in (beside, alone):
        assert "merge_and_unload().save_pretrained" in refusal(folder)


def test_pickled_weights_are_told_how_to_convert_them(plain: Make) -> None:
    folder = plain()
    (folder / WEIGHTS).rename(folder / "pytorch_model-00001-of-00002.bin")
    assert "pickled weights (pytorch_model-00001-of-00002.bin), which are never" in refusal(folder)
    assert "AutoModelForCTC.from_pretrained(it).save_pretrained" in refusal(folder)


def test_a_family_that_is_not_known_names_those_that_are(plain: Make) -> None:
    folder = plain()
    config = json.loads((folder / "config.json").read_text())
    for model_type in ("wav2vec2-bert", "whisper", None, 7):
        (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
        said = refusal(folder)
        known = "wav2vec2, hubert, data2vec-audio, unispeech, unispeech-sat, wavlm"
        assert f"model_type is {model_type!r}" in said and known in said


def test_a_language_where_there_is_one_only_is_refused(plain: Make) -> None:
    assert "has one language only; leave --language out" in refusal(plain(), language="deu")


@pytest.mark.parametrize("size", [0, -1, "many", None])
def test_a_head_of_no_width_is_refused(plain: Make, size: object) -> None:
    folder = plain()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
    assert "config.json: " in refusal(folder)


# From the hub: what is asked for, and what is said when it is not there.


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, list[str]], list[list[str]]]:
    """`hub(folder, names)`: a hub whose repository has that folder; returns what was asked."""

    def make(folder: Path, names: list[str]) -> list[list[str]]:
        import huggingface_hub

        asked: list[list[str]] = []

        def download(_: str, *, allow_patterns: list[str]) -> str:
            asked.append(allow_patterns)
            return str(folder)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: names)
        return asked

    return make


def test_every_file_that_is_read_is_asked_of_the_hub(plain: Make, hub: Any) -> None:
    folder = plain(shards=True)
    asked = hub(folder, [])
    assert load_checkpoint("owner/model").sha256 == load_checkpoint(folder).sha256
    wanted = {"config.json", WEIGHTS, INDEX, "model-*.safetensors", "vocab.json"}
    wanted |= {"tokenizer_config.json", "tokenizer.json", "added_tokens.json"}
    wanted |= {"processor_config.json", "preprocessor_config.json", "special_tokens_map.json"}
    assert wanted <= set(asked[0])
    assert not any(name.endswith((".bin", ".pt", ".py")) for name in asked[0])
    checkpoint_folder("owner/model", "azj-script_latin")
    assert "adapter.azj-script_latin.safetensors" in asked[1]


def test_a_repository_of_pickles_is_said_to_be_one(tmp_path: Path, hub: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    hub(tmp_path, ["config.json", "pytorch_model.bin", "vocab.json"])
    assert "owner/model: only pickled weights (pytorch_model.bin)" in refusal("owner/model")
    hub(tmp_path, ["config.json"])
    assert "missing; expected the weights as safetensors" in refusal("owner/model")


@pytest.mark.parametrize("language", ["../../etc", "a b", "", "eng/.."])
def test_a_language_that_is_no_code_is_refused(tmp_path: Path, hub: Any, language: str) -> None:
    hub(tmp_path, [])
    with pytest.raises(LpaError, match="expected a code such as 'eng'"):
        checkpoint_folder("owner/model", language)
