"""Windows fitted to attention maps lie where the attention looks."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention

from lpa_export.formats.speech import load_utterances
from lpa_export.layers import LPA, LPAConfig
from lpa_export.training.attention_profile import (
    CELLS,
    AttentionProfile,
    attention_of,
    attention_profiles,
)
from lpa_export.training.batches import SpeechSet, normalise
from lpa_export.training.initialise import AMPLITUDES, Initialisation, initial_lpa, pursue
from lpa_export.training.teacher import CHARACTERS

CONFIG = LPAConfig(32, 2, aperiodic=1, periodic=1, positional=1, max_offset=16, max_width=32)
REACH = CONFIG.band


@pytest.fixture
def attention(tiny_config: Callable[..., Any]) -> Wav2Vec2Attention:
    torch.manual_seed(3)
    return attention_of(Wav2Vec2ForCTC(tiny_config()), 0)


def profile(relative: dict[int, float], places: np.ndarray | None = None) -> AttentionProfile:
    """Two heads: what is given, and attention to the frame itself only."""
    heads = np.zeros((2, 2 * REACH + 1))
    heads[1, REACH] = 1.0
    for distance, weight in relative.items():
        heads[0, REACH + distance] = weight
    grid = np.zeros((2, CELLS, CELLS))
    grid[0] = 0 if places is None else places
    pairs = np.full((CELLS, CELLS), 0.0 if places is None else 50.0)
    return AttentionProfile(heads, np.zeros(2), grid, pairs)


def first_windows(lpa: LPA, head: int) -> tuple[float, float, float]:
    """Lower edge, upper edge and amplitude of a head's aperiodic pulse, without any content."""
    with torch.no_grad():
        _, controls, _ = lpa.read(torch.zeros(1, 1, 32), None)
    edges = controls.lower[0, 0, head, 0], controls.upper[0, 0, head, 0]
    return float(edges[0]), float(edges[1]), float(controls.amplitudes[0, 0, head, 0])


@pytest.mark.parametrize("distance", [5, -11, 0])
def test_a_window_starts_at_the_distance_the_attention_looks_at(
    attention: Wav2Vec2Attention, distance: int
) -> None:
    lpa = initial_lpa(attention, CONFIG, "attention", profile({distance: 0.9}))
    lower, upper, amplitude = first_windows(lpa, head=0)
    assert [frame for frame in range(-REACH, REACH + 1) if lower <= frame < upper] == [distance]
    assert amplitude == pytest.approx(0.9, abs=0.01)
    lower, upper, _ = first_windows(lpa, head=1)
    assert lower <= 0 < upper and upper - lower < 2


def test_a_window_is_as_wide_as_the_attention(attention: Wav2Vec2Attention) -> None:
    wide = {distance: 0.1 for distance in range(-3, 5)}
    lpa = initial_lpa(attention, CONFIG, "attention", profile(wide))
    lower, upper, amplitude = first_windows(lpa, head=0)
    assert [frame for frame in range(-REACH, REACH + 1) if lower <= frame < upper] == list(wide)
    assert amplitude == pytest.approx(0.8, abs=0.01)


def test_two_pulses_take_two_peaks(attention: Wav2Vec2Attention) -> None:
    config = LPAConfig(32, 2, aperiodic=2, periodic=0, positional=0)
    lpa = initial_lpa(attention, config, "attention", profile({-7: 0.3, 6: 0.6}))
    with torch.no_grad():
        _, controls, _ = lpa.read(torch.zeros(1, 1, 32), None)
    centres = (controls.lower + controls.upper)[0, 0, 0] / 2
    order = centres.argsort()
    assert centres[order].tolist() == pytest.approx([-7, 6], abs=0.01)
    assert controls.amplitudes[0, 0, 0][order].tolist() == pytest.approx([0.3, 0.6], abs=0.01)


def test_a_positional_window_lies_where_far_attention_stays(attention: Wav2Vec2Attention) -> None:
    places = np.zeros((CELLS, CELLS))
    places[4:8, 4:8] = 2.0  # half of the weight on a window of a quarter of the utterance
    lpa = initial_lpa(attention, CONFIG, "attention", profile({0: 0.5}, places))
    assert lpa.positional is not None
    with torch.no_grad():
        shares = lpa.positional.shares(torch.float64)
    assert float(shares.lower[0, 0]) == pytest.approx(0.25, abs=0.01)
    assert float(shares.upper[0, 0]) == pytest.approx(0.5, abs=0.01)
    amplitude = torch.sigmoid(lpa.controls.bias[4:].view(2, 3)[0, 2])
    assert amplitude.item() == pytest.approx(0.5, abs=0.01)


