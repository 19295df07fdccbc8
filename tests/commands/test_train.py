"""`lpa-train`: what a user gets wrong is said in one line, exit 2, and leaves no run folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lpa_export.commands.train import main

RECIPE = """
name: command
data: {{train: [{manifest}], dev: {manifest}}}
model: {{checkpoint: {checkpoint}}}
lpa: {{layers: {layers}, kernel_size: 5, max_offset: 4, max_width: 8}}
replace: {{epochs_per_layer: 1, joint_epochs: 1, batch_seconds: 60}}
sweep: {{steps: 1, batch_seconds: 20, seconds: 20}}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> Callable[..., Path]:
    def make(manifest: Path, layers: str = "[0, 1]", checkpoint: Path | None = None) -> Path:
        path = tmp_path / "command.yaml"
        checkpoint = checkpoint or tiny_checkpoint("post", layers=())
        path.write_text(
            RECIPE.format(manifest=manifest, layers=layers, checkpoint=checkpoint), "utf-8"
        )
        return path

    return make


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command with a run folder; the one line it refuses with."""

    def run(stage: str, recipe: Path, *flags: str) -> str:
        out = tmp_path / "refused"
        assert main([stage, "--recipe", str(recipe), "--out", str(out), *flags]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1
        assert not out.exists()
        return errors[0]

    return run


@pytest.fixture
def manifest(tmp_path: Path, samples: Path) -> Path:
    return samples / "manifest.jsonl"


LAYERS = {
    "twice": ("1,1", "layers must differ, found 1,1"),
    "a word": ("some", "expected layers as 0,1,2 or auto:4, or of a separator"),
    "of a separator": ("all", "all layers are those of a separator; give numbers or auto:N"),
    "negative": ("-1", "layers"),
    "auto of nothing": ("auto:0", "of a separator intra, inter or all; found 'auto:0'"),
    "outside": ("0,3", "layer 3 does not exist: the model has layers 0 to 2"),
    "auto of too many": ("auto:4", "auto:4 asks for more than the model's 3 layers"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_the_model_does_not_have_are_refused(
    recipe: Callable[..., Path], refused: Callable[..., str], manifest: Path, name: str
) -> None:
    layers, problem = LAYERS[name]
    assert problem in refused("replace", recipe(manifest), f"--layers={layers}")


@pytest.mark.parametrize(("layers", "problem"), [("2,7", "layer 7"), ("auto:2", "names its")])
def test_a_sweep_of_layers_that_are_not_there_is_refused(
    recipe: Callable[..., Path],
    refused: Callable[..., str],
    manifest: Path,
    layers: str,
    problem: str,
) -> None:
    assert problem in refused("sweep", recipe(manifest), "--layers", layers)


def test_layers_of_the_recipe_are_checked_against_its_checkpoint(
    recipe: Callable[..., Path], refused: Callable[..., str], manifest: Path
) -> None:
    assert "layer 5 does not exist" in refused("replace", recipe(manifest, layers="[0, 5]"))


def test_a_recipe_without_layers_has_nothing_to_replace(
    recipe: Callable[..., Path], refused: Callable[..., str], manifest: Path
) -> None:
    assert "no layer to replace" in refused("replace", recipe(manifest, layers="[]"))


@pytest.mark.parametrize("stage", ["sweep", "replace"])
def test_a_host_whose_attention_is_not_known_is_refused(
    recipe: Callable[..., Path],
    refused: Callable[..., str],
    manifest: Path,
    tiny_checkpoint: Callable[..., Path],
    stage: str,
) -> None:
    checkpoint = tiny_checkpoint(layers=())
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "whisper"}))
    problem = refused(stage, recipe(manifest, checkpoint=checkpoint))
    assert (
        "model_type is 'whisper', which is no host that this tool knows; known: wav2vec2" in problem
    )


@pytest.mark.parametrize("stage", ["sweep", "replace"])
def test_a_model_with_lpa_layers_is_no_teacher(
    recipe: Callable[..., Path],
    refused: Callable[..., str],
    manifest: Path,
    tiny_checkpoint: Callable[..., Path],
    stage: str,
) -> None:
    made = recipe(manifest, checkpoint=tiny_checkpoint(layers=(1,)))
    assert "has LPA layers already" in refused(stage, made)


@pytest.mark.parametrize("stage", ["sweep", "replace"])
@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("\n\n", "no utterance found"),
        ('{"text": "A"}\n', "no 'audio_filepath'"),
        ('{"audio_filepath": "nothing.wav", "text": "A"}\n', "no audio file"),
    ],
)
def test_a_manifest_without_a_usable_line_is_refused(
    recipe: Callable[..., Path],
    refused: Callable[..., str],
    tmp_path: Path,
    stage: str,
    lines: str,
    problem: str,
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(lines)
    assert problem in refused(stage, recipe(manifest))


def test_a_manifest_without_a_word_is_nothing_to_learn_from(
    recipe: Callable[..., Path], refused: Callable[..., str], samples: Path, tmp_path: Path
) -> None:
    entries = map(json.loads, (samples / "manifest.jsonl").read_text().splitlines())
    silent = tmp_path / "silent.jsonl"
    silent.write_text(
        "".join(
            json.dumps(
                entry | {"audio_filepath": str(samples / entry["audio_filepath"]), "text": " "}
            )
            + "\n"
            for entry in entries
        )
    )
    assert "not one utterance of data.train has a word" in refused("replace", recipe(silent))


@pytest.mark.parametrize("content", ["a file", "a folder"])
@pytest.mark.parametrize("stage", ["sweep", "replace"])
def test_a_folder_of_somebody_else_is_not_written_into(
    recipe: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    stage: str,
) -> None:
    out = tmp_path / "taken"
    if content == "a folder":
        out.mkdir()
        (out / "letter.txt").write_text("dear")
    else:
        out.write_text("dear")
    assert main([stage, "--recipe", str(recipe(manifest)), "--out", str(out)]) == 2
    assert "exists and is no run of this recipe" in capsys.readouterr().err


def test_every_stage_runs_on_librispeech_clips(
    recipe: Callable[..., Path],
    librispeech_sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wav2vec2-base in small (post-norm, group norm) with random weights, as from a hub."""
    path = str(recipe(librispeech_sample))
    sweep, out = tmp_path / "sweep", tmp_path / "run"
    assert main(["sweep", "--recipe", path, "--out", str(sweep)]) == 0
    told = capsys.readouterr().out
    assert told.count("hard gates") == 3 and f"--layers auto:N --sweep {sweep}" in told
    command = ["replace", "--recipe", path, "--out", str(out), "--layers", "auto:1"]
    assert main([*command, "--sweep", str(sweep)]) == 0
    told = capsys.readouterr().out
    first = json.loads((sweep / "sweep.json").read_text())["order"][0]
    assert f"layer {first}: WER" in told and f"checkpoint: {out / 'checkpoint'}" in told
    assert main([*command, "--sweep", str(sweep)]) == 0  # a finished run is told again
    assert f"layer {first}: WER" in capsys.readouterr().out
