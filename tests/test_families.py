"""A checkpoint of every host family down the whole road: exported, validated, transcribed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.commands.transcribe import transcribe
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.checkpoint import LPASection, save_checkpoint
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import HOSTS, lpa_layers, replace_layers
from lpa_export.layers import LPAConfig, Pulses

FAMILIES = ("wav2vec2", "hubert", "data2vec-audio", "unispeech", "unispeech-sat", "wavlm")
THROUGH_EXECUTORCH = "wavlm"
"""Its lowering takes the longest: in every run one family goes to one target, all to all are slow.
The shipped model, of wav2vec2's, goes to all in every run, and every part of every family is tried
in every kit (`test_all_targets.py`, `targets/test_skeleton.py`)."""

CHECKS = "integrity,ops,parity,padding,determinism"
DEMO = load_utterances(None, limit=2)


def test_every_family_is_here() -> None:
    assert set(FAMILIES) == set(HOSTS)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_host: Callable[..., Any]) -> Callable[[str], Path]:
    """`checkpoint(family)`: a folder with random weights, layer 0 of two replaced."""

    def make(family: str) -> Path:
        model = tiny_host(family)
        torch.manual_seed(8)
        replace_layers(model, (0,), LPAConfig(hidden_size=32, num_heads=2))
        for lpa in lpa_layers(model).values():
            lpa.hard = True
        tokens = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        section = LPASection((0,), Pulses(), temperature=0.1, name=f"tiny-{family}")
        return save_checkpoint(tmp_path / "checkpoint", model, tokens, section)

    return make


def _road(folder: Path, target: str, out: Path) -> None:
    """Export to a target or `all`, validate, transcribe; random weights have no WER to judge."""
    flags = ["--checkpoint", str(folder), "--precision", "fp32", "--buckets", "4"]
    assert export_main(["--target", target, "--out", str(out), *flags]) == 0
    flags = ["--checkpoint", str(folder), "--limit", "2", "--checks", CHECKS]
    assert validate_main(["--target", target, "--bundle", str(out), *flags]) == 0
    audio = [utterance.audio for utterance in DEMO]
    expected = [item.text for item in transcribe(audio, target="torch", checkpoint=folder)]
    for place in sorted(out.iterdir()) if target == "all" else [out]:
        found = transcribe(audio, target=place.name, bundle=place)
        assert [item.text for item in found] == expected
        manifest = open_bundle(place).manifest
        assert manifest.selfcheck.status == "passed"
        report = json.loads((place / "report.json").read_text("utf-8"))
        assert {check["status"] for check in report["checks"]} == {"pass"}


def test_one_family_goes_to_executorch(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    _road(checkpoint(THROUGH_EXECUTORCH), "executorch", tmp_path / "executorch")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_to_all_targets(
    checkpoint: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    _road(checkpoint(family), "all", tmp_path / "bundles")
