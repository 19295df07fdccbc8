"""Figures of separated speech, against the libraries that others use."""

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.speech import load_utterances
from lpa_export.measures import separation
from lpa_export.measures.separation import (
    Audio,
    is_silenced,
    level_difference_db,
    quality,
    si_snr_db,
    snr_db,
)

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> list[Audio]:
    """Three recordings of the demo set."""
    return [load_audio(utterance.audio) for utterance in load_utterances(None, limit=3)]


def _noisy(speech: list[Audio], snr: float, seed: int = 0) -> list[Audio]:
    rng, gain = np.random.default_rng(seed), 10 ** (-snr / 20)
    return [
        (clip + gain * clip.std() * rng.standard_normal(len(clip))).astype(np.float32)
        for clip in speech
    ]


def test_si_snr_and_snr_are_those_of_torchmetrics(speech: list[Audio]) -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio")
    import torch

    source, estimate = speech[0], 0.3 * _noisy(speech, 7.0)[0] + 0.01
    parts = [torch.from_numpy(part).double() for part in (estimate, source)]
    expected = float(audio.scale_invariant_signal_noise_ratio(*parts))
    assert si_snr_db(source, estimate) == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(7.0, abs=0.3)
    plain = float(audio.signal_noise_ratio(*parts))
    assert snr_db(source, estimate) == pytest.approx(plain, abs=1e-6)


def test_silence_has_nothing_of_the_source() -> None:
    source = np.random.default_rng(0).standard_normal(800)
    assert si_snr_db(source, np.zeros(800)) == -np.inf
    assert si_snr_db(source, source) > 200
    assert snr_db(np.zeros(800), np.zeros(800)) == snr_db(source, source) == np.inf
    assert snr_db(np.zeros(800), source) == -np.inf
    assert level_difference_db(source, np.zeros(800)) == -np.inf
    assert level_difference_db(np.zeros(800), np.zeros(800)) == 0.0
    assert level_difference_db(source, 2 * source) == pytest.approx(6.0206, abs=1e-4)


@pytest.mark.parametrize(("down", "silenced"), [(29.9, False), (30.1, True), (400.0, True)])
def test_an_output_thirty_decibels_down_is_silenced(down: float, silenced: bool) -> None:
    mixture = np.random.default_rng(0).standard_normal(800)
    assert is_silenced(mixture, 10 ** (-down / 20) * mixture) is silenced


def test_a_cleaner_estimate_has_better_figures(speech: list[Audio]) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    pytest.importorskip("torchmetrics")
    source, mixture, estimate = speech[0], _noisy(speech, 0.0)[0], _noisy(speech, 12.0, 1)[0]
    found, before = (quality(mixture, source, part, RATE) for part in (estimate, mixture))
    assert found.si_snri_db == pytest.approx(12.0, abs=0.5)
    assert found.sdri_db == pytest.approx(12.0, abs=1.5)
    assert found.stoi is not None and before.stoi is not None and found.stoi > before.stoi
    assert found.pesq is not None and before.pesq is not None and found.pesq > before.pesq
    assert (before.si_snri_db, before.sdri_db, before.silenced) == (0.0, 0.0, False)


def test_figures_that_are_not_defined_are_none(speech: list[Audio]) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    pytest.importorskip("torchmetrics")
    short = speech[0][8000:10000]
    found = quality(short, short, short, RATE)
    assert (found.stoi, found.pesq) == (None, None)
    assert quality(speech[0], speech[0], np.zeros_like(speech[0]), RATE).silenced
    assert quality(speech[0], speech[0], speech[0], 44_100).pesq is None


def test_a_missing_package_is_said_with_the_way_to_get_it() -> None:
    with pytest.raises(LpaError, match=r"no_such_pesq is not installed, .*separation\]"):
        separation._imported("no_such_pesq.audio")
