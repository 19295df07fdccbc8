"""The sweep ranks what is easy to replace before what is hard, the same way every time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import save_checkpoint
from lpa_export.formats.recipe import SweepSettings, load_recipe
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.layers import LPAConfig
from lpa_export.training.attention_profile import attention_of
from lpa_export.training.batches import SpeechSet, normalise
from lpa_export.training.heard import HeardSpeech
from lpa_export.training.initialise import initial_lpa
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.ranking import SWEEP, LayerFit, Ranking, read_ranking, write_ranking
from lpa_export.training.speech import RecipeSpeech, choose_seconds, hold_out
from lpa_export.training.stages import Trainer, attention_teacher
from lpa_export.training.sweep import fit_layers
from lpa_export.training.teacher import CHARACTERS

CONFIG = LPAConfig(32, 2, kernel_size=5, max_offset=4, max_width=8)
SETTINGS = SweepSettings(steps=20, learning_rate=2e-2, batch_seconds=4)


class LocalAttention(Wav2Vec2Attention):
    """Averages the values of the three frames around each, whatever they hold."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, None]:
        values = self.v_proj(hidden_states).transpose(1, 2)
        means = torch.nn.functional.avg_pool1d(values, 3, 1, 1, count_include_pad=False)
        return self.out_proj(means.transpose(1, 2)), None


