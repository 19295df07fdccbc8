"""A study in miniature: shared phases, resuming, processes side by side, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.commands.train import main
from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.formats.recipe import Recipe, load_recipe
from lpa_export.hosts import lpa_layers
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.stages import Trainer, attention_teacher
from lpa_export.training.study.plan import chains, plan
from lpa_export.training.study.run import (
    RESULT,
    VariantResult,
    read_result,
    run_chain,
    run_folder,
)
from lpa_export.training.study.settings import load_study
from lpa_export.training.teacher import CHARACTERS, host_config

STUDY = """\
base:
  replace: {epochs_per_layer: 1, joint_epochs: 1, batch_seconds: 2}
  sweep: {steps: 2, batch_seconds: 20, seconds: 20}
groups:
  depth: {title: How deep, reference: teacher}
variants:
  teacher: {group: depth, text: nothing replaced, layers: []}
  one: {group: depth, text: one layer, layers: [1]}
  two: {group: depth, text: two layers, layers: [1, 0]}
"""


@pytest.fixture
def recipe(toy_recipe: Callable[..., Path], tone_manifest: Callable[..., Path]) -> Path:
    path = toy_recipe()
    few = tone_manifest("few", 6, seed=2)
    text = path.read_text().replace(
        f"[{few.parent.parent / 'train' / 'manifest.jsonl'}]", f"[{few}]"
    )
    path.write_text(text.replace(str(few.parent.parent / "dev" / "manifest.jsonl"), str(few)))
    return path


@pytest.fixture
def teacher(recipe: Path, tmp_path: Path) -> Path:
    """A teacher that has learnt nothing."""
    architecture = load_recipe(recipe).model.architecture
    assert architecture is not None
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(host_config(architecture)).eval()
    return save_checkpoint(tmp_path / "teacher", model, CHARACTERS, None)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    def make(text: str = STUDY) -> Path:
        path = tmp_path / "toy.study.yaml"
        path.write_text(text)
        return path

    return make


@pytest.fixture
def command(recipe: Path, teacher: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(study: Path, *flags: str) -> list[str]:
        paths = {"--recipe": recipe, "--study": study, "--teacher": teacher}
        given = [str(part) for pair in paths.items() for part in pair]
        return ["study", *given, "--out", str(tmp_path / "out"), *flags]

    return make


def _trained(out: Path) -> list[str]:
    """Names of the phases that have been trained in a folder, in their order."""
    done = sorted(out.rglob("done.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in done]


def _result(out: Path, name: str, seed: int = 0) -> VariantResult:
    result = read_result(run_folder(out, name, seed))
    assert result is not None
    return result


def _weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


def test_shared_phases_are_trained_once_and_give_the_bytes_of_a_run_of_its_own(
    recipe: Path,
    teacher: Path,
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, path = tmp_path / "out", study()
    assert main(command(path)) == 0
    assert _trained(out) == ["layer-1", "joint", "layer-0", "joint"]
    printed = capsys.readouterr().out
    assert "two:0: seed 0, layers to replace: 1, 0" in printed and "two:0: WER" in printed
    teachers, two = _result(out, "teacher"), _result(out, "two")
    assert two.layers == (1, 0) and len(two.layer_wer) == 2 and teachers.layer_wer == ()
    assert set(two.hardness) == {"0", "1"} and two.seconds > 0
    assert teachers.layers == () and teachers.hard_wer == teachers.teacher_wer == two.teacher_wer
    assert sum(u.hard for u in two.utterances) / sum(u.words for u in two.utterances) == (
        pytest.approx(two.hard_wer / 100, abs=1e-5)
    )
    before = _times(out)
    assert main(command(path)) == 0  # everything has its result
    assert _times(out) == before

    loaded = load_study(recipe, path)
    (variant,) = loaded.chosen(["two"])
    trainer = Trainer(variant.seeded(0))
    alone = trainer.replace(attention_teacher(teacher), tmp_path / "alone", layers=(1, 0))
    assert _trained(tmp_path / "alone") == ["layer-1", "layer-0", "joint"]
    assert (alone / "model.safetensors").read_bytes() == _weights(run_folder(out, "two", 0))


def _times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def test_a_control_has_the_joint_phase_of_the_variant_that_it_is_for(
    study: Callable[..., Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = "  kept: {group: depth, text: attention trained on, layers: [1], control: true}\n"
    path, out = study(STUDY + more), tmp_path / "out"
    assert main(command(path, "--only", "one,kept,teacher")) == 0
    one, kept, teachers = (_result(out, name) for name in ("one", "kept", "teacher"))
    assert kept.layers == () and kept.hardness == {} and kept.psnr_db is None
    assert kept.soft_wer == kept.hard_wer and kept.teacher_wer == teachers.teacher_wer
    assert kept.joint == one.joint and teachers.joint == {}
    assert kept.joint["updates"] > 0 and kept.joint["looks_at_dev"] == 1
    assert _trained(run_folder(out, "kept", 0)) == ["joint"]
    assert main(command(path, "--report", str(tmp_path / "report.md"))) == 0
    lines = (tmp_path / "report.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if "`" in line]
    cells = {row[1]: row[5] for row in rows if len(row) > 5}
    assert cells["`kept`"] == cells["`one`"] and "1 looks, batches " in cells["`kept`"]


def test_a_killed_study_continues_to_the_same_weights(
    recipe: Path, teacher: Path, study: Callable[..., Path], tmp_path: Path
) -> None:
    loaded, source = load_study(recipe, study()), attention_teacher(teacher)
    chosen = loaded.chosen(["one", "two"])
    begun = [0]

    def killed_in_the_third_phase(progress: Progress) -> None:
        begun[0] += progress.step == 1
        if begun[0] == 3:
            raise KeyboardInterrupt

    out, straight = tmp_path / "out", tmp_path / "straight"
    conducts = {out: Conduct(after_update=killed_in_the_third_phase), straight: Conduct()}
    planned = {}
    for folder, conduct in conducts.items():
        (planned[folder],) = chains(plan(loaded, chosen, source, folder, conduct))
    with pytest.raises(KeyboardInterrupt):
        run_chain(planned[out], source, out, conduct=conducts[out])
    assert (run_folder(out, "one", 0) / RESULT).is_file()
    assert not (run_folder(out, "two", 0) / RESULT).exists()
    before = _times(run_folder(out, "one", 0))
    for folder, chain in planned.items():
        run_chain(chain, source, folder)
    assert _times(run_folder(out, "one", 0)) == before
    assert _weights(run_folder(out, "two", 0)) == _weights(run_folder(straight, "two", 0))


def test_chains_run_side_by_side_and_failures_are_named(
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = (
        "  broken: {group: depth, text: diverges, layers: [2], replace: {learning_rate: 1.0}}\n"
    )
    path = study(STUDY + broken)
    folder = run_folder(tmp_path / "out", "broken", 0)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("not a run")
    assert main(command(path, "--jobs", "2", "--only", "one,broken")) == 2
    said = capsys.readouterr()
    assert "one:0: WER" in said.out and "broken:0: has failed or not run" in said.out
    (line,) = said.err.strip().splitlines()
    assert "1 of 2 chains failed, the first at broken:0" in line
    assert "exists and is no run of this recipe" in line and "logs/broken-seed-0.txt" in line


def test_variants_that_differ_in_the_joint_phase_share_a_chain_and_others_do_not(
    recipe: Path, teacher: Path, study: Callable[..., Path], tmp_path: Path
) -> None:
    more = """\
  hard: {group: depth, text: t, layers: [1, 2], replace: {hard_forward: false}}
  slow: {group: depth, text: t, layers: [1], replace: {learning_rate: 1.0e-5}}
  other: {group: depth, text: t, layers: [2, 1]}
  seeds: {group: depth, text: t, layers: [1], seeds: [0, 3]}
  kernel: {group: depth, text: t, layers: [1], lpa: {kernel_size: 7}}
  kept: {group: depth, text: t, layers: [1], control: true}
