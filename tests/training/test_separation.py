"""Enhancement from mixtures made on the fly: what is mixed, what is minimised, and the run."""

import dataclasses
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from lpa_export.commands.train import main
from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE, write_flac
from lpa_export.formats.generated_noise import generated_noise, varied_noise
from lpa_export.formats.mixing import Draw
from lpa_export.formats.mixtures import load_mixtures
from lpa_export.formats.separation_recipe import (
    MixingSettings,
    SeparationRecipe,
    SeparationReplace,
    load_separation_recipe,
)
from lpa_export.formats.separator import Separator, load_separator, save_separator
from lpa_export.hosts import encoder_layers, lpa_layers
from lpa_export.hosts.sepformer import SepFormer
from lpa_export.layers import LPAConfig
from lpa_export.training.attention_profile import attention_of
from lpa_export.training.clips import Clips
from lpa_export.training.distributed import in_precision
from lpa_export.training.initialise import initial_lpa
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.ranking import read_ranking
from lpa_export.training.records import read_log
from lpa_export.training.replacement_log import ReplacementLog
from lpa_export.training.separation.evaluate import IMPROVEMENT, improvements, summary
from lpa_export.training.separation.heard import mixture_profiles
from lpa_export.training.separation.losses import separation_loss, si_snr
from lpa_export.training.separation.mixtures import (
    TEST_SNRS,
    MixtureBatches,
    Mixtures,
    Sounds,
    held_out,
)
from lpa_export.training.separation.objective import Separation
from lpa_export.training.separation.stages import FIGURES, SeparationTrainer