def test_a_tooth_gets_the_period_of_the_attention(attention: Wav2Vec2Attention) -> None:
    period, width = 12, 6
    seen = np.zeros(2 * REACH + 1)
    for frame in range(period):  # what a frame sees under teeth of six frames every twelve
        for key in range(width):
            seen[REACH + key - frame] += 0.8 / width / period
    config = LPAConfig(32, 2, aperiodic=0, periodic=1, positional=0)
    relative = dict(zip(range(-REACH, REACH + 1), seen.tolist(), strict=True))
    lpa = initial_lpa(attention, config, "attention", profile(relative))
    assert lpa.periodic is not None
    with torch.no_grad():
        teeth = lpa.periodic.teeth(torch.float64)
    assert 9 < float(teeth.period[0, 0]) < 16
    assert 4 < float(teeth.width[0, 0]) < 9


def test_short_clips_leave_positional_windows_as_they_were(attention: Wav2Vec2Attention) -> None:
    torch.manual_seed(0)
    fitted = initial_lpa(attention, CONFIG, "attention", profile({2: 1.0}))
    plain = LPA(CONFIG)
    assert fitted.positional is not None and plain.positional is not None
    assert torch.equal(fitted.positional.centre, plain.positional.centre)


def test_a_pursuit_of_one_window_finds_the_least_squares_optimum() -> None:
    rng = np.random.default_rng(0)
    weights, target = rng.random((40, 12)), rng.random(12)
    importance = rng.random(12)
    best = min(
        (float(importance @ (target - amplitude * weights[index]) ** 2), index)
        for index, amplitude in product(range(40), np.linspace(*AMPLITUDES, 2001))
    )
    indices, amplitudes = pursue(target, importance, weights, 1)
    assert indices[0] == best[1]
    error = float(importance @ (target - amplitudes[0] * weights[indices[0]]) ** 2)
    assert error == pytest.approx(best[0], abs=1e-6)


@pytest.mark.parametrize("how", ["none", "projections", "attention"])
def test_only_a_start_at_random_does_without_the_projections(
    attention: Wav2Vec2Attention, how: Initialisation
) -> None:
    lpa = initial_lpa(attention, CONFIG, how, profile({0: 1.0}))
    assert torch.equal(lpa.value.weight, attention.v_proj.weight) == (how != "none")
    assert torch.equal(lpa.output.bias, attention.out_proj.bias) == (how != "none")


def test_a_fit_without_a_profile_is_refused(attention: Wav2Vec2Attention) -> None:
    with pytest.raises(ValueError, match="attention profile"):
        initial_lpa(attention, CONFIG, "attention")


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_profile_is_the_mean_of_the_hosts_own_attention(
    tiny_config: Callable[..., Any], tone_manifest: Callable[..., Path], norm: str
) -> None:
    torch.manual_seed(5)
    model = Wav2Vec2ForCTC(tiny_config(norm)).eval()
    for layer in model.wav2vec2.encoder.layers:
        layer.attention.q_proj.weight.data.mul_(30)
    speech = SpeechSet(
        load_utterances(tone_manifest("clips", 5, seed=2)), CHARACTERS, receptive_field=1200
    )
    reach = 3
    found = attention_profiles(model, [1], speech, reach=reach)[1]

    model.set_attn_implementation("eager")
    relative, counts = np.zeros((2, 2 * reach + 1)), np.zeros(2 * reach + 1)
    places, pairs, far = np.zeros((2, CELLS, CELLS)), np.zeros((CELLS, CELLS)), np.zeros(2)
    for index in range(len(speech)):
        waveform = torch.from_numpy(normalise(speech.clips[index][0]))[None]
        with torch.no_grad():
            maps = model(waveform, output_attentions=True).attentions[1][0].double().numpy()
        frames = maps.shape[-1]
        for query, key in product(range(frames), repeat=2):
            if abs(key - query) <= reach:
                relative[:, reach + key - query] += maps[:, query, key]
                counts[reach + key - query] += 1
            else:
                cell = query * CELLS // frames, key * CELLS // frames
                places[:, *cell] += maps[:, query, key] * frames
                pairs[cell] += 1
                far += maps[:, query, key]
    assert np.allclose(found.relative, relative / counts, atol=1e-6)
    assert np.allclose(found.places, places / np.maximum(pairs, 1), atol=1e-5)
    assert np.allclose(found.far, far / pairs.sum(), atol=1e-6)
    assert np.array_equal(found.pairs, pairs)
