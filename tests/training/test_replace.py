"""Progressive replacement: order, stop rule, and what each technique changes when switched off."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.commands.train import main
from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.recipe import ReplaceSettings, load_recipe
from lpa_export.formats.speech import load_utterances
from lpa_export.hosts import lpa_layers
from lpa_export.layers import LPAConfig
from lpa_export.training.batches import SpeechSet
from lpa_export.training.files import save_weights
from lpa_export.training.loop import BEST, Progress, Settings
from lpa_export.training.objective import Recognition
from lpa_export.training.ranking import SWEEP, read_ranking
from lpa_export.training.replace import Replacement
from lpa_export.training.replacement_log import ReplacementLog, read_log_of_layers
from lpa_export.training.stages import Trainer, attention_teacher
from lpa_export.training.teacher import CHARACTERS

LOOP = Settings(epochs=1, learning_rate=1e-3, seed=0)
CONFIG = LPAConfig(32, 2, kernel_size=5, max_offset=4, max_width=8)


class Phases:
    """Stands in for the training loop: asks for two losses, and notes what they ran with."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(
        self, model: Any, loss: Any, source: Any, settings: Settings, folder: Path, **options: Any
    ) -> Progress:
        batch = source.batch(0, 0, [(0, 0)])
        temperatures: dict[int, list[float]] = {}
        for share in (0.0, 0.5):
            loss(batch, share)
            for index, lpa in lpa_layers(model).items():
                temperatures.setdefault(index, []).append(lpa.temperature)
        first = next(iter(lpa_layers(model).values()))
        hidden = torch.randn(1, 20, 32, generator=torch.manual_seed(0), requires_grad=True)
        ran = first(hidden)
        first.hard = True
        hard = torch.equal(ran, first(hidden))
        first.hard = False
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        self.seen.append(
            {"phase": folder.name, "trained": trained, "tau": temperatures, "hard": hard}
            | {"masked": model.config.apply_spec_augment, "dropout": options["dropout"]}
        )
        figures = options["evaluate"]()
        folder.mkdir(parents=True)
        save_weights(folder / BEST, model)
        return Progress(epoch=1, best=figures["wer"])


class Counted(Recognition):
    """Every replaced layer costs 20 points of WER, 10 points is the teacher."""

    def value(self, model: Any) -> float:
        return 10.0 + 20.0 * len(lpa_layers(model))


@pytest.fixture
def phases() -> Phases:
    """No training."""
    return Phases()


@pytest.fixture
def replacement(
    phases: Phases,
    tiny_config: Callable[..., Any],
    tone_manifest: Callable[..., Path],
    tmp_path: Path,
) -> Callable[..., Replacement]:
    speech = SpeechSet(
        load_utterances(tone_manifest("clips", 3, seed=0)), CHARACTERS, receptive_field=1200
    )

    def make(name: str = "run", **settings: Any) -> Replacement:
        torch.manual_seed(0)
        teacher = Wav2Vec2ForCTC(tiny_config("pre", num_hidden_layers=3))
        student = Wav2Vec2ForCTC(teacher.config).eval()
        student.load_state_dict(teacher.state_dict())
        chosen = ReplaceSettings(**settings)
        return Replacement(
            teacher,
            student,
            CONFIG,
            Counted(speech, speech, chosen),
            chosen,
            LOOP,
            LOOP,
            tmp_path / name,
            train_phase=phases,
        )

    return make