RECIPE = """\
task: separation
name: small
model: {sampling_rate: 16000, sources: 1, filters: 8, kernel_size: 32, hidden_size: 8, chunk: 20,
        blocks: 1, intra_layers: 1, inter_layers: 1, num_attention_heads: 2, intermediate_size: 16}
data:
  train: [speech/manifest.jsonl]
  dev: speech/manifest.jsonl
  test: speech/manifest.jsonl
  test_list: test.jsonl
  noise: {manifest: noise/manifest.jsonl, dev: ["*/hum.*"], test: ["*/hiss-2.*"]}
mixing: {clip_seconds: 0.2, dev_clips: 5, test_clips: 5, test_seconds: 0.2}
teacher: {epochs: 2, clips_per_epoch: 4, batch_clips: 2, average_epochs: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path, tone_folder: Callable[..., Path]) -> Path:
    """A recipe beside six clips of tones and three of noise."""
    tone_folder(tmp_path / "speech", 6, 0)
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    for name in ("hum", "hiss-1", "hiss-2"):
        waveform = 0.1 * rng.standard_normal(SAMPLE_RATE // 4).astype(np.float32)
        write_flac(tmp_path / "noise" / f"{name}.flac", waveform)
    rows = [{"audio_filepath": f"{name}.flac"} for name in ("hum", "hiss-1", "hiss-2")]
    manifest = tmp_path / "noise" / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def loaded(recipe: Path) -> SeparationRecipe:
    return load_separation_recipe(recipe)


def _sounds(tmp_path: Path, speech: np.ndarray, noise: np.ndarray, samples: int) -> Sounds:
    for name, waveform in (("speech", speech), ("noise", noise)):
        write_flac(tmp_path / f"{name}.flac", waveform.astype(np.float32))
    spoken, loud = (
        Clips([tmp_path / f"{name}.flac"], (1.0,), receptive_field=32)
        for name in ("speech", "noise")
    )
    return Sounds(spoken, loud, samples, SAMPLE_RATE)


def test_si_snr_is_that_of_torchmetrics() -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio")
    estimate, source = torch.randn(2, 3, 400).unbind(0)
    estimate = source + 0.3 * estimate + 0.2
    expected = audio.scale_invariant_signal_noise_ratio(estimate, source)
    torch.testing.assert_close(si_snr(estimate, source), expected, rtol=1e-5, atol=1e-4)


def test_si_snr_counts_no_scale_and_calls_silence_zero() -> None:
    source = torch.randn(400)
    noisy = source + 0.1 * torch.randn(400)
    assert float(si_snr(5 * noisy, source)) == pytest.approx(float(si_snr(noisy, source)), abs=1e-3)
    assert float(si_snr(torch.zeros(400), source)) == 0.0


def test_the_loss_takes_the_best_order_of_the_sources_and_counts_their_level() -> None:
    sources = torch.randn(4, 3, 800)
    sources[2:] *= 0.1
    estimates = sources[:, [2, 0, 1]] + 0.01 * torch.randn(4, 3, 800)
    batch = Mixtures(sources.sum(1), sources, SAMPLE_RATE)
    in_order = Mixtures(batch.waveforms, sources[:, [2, 0, 1]], SAMPLE_RATE)
    found = separation_loss(lambda _: estimates, batch, 0.0)
    expected = -si_snr(estimates, in_order.sources).mean()
    torch.testing.assert_close(found["loss"], expected)
    louder = separation_loss(lambda _: 10 * estimates, batch, 0.5)
    torch.testing.assert_close(louder["loss"], expected + 0.5 * 20.0, rtol=0, atol=0.05)


def test_in_bfloat16_norms_sums_and_attention_stay_float32(
    loaded: SeparationRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = torch.nn.functional.scaled_dot_product_attention
    seen: dict[str, set[torch.dtype]] = {}

    def kernel(query: torch.Tensor, *others: Any, **options: Any) -> torch.Tensor:
        seen.setdefault("attention", set()).add(query.dtype)
        return attention(query, *others, **options)

    def kept(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.setdefault(name, set()).add(output.dtype)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
    torch.manual_seed(0)
    model = SepFormer(loaded.model)
    layers: Any = encoder_layers(model)
    for layer in layers:
        layer.register_forward_hook(kept("sum"))
        layer.pos_ffn.register_forward_hook(kept("product"))
    model.masknet.norm.register_forward_hook(kept("norm"))
    estimates: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, inputs, output: estimates.append(output.detach()))
    speech = torch.randn(2, 8000)
    batch = Mixtures(speech + torch.randn(2, 8000), speech[:, None], loaded.model.sampling_rate)
    gradients = []
    for precision in ("fp32", "bf16"):
        seen.clear()
        with in_precision(precision, "cpu"):
            terms = separation_loss(model, batch, 0.1)
        terms["loss"].backward()
        grads = [part.grad for part in model.parameters() if part.grad is not None]
        gradients.append(torch.cat([grad.flatten() for grad in grads]))
        model.zero_grad()
    assert seen.pop("product") == {torch.bfloat16}
    assert [*seen.values()] == [{torch.float32}] * 3
    assert estimates[-1].dtype == torch.bfloat16
    ratio = si_snr(estimates[-1].float(), batch.sources).mean()
    torch.testing.assert_close(terms["si_snr_db"], ratio, rtol=0, atol=1e-4)
    exact, rounded = gradients
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.999


@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_a_mixture_has_the_ratio_and_the_level_asked_for(tmp_path: Path, snr_db: float) -> None:
    rng = np.random.default_rng(1)
    speech, noise = 0.1 * rng.standard_normal(8000), 0.02 * rng.standard_normal(700)
    sounds = _sounds(tmp_path, speech, noise, 4000)
    mixture, clean = sounds.mix(Draw(0, 100, 0, 650, snr_db, -30.0))
    rest = mixture - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(rest**2)) == pytest.approx(snr_db, abs=0.01)
    assert 10 * np.log10(np.mean(clean**2)) == pytest.approx(-30.0, abs=0.01)
    # Noise goes round: 700 samples later it is the same.
    np.testing.assert_allclose(rest[:700], rest[700:1400], atol=1e-6)
    assert np.corrcoef(clean, speech[100:4100])[0, 1] == pytest.approx(1.0, abs=1e-6)


def test_a_mixture_that_would_clip_is_made_quieter(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sounds = _sounds(tmp_path, 0.1 * rng.standard_normal(900), 0.1 * rng.standard_normal(900), 900)
    mixture, _ = sounds.mix(Draw(0, 0, 0, 0, -20.0, 0.0))
    assert np.abs(mixture).max() == pytest.approx(0.99, abs=1e-4)


def test_short_speech_stands_somewhere_in_noise_and_pauses_are_not_cut_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = np.concatenate([np.zeros(9000), 0.1 * rng.standard_normal(1000)])
    sounds = _sounds(tmp_path, 0.1 * rng.standard_normal(500), noise, 800)
    draws = [sounds.draw(0, np.random.default_rng(i), MixingSettings(), 0.0) for i in range(40)]
    assert all(-300 <= draw.speech_start <= 0 for draw in draws)
    assert len({draw.speech_start for draw in draws}) > 10
    loud = sum(bool(np.any(noise.take(range(d.noise_start, d.noise_start + 800), mode="wrap")))
               for d in draws)  # fmt: skip
    assert loud >= 24  # one cut in six holds noise at all, and eight are tried


def test_a_batch_follows_from_its_place_alone(loaded: SeparationRecipe) -> None:
    trainer = SeparationTrainer(loaded)
    batches = MixtureBatches(trainer.train, loaded.mixing, 4, 2, seed=3)
    plan = batches.plan(1)
    assert [len(members) for members in plan] == [2, 2]
    assert len({index for members in plan for index, _ in members}) == 4
    again = MixtureBatches(SeparationTrainer(loaded).train, loaded.mixing, 4, 2, seed=3)
    first, second = batches.batch(1, 1, plan[1]), again.batch(1, 1, plan[1])
    assert torch.equal(first.waveforms, second.waveforms)
    assert not torch.equal(first.waveforms, batches.batch(2, 1, plan[1]).waveforms)
    assert first.sources.shape == (2, 1, 3200)


def test_a_model_at_8_khz_is_trained_and_measured_on_audio_at_8_khz(recipe: Path) -> None:
    """Half as many samples, none of them above 4 kHz's; the same second of the same recordings."""
    recipe.write_text(RECIPE.replace("sampling_rate: 16000", "sampling_rate: 8000"))
    trainer = SeparationTrainer(load_separation_recipe(recipe))
    batches = MixtureBatches(trainer.train, trainer.recipe.mixing, 2, 2, seed=0)
    batch = batches.batch(0, 0, batches.plan(0)[0])
    assert batch.waveforms.shape == (2, 1600) and batch.seconds == pytest.approx(0.4)
    assert batch.shape[1] == pytest.approx(0.2)
    for index in range(len(trainer.train.speech)):
        path = recipe.parent / "speech" / f"{index}.flac"
        at_16_khz, _ = soundfile.read(path, dtype="float32")
        expected = resample_poly(at_16_khz, 1, 2)
        found = trainer.train.speech[index][0]
        assert len(found) == len(expected)
        assert np.abs(found - expected)[50:-50].max() < 0.01 * np.abs(expected).max()
    sounds, draws = trainer.test()
    assert sounds.rate == 8000 and sounds.mix(draws[0])[0].shape == (1600,)
    place, *_ = load_mixtures(recipe, sample_rate=8000, sources=1)
    np.testing.assert_array_equal(place.read().waveform, sounds.mix(draws[0])[0])
    recipe.write_text(RECIPE)
    with pytest.raises(LpaError, match=r"test.jsonl:1: .*cut at 8000 Hz, the recipe has 16000 Hz"):
        SeparationTrainer(load_separation_recipe(recipe)).test()


