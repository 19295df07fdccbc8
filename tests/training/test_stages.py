"""Training end to end on a toy task: teacher, replacement, control, and a kill in the middle."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lpa_export.commands.train import main
from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.recipe import load_recipe
from lpa_export.formats.speech import load_utterances
from lpa_export.training.files import RunFolder
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.records import read_log, read_steps
from lpa_export.training.replace import phase_record
from lpa_export.training.stages import Trainer, attention_teacher

Recipe = Callable[..., Path]
CLOCK = ("seconds", "audio_hours_per_hour", "waiting_share")


def _log(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_log(folder)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_toy_teacher_learns_and_its_lpa_model_keeps_the_words(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    path = toy_recipe(epochs=14, clips=64)
    text = {"frontend_steps: 3": "frontend_steps: 30", "batch_seconds: 4": "batch_seconds: 2"}
    text |= {"layers: 3": "layers: 2"}
    for before, after in text.items():
        path.write_text(path.read_text().replace(before, after))
    recipe = load_recipe(path)
    assert recipe.data is not None
    trainer = Trainer(
        replace(
            recipe,
            data=replace(recipe.data, spliced=6),
            refine=(replace(recipe.teacher, epochs=1, average_epochs=0),),
        )
    )
    teacher = trainer.teacher(tmp_path / "teacher")
    wer = [line["wer"] for line in _log(tmp_path / "teacher") if "wer" in line]
    assert wer[0] > 80
    assert wer[-1] < 25
    assert all(line["audio_hours_per_hour"] > 0 for line in read_log(tmp_path / "teacher")[:-1])
    student = load_checkpoint(trainer.replace(attention_teacher(teacher), tmp_path / "replace"))
    assert student.lpa is not None
    assert student.replaced == (0, 1)
    figures = student.lpa.figures
    assert figures["hard_wer"] <= figures["teacher_wer"] + 20
    assert figures["words"] > 16
    assert set(student.lpa.hardness) == {"0", "1"}
    assert all(0 <= layer["soft_share"] < 0.5 for layer in student.lpa.hardness.values())
    for folder in ("teacher", "replace"):
        spliced = load_utterances(tmp_path / folder / "spliced0" / "manifest.jsonl")
        assert len(spliced) == 6
        assert {word for one in spliced for word in one.text.split()} == {"A", "B"}


def test_a_killed_run_continues_to_the_same_weights(toy_recipe: Recipe, tmp_path: Path) -> None:
    """Stopped in the front end's fit and in an epoch, by a hook that is no part of the result."""
    path = toy_recipe(epochs=2)
    path.write_text(path.read_text() + "training: {accumulate: 2}\n")
    recipe = load_recipe(path)
    straight = Trainer(recipe).teacher(tmp_path / "straight")
    assert len(read_steps(tmp_path / "straight")) == 4  # of four batches an epoch
    for phase, step in (("frontend", 2), ("killed", 1)):

        def stop(progress: Progress, phase: str = phase, step: int = step) -> None:
            begun = (tmp_path / "killed" / "steps.csv").exists()
            if progress.step == step and begun == (phase == "killed"):
                raise KeyboardInterrupt

        conduct = Conduct(save_seconds=0.0, after_update=stop)
        with pytest.raises(KeyboardInterrupt):
            Trainer(recipe, conduct).teacher(tmp_path / "killed")
    resumed = Trainer(recipe).teacher(tmp_path / "killed")
    weights = [(run / "model.safetensors").read_bytes() for run in (straight, resumed)]
    assert weights[0] == weights[1]
    assert _log(tmp_path / "killed") == _log(tmp_path / "straight")