"""
    loaded = load_study(recipe, study(STUDY + more))
    source = attention_teacher(teacher)
    planned = plan(loaded, loaded.variants, source, tmp_path / "out", Conduct())
    found = {frozenset(run.name for run in chain) for chain in chains(planned)}
    assert found == {
        frozenset({"one:0", "two:0", "hard:0", "seeds:0"}),
        *(
            frozenset({name})
            for name in ("teacher:0", "slow:0", "other:0", "seeds:3", "kernel:0", "kept:0")
        ),
    }


def test_an_order_is_that_of_the_sweep_or_its_reverse(
    recipe: Path, teacher: Path, study: Callable[..., Path], tmp_path: Path
) -> None:
    more = """\
  easy: {group: depth, text: t, order: sweep, count: 2}
  hard: {group: depth, text: t, order: reverse, count: 2}
"""
    loaded = load_study(recipe, study(STUDY + more))
    source = attention_teacher(teacher)
    planned = plan(loaded, loaded.chosen(["easy", "hard"]), source, tmp_path / "out", Conduct())
    easy, hard = (run.layers for run in planned)
    assert {*easy, *hard} == {0, 1, 2} and easy[1] == hard[1]
    assert (tmp_path / "out" / "sweep" / "sweep.json").is_file()


def test_every_study_of_the_repository_loads() -> None:
    folder = Path(__file__).resolve().parents[2] / "recipes"
    for path in sorted(folder.glob("*.study.yaml")):
        recipe = path.with_name(path.name.replace(".study", ""))
        assert len(load_study(recipe, path).variants) > 1


MISTAKES = {
    "unknown key": (STUDY + "extra: 1\n", r"toy.study.yaml:\d+: unknown key 'extra' in the study"),
    "no reference": (
        STUDY.replace("reference: teacher", "reference: nobody"),
        "compares with 'nobody', which is no variant",
    ),
    "no group": (STUDY.replace("group: depth, text: two", "group: width, text: two"), "'width'"),
    "a layer outside": (
        STUDY.replace("[1, 0]", "[1, 7]"),
        r"variant 'two': .*layers must lie in 0\.\.2, found 7",
    ),
    "a layer twice": (STUDY.replace("[1, 0]", "[1, 1]"), "variant 'two': layers must differ"),
    "too deep": (
        STUDY.replace("layers: [1, 0]", "order: sweep, count: 4"),
        "variant 'two': layer 3 does not exist",
    ),
    "half an order": (
        STUDY.replace("layers: [1, 0]", "order: sweep"),
        r"toy.study.yaml:\d+: 'two': 'order' and 'count' belong together",
    ),
    "both": (
        STUDY.replace("layers: [1, 0]", "layers: [1], order: sweep, count: 1"),
        "not both",
    ),
    "unknown override": (
        STUDY.replace("layers: [1, 0]", "layers: [1], lpa: {pulse: 3}"),
        r"variant 'two': .*toy.study.yaml:9: unknown key 'pulse' in 'lpa'; known: ",
    ),
    "bad override": (
        STUDY.replace("layers: [1, 0]", "layers: [1], replace: {initialise: magic}"),
        r"variant 'two': .*toy.study.yaml:9: 'initialise': expected one of none, projections",
    ),
    "unknown section of the base": (
        STUDY.replace("  sweep:", "  weather: {steps: 1}\n  sweep:"),
        r"toy.study.yaml:3: unknown key 'weather' in the recipe",
    ),
    "a bad name": (STUDY.replace("  two:", "  ../two:"), r"a name in 'variants' must be like"),
    "a name twice": (STUDY.replace("  two:", "  one:"), "key 'one' in 'variants' is there twice"),
    "a control of nothing": (
        STUDY.replace("layers: [1, 0]", "layers: [], control: true"),
        "variant 'two': a control names the layers that it does not replace",
    ),
    "no YAML": ("base: [", r"toy.study.yaml:1: not valid YAML"),
    "empty": ("", "expected a study, found an empty file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_study_file_is_refused_in_one_line(
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    text, complaint = MISTAKES[mistake]
    assert main(command(study(text))) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(complaint, line), line
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_another_shape_or_study_is_refused(
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    recipe: Path,
    tiny_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = study()
    other = ["--teacher", str(tiny_checkpoint(layers=(), name="narrow"))]
    assert main([*command(path), *other]) == 2
    assert "conv_dim is [24, 24], but toy describes a model with [32, 32]" in _line(capsys)
    replaced = ["--teacher", str(tiny_checkpoint(name="replaced"))]
    assert main([*command(path), *replaced]) == 2
    assert "has LPA layers already" in _line(capsys)
    assert main([*command(path), "--only", "one,three"]) == 2
    assert "no variant 'three' in the study; known: teacher, one, two" in _line(capsys)
    assert not (tmp_path / "out").exists()

    assert main(command(path, "--only", "teacher")) == 0
    loaded = load_recipe(recipe)
    assert loaded.model.architecture is not None
    model = Wav2Vec2ForCTC(host_config(loaded.model.architecture))
    another = save_checkpoint(tmp_path / "another", model, CHARACTERS, None)
    assert main([*command(path), "--teacher", str(another)]) == 2
    assert "belongs to another recipe, teacher or stage" in _line(capsys)


def test_a_result_of_other_settings_is_not_taken_for_this_one(
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(study(), "--only", "teacher")) == 0
    changed = STUDY.replace("joint_epochs: 1", "joint_epochs: 2")
    assert main(command(study(changed), "--only", "teacher")) == 2
    assert "was run with replace.joint_epochs 1, now it is 2; delete" in _line(capsys)
    changed = STUDY.replace("layers: []", "layers: [2]")
    assert main(command(study(changed), "--only", "teacher")) == 2
    assert "was run with choice.layers [], now it is [2]; delete" in _line(capsys)


def test_nor_is_one_that_was_augmented_as_another_cycle_of_the_teacher_says(
    study: Callable[..., Path],
    command: Callable[..., list[str]],
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(study(), "--only", "teacher")) == 0
    recipe.write_text(recipe.read_text() + "refine:\n  - {time_mask_probability: 0.4}\n")
    assert main(command(study(), "--only", "teacher")) == 2
    said = "was run with augmentation.time_mask_probability 0.0, now it is 0.4; delete"
    assert said in _line(capsys)


def _line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    "pulses",
    ["aperiodic: 0", "periodic: 0", "positional: 0", "anchor: utterance"],
)
@pytest.mark.parametrize("initialise", ["projections", "attention"])
def test_a_model_trains_and_hardens_without_a_family_or_with_the_other_anchor(
    recipe: Path, teacher: Path, tmp_path: Path, pulses: str, initialise: str
) -> None:
    text = recipe.read_text().replace(
        "joint_epochs: 1", f"joint_epochs: 1\n  initialise: {initialise}"
    )
    recipe.write_text(text.replace("kernel_size: 5", f"kernel_size: 5, {pulses}"))
    loaded: Recipe = load_recipe(recipe)
    source = attention_teacher(teacher)
    made = load_checkpoint(Trainer(loaded).replace(source, tmp_path / "run", layers=(1,)))
    name, _, value = pulses.partition(": ")
    config = lpa_layers(made.model)[1].config
    assert str(getattr(config, name)) == value
    assert made.lpa is not None and 0 <= made.lpa.hardness["1"]["soft_share"] < 0.5
    assert torch.isfinite(torch.tensor(made.lpa.hardness["1"]["psnr_db"]))