def test_a_share_of_the_clips_has_noise_that_is_generated(loaded: SeparationRecipe) -> None:
    sounds = SeparationTrainer(loaded).train
    members = [(index, 0) for index in range(4)]

    def noise(share: float) -> torch.Tensor:
        mixing = dataclasses.replace(loaded.mixing, generated_share=share)
        batch = MixtureBatches(sounds, mixing, 4, 4, seed=3).batch(1, 0, members)
        return batch.waveforms - batch.sources[:, 0]

    recorded, half, generated = map(noise, (0.0, 0.5, 1.0))
    of_recordings = (half == recorded).all(1)
    assert 0 < of_recordings.sum() < 4
    assert torch.equal(half[~of_recordings], generated[~of_recordings])
    assert not (generated == recorded).all(1).any()
    mixing = dataclasses.replace(loaded.mixing, varied_share=1.0)
    varied = MixtureBatches(sounds, mixing, 4, 4, seed=3).batch(1, 0, members)
    recording = MixtureBatches(sounds, loaded.mixing, 4, 4, seed=3).batch(1, 0, members)
    assert not (varied.waveforms == recording.waveforms).all(1).any()


def test_a_varied_recording_is_another_pitch_in_another_colour_and_goes_on_where_it_ends() -> None:
    rate, samples = 8000, 24_000
    tone = np.sin(2 * np.pi * 1000 * np.arange(5_000) / rate).astype(np.float32)
    draws = [varied_noise(np.random.default_rng(i), tone, 4_321, samples, rate) for i in range(40)]
    assert {(draw.shape, draw.dtype.name) for draw in draws} == {((samples,), "float32")}
    again = varied_noise(np.random.default_rng(7), tone, 4_321, samples, rate)
    np.testing.assert_array_equal(draws[7], again)
    heard = np.array([np.abs(np.fft.rfft(draw)).argmax() * rate / samples for draw in draws])
    assert 600 < heard.min() < 700 and 1400 < heard.max() < 1650
    assert len(set(heard.round(-1))) > 25
    levels = np.array([np.sqrt(np.mean(np.square(draw))) for draw in draws])
    assert levels.max() > 2 * levels.min()
    for draw in draws:  # no silence behind the end of the recording
        assert np.abs(draw[-800:]).max() > 0.5 * np.abs(draw[:800]).max()
    assert not varied_noise(np.random.default_rng(0), 0 * tone, 0, samples, rate).any()


