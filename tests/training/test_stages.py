"""Training end to end on a toy task, with a kill in the middle."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lpa_export.commands.train import main
from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.recipe import load_recipe
from lpa_export.formats.speech import load_utterances
from lpa_export.training import loop
from lpa_export.training.stages import replace_stage, teacher_stage

Recipe = Callable[..., Path]


def _log(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_toy_teacher_learns_and_its_lpa_model_keeps_the_words(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = load_recipe(toy_recipe(epochs=40))
    assert recipe.data is not None
    recipe = replace(
        recipe,
        data=replace(recipe.data, spliced=10),
        refine=(replace(recipe.teacher, epochs=1, average_epochs=0),),
    )
    teacher = teacher_stage(recipe, tmp_path / "teacher")
    wer = [line["wer"] for line in _log(tmp_path / "teacher") if "wer" in line]
    assert wer[0] > 80
    assert wer[-1] < 20
    student = load_checkpoint(replace_stage(recipe, teacher, tmp_path / "replace"))
    assert student.lpa is not None
    assert student.replaced == (0, 1)
    figures = student.lpa.figures
    assert figures["hard_wer"] <= figures["teacher_wer"] + 20
    assert figures["words"] > 16
    assert set(student.lpa.hardness) == {"0", "1"}
    assert all(0 <= layer["soft_share"] < 0.5 for layer in student.lpa.hardness.values())
    for folder in ("teacher", "replace"):
        spliced = load_utterances(tmp_path / folder / "spliced0" / "manifest.jsonl")
        assert len(spliced) == 10
        assert {word for one in spliced for word in one.text.split()} == {"A", "B"}


class _KilledError(BaseException):
    """What SIGKILL looks like from inside a test."""


def test_a_killed_run_continues_to_the_same_weights(
    toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(toy_recipe(epochs=3))
    straight = load_checkpoint(teacher_stage(recipe, tmp_path / "straight"))

    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0.0)
    real_update, calls = loop._update, [0]

    def killed_in_the_second_epoch(*args: Any, **kwargs: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == 9:
            raise _KilledError
        return real_update(*args, **kwargs)

    monkeypatch.setattr(loop, "_update", killed_in_the_second_epoch)
    with pytest.raises(_KilledError):
        teacher_stage(recipe, tmp_path / "killed")
    monkeypatch.setattr(loop, "_update", real_update)
    resumed = load_checkpoint(teacher_stage(recipe, tmp_path / "killed"))

    states = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # The epoch of the kill averages fewer batches; every other line is the same.
    assert _log(tmp_path / "killed")[-1] == _log(tmp_path / "straight")[-1]


def test_a_finished_run_is_not_trained_again(toy_recipe: Recipe, tmp_path: Path) -> None:
    recipe = load_recipe(toy_recipe(epochs=1))
    first = teacher_stage(recipe, tmp_path / "run")
    before = (first / "model.safetensors").stat().st_mtime_ns
    assert teacher_stage(recipe, tmp_path / "run") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_folder_of_another_recipe_is_refused(toy_recipe: Recipe, tmp_path: Path) -> None:
    path = toy_recipe(epochs=1)
    teacher_stage(load_recipe(path), tmp_path / "run")
    path.write_text(path.read_text().replace("max_offset: 4", "max_offset: 5"))
    teacher_stage(load_recipe(path), tmp_path / "run")  # nothing a teacher depends on
    path.write_text(path.read_text().replace("5.0e-3", "4.0e-3"))
    with pytest.raises(LpaError, match="another recipe"):
        teacher_stage(load_recipe(path), tmp_path / "run")


def test_a_replacement_of_another_teacher_is_refused(toy_recipe: Recipe, tmp_path: Path) -> None:
    path = toy_recipe(epochs=1)
    teacher = teacher_stage(load_recipe(path), tmp_path / "teacher")
    path.write_text(path.read_text().replace("joint_epochs: 3", "joint_epochs: 1"))
    recipe = load_recipe(path)
    replace_stage(recipe, teacher, tmp_path / "run")
    assert load_checkpoint(replace_stage(recipe, teacher, tmp_path / "run")).replaced == (0, 1)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"final_dropout": 0.5}))
    with pytest.raises(LpaError, match="another recipe, teacher or stage"):
        replace_stage(recipe, teacher, tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run(
    toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpa_export.training import teacher

    recipe = load_recipe(toy_recipe(epochs=1))
    real = teacher.teacher_loss
    monkeypatch.setattr(
        teacher,
        "teacher_loss",
        lambda *args: {name: term * float("nan") for name, term in real(*args).items()},
    )
    with pytest.raises(LpaError, match=r"loss became nan in epoch 1.*learning_rate"):
        teacher_stage(recipe, tmp_path / "nan")


def test_train_command_says_what_is_wrong_in_one_line(
    toy_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = toy_recipe(epochs=1)
    missing = path.read_text().replace("dev/manifest.jsonl", "dev/nothing.jsonl")
    path.write_text(missing)
    code = main(["teacher", "--recipe", str(path), "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(errors) == 1
    assert "nothing.jsonl" in errors[0]
    assert not (tmp_path / "run").exists()