def local_model(config: Any, local: int) -> Wav2Vec2ForCTC:
    """Attention that depends on the content everywhere but in one layer."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(config).eval()
    for index, layer in enumerate(model.wav2vec2.encoder.layers):
        for projection in (layer.attention.q_proj, layer.attention.k_proj):
            projection.weight.data.normal_(std=1.0)
        for projection in (layer.attention.v_proj, layer.attention.out_proj):
            projection.weight.data.normal_(std=0.3)
        if index == local:
            weights = layer.attention.state_dict()
            layer.attention = LocalAttention(32, 2, config=config)
            layer.attention.load_state_dict(weights)
    return model


@pytest.fixture
def tones(tone_manifest: Callable[..., Path]) -> Callable[[str, int, int], SpeechSet]:
    def make(name: str, count: int, seed: int) -> SpeechSet:
        utterances = load_utterances(tone_manifest(name, count, seed))
        return SpeechSet(utterances, CHARACTERS, receptive_field=1200)

    return make


@pytest.mark.parametrize(("norm", "local"), [("pre", 1), ("post", 2)])
def test_a_layer_with_local_attention_comes_first(
    tiny_config: Callable[..., Any],
    tones: Callable[..., SpeechSet],
    tmp_path: Path,
    norm: str,
    local: int,
) -> None:
    model = local_model(tiny_config(norm), local)
    speech = tones("fit", 12, 0), tones("held", 4, 1)
    fits = fit_layers(
        model,
        [0, 1, 2],
        CONFIG,
        HeardSpeech(*speech, SETTINGS),
        SETTINGS,
        "projections",
        tmp_path / "run",
    )
    assert fits[0].layer == local
    assert fits[0].hard < 0.5 * fits[1].hard
    assert [fit.hard for fit in fits] == sorted(fit.hard for fit in fits)


def test_a_figure_is_the_same_every_time_and_whatever_is_fitted_beside_it(
    tiny_config: Callable[..., Any], tones: Callable[..., SpeechSet], tmp_path: Path
) -> None:
    """Also where the fit was stopped on its way."""
    model = local_model(tiny_config("pre"), 0)
    speech = tones("fit", 8, 0), tones("held", 3, 1)
    settings = replace(SETTINGS, steps=4)

    def fit(name: str, layers: list[int], **changes: Any) -> tuple[LayerFit, ...]:
        conduct = changes.pop("conduct", None)
        chosen = replace(settings, **changes)
        return fit_layers(
            model,
            layers,
            CONFIG,
            HeardSpeech(*speech, chosen),
            chosen,
            "attention",
            tmp_path / name,
            conduct,
        )

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    fits, alone = fit("all", [0, 1, 2]), fit("one", [2])
    with pytest.raises(KeyboardInterrupt):
        fit("again", [0, 1, 2], conduct=Conduct(save_seconds=0.0, after_update=stop))
    assert fit("again", [0, 1, 2]) == fits
    # A sum of three losses has other gradients in its last bits than a loss alone.
    (same,) = (one for one in fits if one.layer == 2)
    assert (alone[0].soft, alone[0].hard) == pytest.approx((same.soft, same.hard), rel=1e-4)
    assert fit("other", [2], seed=1) != alone


def test_the_error_is_energy_over_variance_of_valid_frames(
    tiny_config: Callable[..., Any], tones: Callable[..., SpeechSet], tmp_path: Path
) -> None:
    """Against a loop over single utterances in float64; the sweep itself runs padded batches."""
    model = local_model(tiny_config("pre"), 0)
    held = tones("held", 5, 1)
    settings = replace(SETTINGS, steps=1, learning_rate=1e-12, temperature=(0.4, 0.4))
    fitted = tones("fit", 4, 0)
    (found,) = fit_layers(
        model,
        [1],
        CONFIG,
        HeardSpeech(fitted, held, settings),
        settings,
        "projections",
        tmp_path / "run",
    )

    torch.manual_seed(settings.seed + 1)
    lpa = initial_lpa(attention_of(model, 1), CONFIG, "projections")
    lpa.temperature = 0.4
    layer: Any = model.wav2vec2.encoder.layers[1]
    goals: list[np.ndarray] = []
    guesses: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for index in range(len(held)):
        waveform = torch.from_numpy(normalise(held.clips[index][0]))[None]
        with torch.no_grad():
            states = model(waveform, output_hidden_states=True).hidden_states
            given = layer.layer_norm(states[1])
            goals.append(layer.attention(given)[0][0].double().numpy())
            for hard, outputs in guesses.items():
                lpa.hard = hard
                outputs.append(lpa(given)[0].double().numpy())
    goal = np.concatenate(goals)
    variance = ((goal - goal.mean(0)) ** 2).sum()
    for hard, value in ((False, found.soft), (True, found.hard)):
        error = ((np.concatenate(guesses[hard]) - goal) ** 2).sum()
        assert value == pytest.approx(error / variance, rel=1e-3)


def test_attention_of_an_unknown_kind_is_refused(
    tiny_config: Callable[..., Any], tones: Callable[..., SpeechSet], tmp_path: Path
) -> None:
    model = Wav2Vec2ForCTC(tiny_config())
    model.wav2vec2.encoder.layers[1].attention = torch.nn.LSTM(32, 32)
    speech = tones("fit", 2, 0)
    with pytest.raises(LpaError, match=r"layer 1: expected self-attention .*found LSTM"):
        fit_layers(
            model,
            [0, 1],
            CONFIG,
            HeardSpeech(speech, speech, SETTINGS),
            SETTINGS,
            "projections",
            tmp_path / "run",
        )


def test_a_loss_that_is_no_number_names_the_layer(
    tiny_config: Callable[..., Any], tones: Callable[..., SpeechSet], tmp_path: Path
) -> None:
    model = Wav2Vec2ForCTC(tiny_config())
    speech = tones("fit", 4, 0)
    settings = replace(SETTINGS, learning_rate=1.0, steps=3)
    attention_of(model, 1).out_proj.weight.data.fill_(float("inf"))
    with pytest.raises(LpaError, match=r"the loss became nan \(layer 1\).*sweep\.learning_rate"):
        fit_layers(
            model,
            [0, 1],
            CONFIG,
            HeardSpeech(speech, speech, settings),
            settings,
            "none",
            tmp_path / "run",
        )


def _sweep_recipe(path: Path, more: str = "") -> Path:
    path.write_text(
        path.read_text() + "sweep: {steps: 2, batch_seconds: 4, seconds: 12, seed: 3}\n" + more
    )
    return path


def test_the_stage_writes_figures_and_a_picture_that_belong_to_the_teacher(
    toy_recipe: Callable[..., Path], tiny_config: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = load_recipe(_sweep_recipe(toy_recipe()))
    teacher = tmp_path / "teacher"
    save_checkpoint(teacher, local_model(tiny_config("pre"), 0), CHARACTERS, None)
    source = attention_teacher(teacher)
    trainer = Trainer(recipe)
    ranking = trainer.sweep(source, tmp_path / "some", layers=[2, 0])
    assert set(ranking.order) == {0, 2}
    whole = trainer.sweep(source, tmp_path / "some")
    assert set(ranking.fits) < set(whole.fits)  # figures that were there stay
    straight = trainer.sweep(source, tmp_path / "all")
    assert straight.order == whole.order
    assert [fit.hard for fit in straight.fits] == pytest.approx(
        [fit.hard for fit in whole.fits], rel=1e-4
    )

    content = json.loads((tmp_path / "all" / SWEEP).read_text())
    assert content["teacher_sha256"] == ranking.teacher_sha256
    assert content["settings"]["seconds"] == 12
    assert content["order"] == [fit["layer"] for fit in content["fits"]]
    assert (
        0 < content["speech"]["held_out"]["utterances"] < content["speech"]["fitted"]["utterances"]
    )
    assert (tmp_path / "all" / "sweep.png").read_bytes().startswith(b"\x89PNG")

    other = replace(recipe, lpa=replace(recipe.lpa, max_width=9.0))
    with pytest.raises(LpaError, match="belongs to another recipe, teacher or stage"):
        Trainer(other).sweep(source, tmp_path / "all")
    same = replace(recipe, lpa=replace(recipe.lpa, layers=(2,)), name="other")
    assert Trainer(same).sweep(source, tmp_path / "all") == straight


def test_a_recipe_without_dev_speech_can_be_swept(
    toy_recipe: Callable[..., Path], tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = load_recipe(_sweep_recipe(toy_recipe()))
    assert recipe.data is not None
    recipe = replace(recipe, data=replace(recipe.data, dev=None))
    source = attention_teacher(tiny_checkpoint(layers=()))
    ranking = Trainer(recipe).sweep(source, tmp_path / "run", layers=[1])
    assert ranking.speech["held_out"]["sha256"] != ranking.speech["fitted"]["sha256"]


def _utterances(speakers: str) -> list[Utterance]:
    return [
        Utterance(f"{speaker}{index}", Path(f"{speaker}{index}.wav"), "A", speaker, 2.0)
        for speaker in speakers
        for index in range(5)
    ]


def test_whole_speakers_are_held_out() -> None:
    spoken = _utterances("abcdefgh")
    kept, held = hold_out(spoken, 0.3, seed=0)
    assert {u.speaker for u in kept}.isdisjoint(u.speaker for u in held)
    assert len(kept) + len(held) == 40 and 12 <= len(held) <= 15
    assert hold_out(list(reversed(spoken)), 0.3, seed=0)[1][0].speaker == held[0].speaker
    assert hold_out(spoken, 0.3, seed=1)[1] != held


def test_utterances_are_held_out_where_speakers_are_not_known() -> None:
    spoken = [replace(utterance, speaker=None) for utterance in _utterances("ab")]
    kept, held = hold_out(spoken, 0.3, seed=0)
    assert sorted(u.id for u in kept + held) == sorted(u.id for u in spoken)
    assert len(held) == 3
    with pytest.raises(LpaError, match="single utterance"):
        hold_out(spoken[:1], 0.3, seed=0)


def test_speech_is_chosen_until_there_is_enough() -> None:
    spoken = _utterances("abcd")
    chosen = choose_seconds(spoken, 7.0, seed=0)
    assert len(chosen) == 4
    assert choose_seconds(list(reversed(spoken)), 7.0, seed=0) == chosen
    assert len({utterance.speaker for utterance in choose_seconds(spoken, 20.0, seed=0)}) > 2
    assert len(choose_seconds(spoken, 0.1, seed=0)) == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 9, "order": []}', '{"format_version": 1}']
)
def test_a_damaged_sweep_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / SWEEP
    path.write_text(content)
    with pytest.raises(LpaError, match="not the file of a sweep"):
        read_ranking(path)


def test_a_ranking_survives_its_file(tmp_path: Path) -> None:
    fits = LayerFit(3, 0.25, 0.5), LayerFit(0, 0.75, 1.0)
    ranking = Ranking("r", "abc", {"aperiodic": 2}, "none", {"steps": 1}, {}, fits)
    write_ranking(tmp_path / SWEEP, ranking)
    assert read_ranking(tmp_path / SWEEP) == ranking


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("sweep: {temperature: [0.3, 2.0]}", "temperature must fall, found 0.3 to 2"),
        ("sweep: {held_out_share: 1}", "'held_out_share' must be at most 0.9"),
        ("sweep: {layers: [1]}", "unknown key 'layers' in 'sweep'"),
        ("training: {precision: fp16}", "expected one of fp32, bf16"),
        ("training: {accumulate: 0}", "must be at least 1"),
        ("training: {tensorboard: 1}", "'tensorboard'"),
        ("training: {gpus: 2}", "unknown key 'gpus'"),
        ("replace: {initialise: some}", "expected one of none, projections, attention"),
        ("replace: {curriculum: 1}", "'curriculum': expected true or false"),
        ("replace: {max_wer_points: -1}", "'max_wer_points' must be at least 0"),
    ],
)
def test_a_wrong_setting_is_named_by_line(tmp_path: Path, section: str, problem: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("name: some\nmodel: {checkpoint: x}\nlpa: {layers: [0]}\n" + section + "\n")
    with pytest.raises(LpaError, match=rf"some\.yaml:4: .*{problem}"):
        load_recipe(path)


def test_speakers_of_train_can_belong_to_dev(toy_recipe: Callable[..., Path]) -> None:
    path = toy_recipe()
    plain = RecipeSpeech(load_recipe(path))
    named = plain.spoken
    text = path.read_text()
    path.write_text(text.replace("dev: ", "dev_speakers: [speaker1], dev: "))
    held = RecipeSpeech(load_recipe(path))
    theirs = [item for item in named if item.speaker == "speaker1"]
    assert 0 < len(theirs) < len(named)
    assert held.spoken == [item for item in named if item.speaker == "speaker0"]
    assert held.held_out == [*plain.held_out, *theirs]
    assert {item.id for item in held.for_sweep()["fitted"]} <= {item.id for item in held.spoken}
    path.write_text(text.replace("dev: ", "dev_speakers: [nobody], dev: "))
    with pytest.raises(LpaError, match="names 'nobody', who is none of the 2 speakers"):
        _ = RecipeSpeech(load_recipe(path)).spoken