def test_generated_noise_is_as_loud_as_any_other_and_each_draw_differs() -> None:
    draws = [generated_noise(np.random.default_rng(i), 16_000, 16_000) for i in range(60)]
    again = generated_noise(np.random.default_rng(0), 16_000, 16_000)
    np.testing.assert_array_equal(draws[0], again)
    for draw in draws:
        assert draw.dtype == np.float32 and np.isfinite(draw).all()
        assert np.mean(draw.astype(np.float64) ** 2) == pytest.approx(1.0, rel=1e-4)
    powers = [np.abs(np.fft.rfft(draw.astype(np.float64))) ** 2 for draw in draws]
    low = [power[:1000].sum() / power.sum() for power in powers]
    assert min(low) < 0.3 and max(low) > 0.97  # from hisses to rumbles
    # A tone holds most of its power in few places, noise of one second does not.
    few = [np.sort(power)[-80:].sum() / power.sum() for power in powers]
    assert 15 < sum(share > 0.5 for share in few) < 45


@pytest.mark.parametrize("bursts", [False, True])
def test_noise_of_something_that_turns_comes_in_bursts(
    monkeypatch: pytest.MonkeyPatch, bursts: bool
) -> None:
    rate, pitch = 8000, 100.0
    for name, value in {
        "_TONAL_SHARE": 1.0,
        "_BURST_SHARE": float(bursts),
        "_BURST_POWER": (4.0, 4.0),
        "_TONE_TO_NOISE_DB": (-80.0, -80.0),
        "_SWELL_DB": (0.0, 0.0),
        "_PITCH_HZ": (pitch, pitch),
        "_WAVER": 0.0,
    }.items():
        monkeypatch.setattr(f"lpa_export.formats.generated_noise.{name}", value)
    noise = generated_noise(np.random.default_rng(0), 2 * rate, rate).astype(np.float64)
    loudness = np.abs(np.fft.rfft(noise**2 - np.mean(noise**2)))
    turn = loudness[round(2 * pitch)]  # two seconds: half a hertz a place
    around = np.median(loudness[round(1.5 * pitch) : round(2.5 * pitch)])
    assert (turn > 8 * around) == bursts


def test_noise_that_is_held_out_is_not_trained_on(loaded: SeparationRecipe) -> None:
    trainer = SeparationTrainer(loaded)
    paths = [[path.stem for path in sounds.noise._paths] for sounds in (trainer.train, trainer.dev)]
    assert paths == [["hiss-1"], ["hum"]]