def test_a_teacher_is_trained_cycle_by_cycle_from_checkpoints(
    toy_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends near the teacher of one run: between cycles weights are rounded to float16."""
    path = toy_recipe(1)
    cycle = "epochs: 1, learning_rate: 5.0e-3, batch_seconds: 4, speeds: [1.0], dropout: 0"
    cycle += ", time_mask_probability: 0, feature_mask_probability: 0"
    path.write_text(path.read_text() + f"refine: [{{{cycle}}}]\n")

    def weights(*flags: str) -> dict[str, torch.Tensor]:
        out = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        assert main(["teacher", "--recipe", str(path), "--out", str(out), *flags]) == 0
        return load_file(out / "checkpoint" / "model.safetensors")

    def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return sum(float((one[n].float() - other[n].float()).square().sum()) for n in one) ** 0.5

    whole, first = weights(), weights("--cycles", "0")
    teacher = ("--checkpoint", str(tmp_path / "run1" / "checkpoint"))
    second = weights("--cycles", "1", *teacher)
    assert distance(first, whole) > 0.1
    assert distance(second, whole) < 0.2 * distance(first, whole)
    capsys.readouterr()
    out = tmp_path / "refused"
    command = ["teacher", "--out", str(out), "--recipe"]
    for flags, said in (
        (("--cycles", "1"), "cycle 1 trains a teacher on: give that with --checkpoint"),
        (("--cycles", "2"), "has cycles 0 to 1 (0 is 'teacher'), found 2"),
        (("--cycles", "1,0"), "name those that follow each other, as 1,2"),
        (("--cycles=-1,0",), "has cycles 0 to 1 (0 is 'teacher'), found -1, 0"),
        (teacher, "cycle 0 trains from scratch"),
    ):
        assert main([*command, str(path), *flags]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1 and not out.exists()
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace("hidden_size: 32", "hidden_size: 64"))
    assert main([*command, str(other), "--cycles", "1", *teacher]) == 2
    assert "hidden_size is 32, but toy describes a model with 64" in capsys.readouterr().err


def test_a_control_trains_attention_on_through_the_same_joint_phase(
    toy_recipe: Recipe,
    tiny_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = toy_recipe()
    text = path.read_text().replace("joint_epochs: 1", "joint_epochs: 2\n  average_epochs: 1")
    path.write_text(text)
    teacher = tiny_checkpoint(layers=())
    command = ["replace", "--recipe", str(path), "--teacher", str(teacher), "--layers", "1,0"]
    assert main([*command, "--out", str(tmp_path / "lpa")]) == 0
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "control"), "--control"]) == 0
    printed = capsys.readouterr().out
    assert "its attention trained on" in printed and "layer 1: WER" not in printed

    phases = [tmp_path / run / "joint" for run in ("lpa", "control")]
    rows = [
        [(line.get("step"), "wer" in line, line.get("averaged_epochs")) for line in read_log(phase)]
        for phase in phases
    ]
    assert rows[0] == rows[1]  # as many updates, and as many looks at dev
    rates = [
        [line.split(",")[2] for line in (phase / "steps.csv").read_text().splitlines()]
        for phase in phases
    ]
    assert rates[0] == rates[1]
    orders = [phase_record(phase)["batches_sha256"] for phase in phases]
    assert orders[0] == orders[1]
    assert not list((tmp_path / "control").glob("layer-*"))

    trained = attention_teacher(tmp_path / "control" / "checkpoint")  # has no LPA, can be one
    before, after = attention_teacher(teacher).model.state_dict(), trained.model.state_dict()
    moved = {name for name in after if not torch.equal(before[name].half(), after[name].half())}
    assert any("attention.q_proj" in name for name in moved)
    assert any(".layers.2." in name for name in moved) and "lm_head.weight" in moved
    assert not any("feature_extractor" in name for name in moved)


def test_a_control_with_nothing_to_train_is_refused(
    toy_recipe: Recipe, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = load_recipe(toy_recipe())
    frozen = replace(recipe, replace=replace(recipe.replace, co_adapt=False))
    source = attention_teacher(tiny_checkpoint(layers=()))
    with pytest.raises(LpaError, match="co_adapt is false"):
        Trainer(frozen).replace(source, tmp_path / "run", control=True)


def test_a_finished_run_is_not_trained_again_and_belongs_to_its_recipe(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    path = toy_recipe()
    first = Trainer(load_recipe(path)).teacher(tmp_path / "run")
    before = (first / "model.safetensors").stat().st_mtime_ns
    path.write_text(path.read_text().replace("max_offset: 4", "max_offset: 5"))
    again = Trainer(load_recipe(path)).teacher(tmp_path / "run")  # nothing a teacher depends on
    assert again == first and (first / "model.safetensors").stat().st_mtime_ns == before
    path.write_text(path.read_text().replace("5.0e-3", "4.0e-3"))
    with pytest.raises(LpaError, match="another recipe"):
        Trainer(load_recipe(path)).teacher(tmp_path / "run")


def test_a_run_folder_belongs_to_one_recipe_teacher_and_stage(tmp_path: Path) -> None:
    sections = {"data": {"train": [Path("a"), Path("b")]}, "replace": {"seed": 1}}
    run = RunFolder.of(tmp_path, sections, "replace", teacher="f00")
    run.begin()
    turned = dict(reversed(sections.items()))
    assert RunFolder.of(tmp_path, turned, "replace", teacher="f00").record == run.record
    others = (
        ({**sections, "replace": {"seed": 2}}, "replace", "f00"),
        (sections, "replace", "f01"),
        (sections, "control", "f00"),
    )
    for other, stage, teacher in others:
        with pytest.raises(LpaError, match="another recipe, teacher or stage"):
            RunFolder.of(tmp_path, other, stage, teacher=teacher)
    run.record.write_text("{")
    with pytest.raises(LpaError, match="another recipe, teacher or stage"):
        RunFolder.of(tmp_path, sections, "replace", teacher="f00")


class _Killed(BaseException):
    pass


def _half(path: Path, text: str, **_how: object) -> int:
    """As far as a file is written when the process is killed."""
    with path.open("w") as written:
        written.write(text[: len(text) // 2])
    raise _Killed


def test_a_run_killed_while_it_begins_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> RunFolder:
        return RunFolder.of(tmp_path / "run", {"seed": 1}, "teacher")

    with monkeypatch.context() as killing:
        killing.setattr(Path, "write_text", _half)
        with pytest.raises(_Killed):
            run().begin()
    run().begin()
    assert run().is_recorded()
    with monkeypatch.context() as killing:
        killing.setattr(Path, "write_text", _half)
        run().begin()  # goes on, and has nothing to write
    assert run().is_recorded()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.json"]


def test_a_replacement_of_another_teacher_is_refused(
    toy_recipe: Recipe, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    trainer, teacher = Trainer(load_recipe(toy_recipe())), tiny_checkpoint(layers=())
    made = trainer.replace(attention_teacher(teacher), tmp_path / "run")
    assert trainer.replace(attention_teacher(teacher), tmp_path / "run") == made
    assert load_checkpoint(made).replaced == (0, 1)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"final_dropout": 0.5}))
    with pytest.raises(LpaError, match="another recipe, teacher or stage"):
        trainer.replace(attention_teacher(teacher), tmp_path / "run")


def test_a_learning_rate_that_diverges_ends_the_run(toy_recipe: Recipe, tmp_path: Path) -> None:
    recipe = load_recipe(toy_recipe(epochs=3))
    huge = replace(recipe, teacher=replace(recipe.teacher, learning_rate=1e30))
    with pytest.raises(LpaError, match=r"(loss|gradients) became (nan|inf) .*learning_rate"):
        Trainer(huge).teacher(tmp_path / "nan")


def test_train_command_says_what_is_wrong_in_one_line(
    toy_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = toy_recipe()
    missing = path.read_text().replace("dev/manifest.jsonl", "dev/nothing.jsonl")
    path.write_text(missing)
    code = main(["teacher", "--recipe", str(path), "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(errors) == 1
    assert "nothing.jsonl" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun_trains_with_two_processes_and_one_voice(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    path = toy_recipe()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", "lpa_export.commands.train", "teacher"]
    command += ["--recipe", str(path), "--out", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == done.stdout.count('"epoch": 1,') == 1
    one = load_recipe(path)
    Trainer(one).teacher(tmp_path / "one")
    updates = [len(read_steps(tmp_path / name)) for name in ("one", "two")]
    assert updates == [4, 2]