def test_layers_are_replaced_in_the_order_given_then_jointly(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    made = replacement()
    log = made.run((2, 0))
    assert [seen["phase"] for seen in phases.seen] == ["layer-2", "layer-0", "joint"]
    assert log.layers == (2, 0)
    assert [round(step.cost) for step in log.steps] == [20, 20]
    assert set(lpa_layers(made.student)) == {0, 2}
    assert read_log_of_layers(made.folder) == log


@pytest.mark.parametrize(
    ("limits", "kept", "name"),
    [
        ({"max_wer_points": 50.0}, (1, 0), "replace.max_wer_points 50"),
        ({"max_wer_points_per_layer": 25.0}, (1, 0, 2), ""),
        ({"max_wer_points_per_layer": 25.0, "max_wer_points": 30.0}, (1,), "max_wer_points 30"),
    ],
)
def test_replacement_stops_where_the_next_layer_costs_too_much(
    phases: Phases,
    replacement: Callable[..., Replacement],
    capsys: pytest.CaptureFixture[str],
    limits: dict[str, float],
    kept: tuple[int, ...],
    name: str,
) -> None:
    made = replacement(**limits)
    log = made.run((1, 0, 2))
    assert log.layers == kept
    assert set(lpa_layers(made.student)) == set(kept)
    assert name in log.stopped and bool(name) == bool(log.stopped)
    assert f"layers replaced: {', '.join(map(str, kept))}" in log.stopped or not name
    assert ("stopped: " in capsys.readouterr().out) == bool(name)
    assert json.loads((made.folder / "layers.json").read_text())["stopped"] == log.stopped
    again = replacement(**limits)  # a resumed run decides the same and keeps the same weights
    assert again.run((1, 0, 2)) == log
    states = made.student.state_dict(), again.student.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    for layer in {0, 1, 2} - set(kept):
        host = made.teacher.wav2vec2.encoder.layers[layer].state_dict()
        undone = made.student.wav2vec2.encoder.layers[layer].state_dict()
        assert all(torch.equal(host[key], undone[key]) for key in host)


def test_a_first_layer_that_costs_too_much_ends_the_run(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    with pytest.raises(LpaError, match=r"from 10\.00 to 30\.00 %.*replaced: none; raise the limit"):
        replacement(max_wer_points_per_layer=5.0).run((1, 0))


def test_only_the_new_layer_softens_and_all_do_jointly(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    made = replacement(layer_temperature=(2.0, 0.5), joint_temperature=(0.4, 0.1))
    made.run((0, 1))
    first, second, joint = (seen["tau"] for seen in phases.seen)
    assert first == {0: [2.0, pytest.approx(1.0)]}
    assert second == {0: [0.5, 0.5], 1: [2.0, pytest.approx(1.0)]}
    assert joint == {0: [0.4, pytest.approx(0.2)], 1: [0.4, pytest.approx(0.2)]}


def test_without_the_curriculum_the_last_temperature_holds_throughout(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    replacement(curriculum=False).run((0, 1))
    taus = [tau for seen in phases.seen for both in seen["tau"].values() for tau in both]
    assert set(taus) == {ReplaceSettings().joint_temperature[1]}


def test_without_co_adaptation_nothing_but_lpa_is_trained(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    for name, co_adapt in (("with", True), ("without", False)):
        replacement(name, co_adapt=co_adapt).run((1,))
    with_layer, with_joint, layer, joint = (seen["trained"] for seen in phases.seen)
    assert layer and layer == joint
    assert all(".layers.1.attention.lpa." in name for name in layer)
    assert {name.split(".attention.")[0] for name in with_layer - layer} == {
        name for name in with_layer - layer
    }
    assert all(".layers.1." in name for name in with_layer)
    assert "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight" in with_layer
    assert {"lm_head.weight", "wav2vec2.encoder.layers.2.attention.q_proj.weight"} < with_joint
    assert not any("feature_extractor" in name for name in with_joint)


@pytest.mark.parametrize(
    ("setting", "seen"), [("hard_forward", ("hard",)), ("joint_augment", ("masked", "dropout"))]
)
@pytest.mark.parametrize("switch", [True, False])
def test_only_the_joint_phase_has_hard_gates_or_augmentation_and_only_when_asked(
    phases: Phases,
    replacement: Callable[..., Replacement],
    setting: str,
    seen: tuple[str, ...],
    switch: bool,
) -> None:
    replacement(**{setting: switch}).run((1,))
    for what in seen:
        assert [phase[what] for phase in phases.seen] == [False, switch]


def test_each_initialisation_starts_from_what_it_names(
    phases: Phases, replacement: Callable[..., Replacement]
) -> None:
    values, windows = {}, {}
    for how in ("none", "projections", "attention"):
        made = replacement(how, initialise=how)
        made.run((1,))
        lpa = lpa_layers(made.student)[1]
        attention: Any = made.teacher.wav2vec2.encoder.layers[1].attention
        values[how] = torch.equal(lpa.value.weight, attention.v_proj.weight)
        windows[how] = lpa.controls.bias.detach().clone()
    assert values == {"none": False, "projections": True, "attention": True}
    assert torch.equal(windows["none"], windows["projections"])
    assert not torch.equal(windows["none"], windows["attention"])


def test_costs_are_counted_from_the_layer_before_and_from_the_teacher() -> None:
    settings = ReplaceSettings(max_wer_points_per_layer=1.0, max_wer_points=1.5)
    log = ReplacementLog(20.0).take(3, 20.8, settings).take(1, 20.5, settings)
    assert [round(step.cost, 6) for step in log.steps] == [0.8, -0.3]
    assert log.take(2, 21.49, settings).layers == (3, 1, 2)
    assert "per_layer 1" in log.take(2, 21.51, settings).stopped
    far = log.take(2, 21.4, settings).take(0, 21.6, settings)
    assert "max_wer_points 1.5" in far.stopped and far.layers == (3, 1, 2) and far.value == 21.4


@pytest.mark.parametrize("content", ["", "[]", '{"steps": [1]}', '{"teacher": 1}'])
def test_a_damaged_log_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "layers.json").write_text(content)
    with pytest.raises(LpaError, match="not the file of a replacement"):
        read_log_of_layers(tmp_path)


def _short(path: Path, teacher: Path) -> Path:
    """A recipe of a few steps for a checkpoint."""
    text = path.read_text()
    architecture = text[text.index("  architecture:") : text.index("teacher:")]
    text = text.replace(architecture, f"  checkpoint: {teacher}\n")
    path.write_text(text + "sweep: {steps: 3, batch_seconds: 4, seconds: 12}\n")
    return path


def test_auto_takes_the_easiest_layers_of_the_sweep_and_runs_it_first(
    toy_recipe: Callable[..., Path], tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    path = _short(toy_recipe(), tiny_checkpoint(layers=()))
    out, sweep = tmp_path / "run", tmp_path / "sweep"
    command = ["replace", "--recipe", str(path), "--out", str(out), "--sweep", str(sweep)]
    assert main([*command, "--layers", "auto:2"]) == 0
    order = read_ranking(sweep / SWEEP).order
    assert tuple(step.layer for step in read_log_of_layers(out).steps) == order[:2]
    assert load_checkpoint(out / "checkpoint").replaced == tuple(sorted(order[:2]))


def test_auto_refuses_a_sweep_of_another_recipe(
    toy_recipe: Callable[..., Path],
    tiny_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _short(toy_recipe(), tiny_checkpoint(layers=()))
    sweep = tmp_path / "sweep"
    assert main(["sweep", "--recipe", str(path), "--out", str(sweep)]) == 0
    assert "hard gates" in capsys.readouterr().out
    path.write_text(path.read_text().replace("steps: 3", "steps: 4"))
    command = ["replace", "--recipe", str(path), "--out", str(tmp_path / "run")]
    assert main([*command, "--layers", "auto:2", "--sweep", str(sweep)]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and "belongs to another recipe, teacher or stage" in errors[0]
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_dev_speech_cannot_choose_weights(
    toy_recipe: Callable[..., Path], tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = load_recipe(_short(toy_recipe(), tiny_checkpoint(layers=())))
    assert recipe.data is not None
    recipe = replace(recipe, data=replace(recipe.data, dev=None))
    source = attention_teacher(str(recipe.model.checkpoint))
    with pytest.raises(LpaError, match="names no 'dev' speech"):
        Trainer(recipe).replace(source, tmp_path / "run")