def test_held_out_mixtures_have_equal_shares_of_each_ratio(loaded: SeparationRecipe) -> None:
    dev = SeparationTrainer(loaded).dev
    draws = held_out(dev, loaded.mixing, 5, 0)
    assert sorted(draw.snr_db for draw in draws) == sorted(TEST_SNRS)
    assert draws == held_out(dev, loaded.mixing, 5, 0)

    class Unchanged(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            return waveforms[:, None]

    figures = summary(improvements(Unchanged(), dev, draws), draws)
    assert set(figures) == {"si_snri_db", *(f"si_snri_db at {ratio:g} dB" for ratio in TEST_SNRS)}
    assert all(math.isclose(value, 0.0, abs_tol=1e-4) for value in figures.values())


def test_a_teacher_is_trained_killed_and_continued_to_the_same_weights(
    loaded: SeparationRecipe, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    straight = SeparationTrainer(loaded).teacher(tmp_path / "straight")

    def killed(progress: Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        conduct = Conduct(save_seconds=0.0, after_update=killed)
        SeparationTrainer(loaded, conduct).teacher(tmp_path / "killed")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    continued = SeparationTrainer(loaded).teacher(tmp_path / "killed")
    for name in ("model.safetensors", "config.json"):
        assert (straight / name).read_bytes() == (continued / name).read_bytes()
    lines = read_log(tmp_path / "straight")
    figures = json.loads((tmp_path / "straight" / FIGURES).read_text())
    best = max(line["si_snri_db"] for line in lines)
    assert figures["si_snri_db"] == pytest.approx(best, abs=0.02)  # float16 moves it a little
    trained = load_separator(straight)
    assert not trained.replaced
    assert torch.isfinite(trained.model(torch.zeros(1, 4000))).all()


def test_the_command_trains_what_the_recipe_says(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["teacher", "--recipe", str(recipe), "--out", out]) == 0
    said = capsys.readouterr().out
    assert f"checkpoint: {out}/checkpoint" in said
    assert "held-out si_snri_db at -5 dB: " in said


REFINE = "refine: [{epochs: 1, clips_per_epoch: 4, learning_rate: 0.002, seed: 1}]\n"


def test_a_teacher_is_trained_on_in_a_further_cycle(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE + REFINE)
    loaded = load_separation_recipe(recipe)
    trainer = SeparationTrainer(loaded)
    first = load_separator(trainer.teacher(tmp_path / "first", cycles=[0]))
    again = load_separator(tmp_path / "first" / "checkpoint")
    more = trainer.teacher(tmp_path / "more", start=again, cycles=[1])
    assert [row["epoch"] for row in read_log(tmp_path / "more" / "refine0")] == [1]
    changed = load_separator(more).model.state_dict()
    before = first.model.state_dict()
    assert all(not torch.equal(changed[name], before[name]) for name in before)
    both = trainer.teacher(tmp_path / "both")
    assert len([row for row in read_log(tmp_path / "both") if "epoch" in row]) == 2
    found = load_separator(both).model.state_dict()
    # From weights that were not rounded in between.
    assert all(torch.allclose(found[name], changed[name], atol=2e-2) for name in found)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cycles", "1"], "cycle 1 trains a teacher on: give that with --checkpoint"),
        (["--cycles", "2"], "has cycles 0 to 1 (0 is 'teacher'), found 2"),
        (["--checkpoint", "{checkpoint}"], "cycle 0 trains from scratch, so it takes no"),
        (["--cycles", "1", "--checkpoint", "{other}"], "not the model that small describes"),
    ],
)
def test_cycles_that_cannot_be_run_are_one_line(
    recipe: Path,
    loaded: SeparationRecipe,
    separator: Callable[[int], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    recipe.write_text(RECIPE + REFINE)
    wide = SepFormer(dataclasses.replace(loaded.model, intermediate_size=24))
    places = {"checkpoint": separator(0), "other": str(save_separator(tmp_path / "w", wide, None))}
    given = [flag.format(**places) for flag in flags]
    assert main(["teacher", "--recipe", str(recipe), "--out", str(tmp_path / "o"), *given]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1 and said in captured


@pytest.fixture
def separator(tmp_path: Path, loaded: SeparationRecipe) -> Callable[[int], str]:
    """`separator(seed)`: a checkpoint of random weights."""

    def make(seed: int) -> str:
        torch.manual_seed(seed)
        return str(save_separator(tmp_path / f"model-{seed}", SepFormer(loaded.model), None))

    return make


def test_test_mixtures_are_drawn_once_and_read_again(loaded: SeparationRecipe) -> None:
    path = loaded.data.test_list
    assert path is not None
    _, drawn = SeparationTrainer(loaded).test()
    text = path.read_text()
    assert sorted(draw.snr_db for draw in drawn) == sorted(TEST_SNRS)
    assert '"noise": "hiss-2"' in text
    sounds, read = SeparationTrainer(loaded).test()
    assert (read, sounds.samples, path.read_text()) == (drawn, 3200, text)
    path.write_text(text.replace("hiss-2", "hiss-3"))
    with pytest.raises(LpaError, match=r"test.jsonl:1: no mixture of the recipe's .*'hiss-3'"):
        SeparationTrainer(loaded).test()


@pytest.mark.parametrize(
    "change",
    [{"speech_start": None}, {"noise_start": 1.5}, {"snr_db": "5"}, {"level_dbfs": math.nan}],
)
def test_a_stored_list_of_other_values_is_one_line(
    loaded: SeparationRecipe, change: dict[str, Any]
) -> None:
    path = loaded.data.test_list
    assert path is not None
    SeparationTrainer(loaded).test()
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(LpaError, match=r"test.jsonl:1: no mixture of the recipe's"):
        SeparationTrainer(loaded).test()


def test_a_stored_list_of_other_bytes_is_one_line(loaded: SeparationRecipe) -> None:
    assert loaded.data.test_list is not None
    loaded.data.test_list.write_bytes(b"\xff\xfe")
    with pytest.raises(LpaError, match=r"test.jsonl: expected a stored list of mixtures"):
        SeparationTrainer(loaded).test()


def test_separators_are_measured_side_by_side(
    recipe: Path,
    separator: Callable[[int], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torchmetrics")
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    command = ["measure", "--recipe", str(recipe), "--out", str(tmp_path / "out.json")]
    for seed in (0, 1):
        command += ["--checkpoint", separator(seed)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "| model-1 | -5 | " in said
    assert "model-1 against model-0: " in said
    mixture, first, second = json.loads((tmp_path / "out.json").read_text())
    sounds, draws = SeparationTrainer(load_separation_recipe(recipe)).test()
    expected = improvements(load_separator(tmp_path / first["name"]).model, sounds, draws)
    found = [clip["si_snri_db"] for clip in first["clips"]]
    # The loss has a floor of power, which shows in what random weights give.
    np.testing.assert_allclose(found, expected, atol=0.2)
    loudest = [draw.snr_db for draw in draws].index(15.0)
    assert first["by_snr_db"]["15"]["si_snri_db"] == found[loudest]
    assert first["mean"]["si_snri_db"] == pytest.approx(np.mean(found))
    # Nothing is gained by leaving a mixture alone.
    assert (mixture["name"], mixture["sha256"]) == ("the mixture itself", None)
    assert {clip["si_snri_db"] for clip in mixture["clips"]} == {0.0}
    for alone, made in zip(mixture["clips"], first["clips"], strict=True):
        assert alone["si_snr_db"] == pytest.approx(made["si_snr_db"] - made["si_snri_db"])
        assert alone["sdr_db"] == pytest.approx(made["sdr_db"] - made["sdri_db"])
    assert f"{second['mean']['si_snri_db'] - first['mean']['si_snri_db']:+.2f} dB of" in said


TEST_SPEECH = "  test: speech/manifest.jsonl\n"
TEST_LIST = "  test_list: test.jsonl\n"


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (TEST_SPEECH + TEST_LIST, "names no 'test' speech"),
        (TEST_LIST, "test and test_list belong together"),
    ],
)
def test_a_recipe_without_test_mixtures_measures_nothing(
    recipe: Path,
    separator: Callable[[int], str],
    left_out: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = separator(0)
    recipe.write_text(RECIPE.replace(left_out, ""))
    assert main(["measure", "--recipe", str(recipe), "--checkpoint", checkpoint]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_does_not_fit_the_recipe_is_not_measured(
    recipe: Path, loaded: SeparationRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(loaded.model, sampling_rate=8000)
    checkpoint = save_separator(tmp_path / "narrow", SepFormer(config), None)
    command = ["measure", "--recipe", str(recipe), "--checkpoint", str(checkpoint)]
    assert main(command) == 2
    assert "1 sources at 8000 Hz, the recipe has 1 at 16000 Hz" in capsys.readouterr().err
    recipe.write_text("name: x")
    assert main(command) == 2
    assert "its task is recognition; lpa-validate measures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ("task: separation", "task: dictation", r"yaml:1: 'task' is 'dictation'; known: recog"),
        ("sources: 1", "sources: 2", "speech is mixed with noise: sources must be 1, found 2"),
        ("chunk: 20", "chunk: 1", "at least 2"),
        ("*/hum.*", "*/drum.*", "no recording is called '\\*/drum.\\*'"),
        ('"*/hiss-2.*"', '"*/hiss*"', "no noise is left to mix with"),
        ("dev_clips: 5", "dev_clips: 1", "at least 5"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line(
    recipe: Path,
    found: str,
    wanted: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe.write_text(RECIPE.replace(found, wanted))
    assert main(["teacher", "--recipe", str(recipe), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(LpaError, match=said):
        raise LpaError(error)
    assert not (tmp_path / "run").exists()


REPLACE = """\
lpa: {kernel_size: 3, max_offset: 3, max_width: 6, max_period: 8}
replace: {epochs_per_layer: 1, joint_epochs: 1, clips_per_epoch: 4, hidden_weight: 10}
"""


def _dev(recipe: Path) -> tuple[Sounds, list[Draw]]:
    loaded = load_separation_recipe(recipe)
    sounds = SeparationTrainer(loaded).dev
    return sounds, held_out(sounds, loaded.mixing, 5, 0)


@pytest.fixture
def source(tmp_path: Path, separator: Callable[[int], str]) -> Separator:
    return load_separator(separator(0))


def test_all_layers_within_chunks_are_replaced_and_hardened(
    recipe: Path, source: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE + REPLACE)
    out = tmp_path / "run"
    command = ["replace", "--recipe", str(recipe), "--out", str(out)]
    assert main([*command, "--checkpoint", str(tmp_path / "model-0")]) == 0
    said = capsys.readouterr().out
    made = load_separator(out / "checkpoint")
    assert made.lpa is not None and made.replaced == (0,)
    assert [lpa.hard for lpa in lpa_layers(made.model).values()] == [True]
    sounds, draws = _dev(recipe)
    found = float(improvements(made.model, sounds, draws).mean())
    assert made.lpa.figures["hard_si_snri_db"] == pytest.approx(found, abs=1e-3)
    assert f"held-out hard_si_snri_db: {found:.2f}" in said
    assert "layer 0: SI-SNRi " in said and " dB (" in said
    assert "% of the gates are soft" in said
    front_end, before = made.model.encoder.conv1d.weight, source.model.encoder.conv1d.weight
    assert torch.equal(front_end, before.half().float())  # it learns in no phase
    assert main([*command, "--checkpoint", str(tmp_path / "model-0")]) == 0  # done: nothing to do


@pytest.mark.parametrize(
    ("layers", "expected"), [("inter", (1,)), ("all", (0, 1)), ("1,0", (0, 1))]
)
def test_layers_are_chosen_by_kind_or_number(
    recipe: Path,
    separator: Callable[[int], str],
    tmp_path: Path,
    layers: str,
    expected: tuple[int, ...],
) -> None:
    recipe.write_text(RECIPE + REPLACE)
    command = ["replace", "--recipe", str(recipe), "--checkpoint", separator(0)]
    command += ["--layers", layers, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert load_separator(tmp_path / "run" / "checkpoint").replaced == expected


def test_a_control_keeps_its_attention(
    recipe: Path, separator: Callable[[int], str], tmp_path: Path
) -> None:
    recipe.write_text(RECIPE + REPLACE)
    command = ["replace", "--recipe", str(recipe), "--checkpoint", separator(0), "--control"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    made = load_separator(tmp_path / "run" / "checkpoint")
    assert made.lpa is None and not lpa_layers(made.model)


def test_a_layer_that_takes_too_much_stops_the_replacement() -> None:
    log = ReplacementLog(6.0, IMPROVEMENT)
    settings = SeparationReplace(max_db_per_layer=0.5, max_db=0.8)
    log = log.take(2, 5.6, settings)
    assert log.steps[0].cost == pytest.approx(0.4)
    assert log.lines() == ["layer 2: SI-SNRi 5.60 dB (-0.40 dB)"]
    stopped = log.take(3, 5.0, settings).stopped
    assert "from 5.60 to 5.00 dB (teacher 6.00 dB), more than replace.max_db_per_layer" in stopped
    assert "replace.max_db 0.8 allows" in log.take(3, 5.15, settings).stopped
    assert log.take(3, 6.4, settings).stopped == ""


@torch.no_grad()
def test_hidden_states_of_teacher_and_student_are_compared(
    loaded: SeparationRecipe, source: Separator
) -> None:
    trainer = SeparationTrainer(loaded)
    sounds = trainer.dev
    draws = held_out(sounds, loaded.mixing, 5, 0)
    settings = SeparationReplace(hidden_weight=10.0)
    work = Separation(trainer.train, sounds, draws, loaded.mixing, settings, 0.0)
    batch = work.batches(0).batch(0, 0, [(0, 0), (1, 0)])
    same = work.loss(source.model, source.model, batch, [0, 1])
    assert float(same["hidden"]) == 0.0
    torch.testing.assert_close(same["loss"], -same["si_snr_db"])
    student = SepFormer(loaded.model)
    other = work.loss(source.model, student, batch, [1])
    torch.testing.assert_close(other["loss"], 10 * other["hidden"] - other["si_snr_db"])
    seen = {}
    for name, model in (("teacher", source.model), ("student", student)):
        model.layers[1].register_forward_hook(lambda *a, name=name: seen.update({name: a[2]}))
        model(batch.waveforms)
    error = (seen["student"] - seen["teacher"]).square().mean() / seen["teacher"].var()
    torch.testing.assert_close(other["hidden"], error)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layers", "7"], "layer 7 does not exist: the model has layers 0 to 1"),
        (["--layers", "outer"], "or of a separator intra, inter or all; found 'outer'"),
    ],
)
def test_layers_that_are_not_there_are_one_line(
    recipe: Path,
    separator: Callable[[int], str],
    tmp_path: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["replace", "--recipe", str(recipe), "--checkpoint", separator(0), *arguments]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_the_recipe_does_not_describe_is_refused(
    recipe: Path, loaded: SeparationRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SepFormer(dataclasses.replace(loaded.model, filters=9))
    checkpoint = save_separator(tmp_path / "other", other, None)
    command = ["replace", "--recipe", str(recipe), "--checkpoint", str(checkpoint)]
    assert main(command) == 2
    assert "other: not the model that small describes" in capsys.readouterr().err


@pytest.fixture
def three_layers(recipe: Path, tmp_path: Path) -> tuple[Path, str]:
    """A recipe of two layers within chunks and one across them, and its teacher's checkpoint."""
    text = RECIPE.replace("intra_layers: 1", "intra_layers: 2")
    text += "sweep: {steps: 3, learning_rate: 0.02}\n"
    text += "replace: {epochs_per_layer: 1, joint_epochs: 1, clips_per_epoch: 4}\n"
    text += "lpa: {kernel_size: 3, max_offset: 3, max_width: 6, max_period: 8}\n"
    recipe.write_text(text)
    torch.manual_seed(0)
    teacher = SepFormer(load_separation_recipe(recipe).model)
    return recipe, str(save_separator(tmp_path / "three", teacher, None))


def test_the_sweep_ranks_the_layers_of_the_recipes_kind_and_replace_takes_the_easiest(
    three_layers: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, teacher = three_layers
    flags = ["--recipe", str(recipe), "--checkpoint", teacher]
    swept, out = tmp_path / "sweep", tmp_path / "replace"
    assert main(["sweep", *flags, "--out", str(swept)]) == 0
    assert "easiest first" in capsys.readouterr().out
    ranking = read_ranking(swept / "sweep.json")
    assert sorted(ranking.order) == [0, 1] and (swept / "sweep.png").is_file()
    before = (swept / "sweep.json").read_bytes()
    auto = ["--layers", "auto:1", "--sweep", str(swept), "--out", str(out)]
    assert main(["replace", *flags, *auto]) == 0
    assert load_separator(out / "checkpoint").replaced == ranking.order[:1]
    assert (swept / "sweep.json").read_bytes() == before
    # Layers of the other kind are ranked on demand, and change nothing of those that were.
    assert main(["sweep", *flags, "--layers", "inter", "--out", str(swept)]) == 0
    fits = {fit.layer: fit for fit in read_ranking(swept / "sweep.json").fits}
    assert sorted(fits) == [0, 1, 2] and all(fits[fit.layer] == fit for fit in ranking.fits)


def test_a_figure_of_the_sweep_is_error_energy_over_variance_of_held_out_mixtures(
    three_layers: tuple[Path, str], tmp_path: Path
) -> None:
    """Against single mixtures in float64; the sweep hears two at a time."""
    recipe = load_separation_recipe(three_layers[0])
    settings = dataclasses.replace(
        recipe.sweep, steps=1, learning_rate=1e-12, temperature=(0.4, 0.4)
    )
    recipe = dataclasses.replace(recipe, sweep=settings)
    source = load_separator(three_layers[1])
    (found,) = SeparationTrainer(recipe).sweep(source, tmp_path / "sweep", (1,)).fits

    torch.manual_seed(settings.seed + 1)
    attention = attention_of(source.model, 1)
    sounds, draws = _dev(three_layers[0])
    config = LPAConfig(8, 2, **recipe.lpa.shape)
    profile = mixture_profiles(source.model, [1], sounds, draws, config.band)[1]
    lpa = initial_lpa(attention, config, "attention", profile)
    lpa.temperature = 0.4
    given: list[torch.Tensor] = []
    handle = attention.register_forward_hook(lambda *seen: given.append(seen[1][0]))
    goals: list[np.ndarray] = []
    guesses: dict[bool, list[np.ndarray]] = {False: [], True: []}
    with torch.no_grad():
        for draw in draws:
            source.model(torch.from_numpy(sounds.mix(draw)[0])[None])
            for chunk in given.pop():
                goals.append(attention(chunk[None])[0][0].double().numpy())
                given.clear()
                for hard, outputs in guesses.items():
                    lpa.hard = hard
                    outputs.append(lpa(chunk[None])[0].double().numpy())
    handle.remove()
    goal = np.concatenate(goals)
    energy = np.square(goal - goal.mean(0)).sum()
    for hard, figure in ((False, found.soft), (True, found.hard)):
        error = np.square(np.concatenate(guesses[hard]) - goal).sum()
        assert figure == pytest.approx(error / energy, rel=1e-4)


def test_more_layers_than_there_are_of_the_kind_are_one_line(
    three_layers: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, teacher = three_layers
    flags = ["--recipe", str(recipe), "--checkpoint", teacher, "--layers", "auto:3"]
    assert main(["replace", *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "auto:3 asks for more than the model's 2 intra layers" in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
