"""Forty drawn checkpoints end to end, and proof that what compares them can tell."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.formats.text import Vocabulary
from tests.fuzz import configurations
from tests.fuzz.configurations import REFERENCE, main, outcomes
from tests.fuzz.drawing import draw

SEEDS = range(40)
THROUGH_ONNX = (1, 19)
"""One with layers replaced, one without: an export takes seconds."""


@pytest.mark.parametrize("seed", SEEDS)
def test_reference_and_loader_say_what_transformers_says(seed: int, tmp_path: Path) -> None:
    (found,) = outcomes(seed, (REFERENCE,), tmp_path / "drawn")
    assert found.verdict in ("same", "tie"), f"{found.said}: {found.how}"


@pytest.mark.parametrize("seed", THROUGH_ONNX)
def test_the_artifact_says_what_transformers_says(seed: int, tmp_path: Path) -> None:
    (found,) = outcomes(seed, ("onnx",), tmp_path / "drawn")
    assert found.verdict in ("same", "tie"), f"{found.said}: {found.how}"


def test_the_seeds_that_are_exported_differ_in_what_is_replaced(tmp_path: Path) -> None:
    replaced = [bool(draw(seed, tmp_path / str(seed)).choices["replaced"]) for seed in THROUGH_ONNX]
    assert sorted(replaced) == [False, True]


def _not_normalised(checkpoint: Any) -> Any:
    return dataclasses.replace(checkpoint, do_normalize=not checkpoint.do_normalize)


def _another_blank(checkpoint: Any) -> Any:
    known = checkpoint.vocabulary
    blank = (known.blank + 1) % len(known)
    vocabulary = Vocabulary(known.tokens, blank, None, spelling="tokenizer")
    return dataclasses.replace(checkpoint, vocabulary=vocabulary)


def _another_bias(checkpoint: Any) -> Any:
    checkpoint.model.lm_head.bias.data[1] += 0.1
    return checkpoint


@pytest.mark.parametrize("fault", [_not_normalised, _another_blank, _another_bias])
def test_a_planted_fault_of_the_loader_is_found(
    fault: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = configurations.load_checkpoint
    monkeypatch.setattr(configurations, "load_checkpoint", lambda folder: fault(load(folder)))
    (found,) = outcomes(0, (REFERENCE,), tmp_path / "drawn")
    assert found.verdict == "wrong"


def test_a_seed_gives_the_same_checkpoint_each_time(tmp_path: Path) -> None:
    first, second = draw(7, tmp_path / "a"), draw(7, tmp_path / "b")
    assert first.choices == second.choices
    np.testing.assert_array_equal(first.waveform, second.waveform)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    assert main(["--count", "2", "--log", str(log)]) == 0
    log.write_text(log.read_text() + '{"seed": 2, "cut sh')
    drawn: list[int] = []

    def counted(seed: int, targets: Any, folder: Path) -> Any:
        drawn.append(seed)
        return outcomes(seed, targets, folder)

    monkeypatch.setattr(configurations, "outcomes", counted)
    assert main(["--count", "4", "--log", str(log)]) == 0
    assert drawn == [2, 3]
    assert "reference: 4 in" in capsys.readouterr().out
    assert main(["--count", "4", "--log", str(log)]) == 0
    assert "reference: 4 in" in capsys.readouterr().out
