"""Checkpoints of separators: written and read, and refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.separator import load_separator, save_separator
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig, sinusoids
from lpa_export.layers import LPAConfig, Pulses

WEIGHTS = "model.safetensors"
CONFIG = SepFormerConfig(
    sampling_rate=16000,
    sources=1,
    filters=6,
    kernel_size=4,
    hidden_size=8,
    chunk=12,
    blocks=1,
    intra_layers=1,
    inter_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint whose intra-chunk layer is an LPA."""
    torch.manual_seed(0)
    model, pulses = SepFormer(CONFIG), Pulses(kernel_size=3, max_offset=3.0, max_width=5.0)
    replace_layers(model, [0], LPAConfig(8, 2, **pulses.shape))
    return save_separator(tmp_path / "model", model, LPASection((0,), pulses, 0.25, name="small"))


@torch.no_grad()
def test_what_was_written_is_read_with_hard_gates(folder: Path, tmp_path: Path) -> None:
    read = load_separator(folder)
    assert (read.name, read.replaced) == ("small", (0,))
    assert [(lpa.hard, lpa.temperature) for lpa in lpa_layers(read.model).values()] == [
        (True, 0.25)
    ]
    again = load_separator(save_separator(tmp_path / "again", read.model, read.lpa))
    mixture = torch.randn(1, 90)
    assert torch.equal(again.model(mixture), read.model(mixture))
    assert again.sha256 == read.sha256
    half = save_separator(tmp_path / "half", read.model, read.lpa, half=True)
    assert {tensor.dtype for tensor in load_file(half / WEIGHTS).values()} == {torch.float16}
    assert next(load_separator(half).model.parameters()).dtype == torch.float32


def _change_config(**change: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | change))

    return damage


def _change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return damage


def _only_pickles(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    for part in ("encoder", "masknet", "decoder"):
        (folder / f"{part}.ckpt").write_bytes(b"\x80\x04never opened")


_PE = "masknet.dual_mdl.0.intra_mdl.pos_enc.pe"

DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickles": (_only_pickles, r"only pickled weights \(decoder.ckpt\), .*from_speechbrain.py"),
    "another model": (_change_config(model_type="dptnet"), "dual-path masker"),
    "other sizes": (_change_config(filters=7), r"has shape \(6, 1, 4\), expected \(7, 1, 4\)"),
    "a layer too far": (
        _change_config(lpa={"format_version": 1, "layers": [2], "pulses": {}, "temperature": 1}),
        "layer 2 does not exist",
    ),
    "a lack": (_change_tensors(lambda t: t.pop("decoder.weight")), "decoder.weight"),
    "too much": (_change_tensors(lambda t: t.update(x=torch.zeros(1))), "x"),
    "NaN": (_change_tensors(lambda t: t["decoder.weight"].fill_(torch.nan)), "NaN"),
    "learned positions": (
        _change_tensors(lambda t: t.update({_PE: torch.zeros(1, 2500, 8)})),
        "other positions than sinusoids",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_line(folder: Path, damage: str) -> None:
    damaged, said = DAMAGES[damage]
    damaged(folder)
    with pytest.raises(LpaError, match=said) as caught:
        load_separator(folder)
    assert "\n" not in str(caught.value)


def test_sinusoids_that_speechbrain_stores_are_taken(folder: Path) -> None:
    before = load_separator(folder).model.state_dict()
    stored = {_PE: sinusoids(2500, 8)[None]}
    _change_tensors(lambda tensors: tensors.update(stored))(folder)
    after = load_separator(folder).model.state_dict()
    assert before.keys() == after.keys()


def test_a_separator_is_no_recogniser(folder: Path) -> None:
    with pytest.raises(LpaError, match="'sepformer': it separates speech and transcribes none"):
        load_checkpoint(folder)
