"""The recipe's `training` section, and that the loop takes all of it."""

from dataclasses import asdict
from pathlib import Path

import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import TrainingSettings, load_recipe
from lpa_export.training.loop import Settings

BASE = "name: some\nmodel: {checkpoint: x}\nlpa: {layers: [0]}\n"


def _recipe(folder: Path, section: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(BASE + section)
    return path


def test_the_loop_takes_every_key_of_the_section(tmp_path: Path) -> None:
    section = "training: {precision: bf16, accumulate: 4, tensorboard: true}\n"
    training = load_recipe(_recipe(tmp_path, section)).training
    assert training == TrainingSettings("bf16", 4, True)
    settings = Settings(epochs=1, learning_rate=1e-3, batch_seconds=9.0, seed=0, **asdict(training))
    assert (settings.precision, settings.accumulate, settings.tensorboard) == ("bf16", 4, True)


def test_without_the_section_training_is_as_it_was(tmp_path: Path) -> None:
    training = load_recipe(_recipe(tmp_path, "")).training
    plain = Settings(epochs=1, learning_rate=1e-3, batch_seconds=9.0, seed=0)
    assert asdict(plain).items() >= asdict(training).items()


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("training: {precision: fp16}", "expected one of fp32, bf16"),
        ("training: {accumulate: 0}", "must be at least 1"),
        ("training: {tensorboard: 1}", "'tensorboard'"),
        ("training: {gpus: 2}", "unknown key 'gpus'"),
    ],
)
def test_a_wrong_value_is_named_by_line(section: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(LpaError, match=rf"some\.yaml:4: .*{problem}"):
        load_recipe(_recipe(tmp_path, section + "\n"))
