"""Figures of separated speech, against the libraries that others use; planted faults fail."""

from collections.abc import Callable

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.separation_gates import SEPARATION_GATES, SeparationGates
from lpa_export.formats.speech import load_utterances
from lpa_export.measures import separation
from lpa_export.measures.separation import (
    Audio,
    agreement,
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


def _chunk_missing(clip: Audio) -> Audio:
    cut = clip.copy()
    middle = int(np.argmax(np.abs(cut)))
    cut[max(middle - 2000, 0) : middle + 2000] = 0.0
    return cut


FAULTS: dict[str, tuple[Callable[[Audio], Audio], set[str]]] = {
    "sign flipped": (lambda clip: -clip, {"snr_db"}),
    "gain of two": (lambda clip: 2 * clip, {"snr_db", "level_difference_db"}),
    "a chunk missing": (
        _chunk_missing,
        {"snr_db", "level_difference_db", "si_snri_difference_db"},
    ),
    "silence": (
        np.zeros_like,
        {"snr_db", "level_difference_db", "si_snri_difference_db", "silenced"},
    ),
    "NaN": (
        lambda clip: np.full_like(clip, np.nan),
        {"snr_db", "level_difference_db", "si_snri_difference_db"},
    ),
}


@pytest.mark.parametrize("scheme", SEPARATION_GATES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_one_clip_fails(speech: list[Audio], fault: str, scheme: str) -> None:
    plant, expected = FAULTS[fault]
    mixtures, reference = _noisy(speech, 0.0), _noisy(speech, 10.0, 1)
    outputs = [plant(reference[0]), *reference[1:]]
    failed = {*SEPARATION_GATES[scheme].failures(agreement(mixtures, speech, reference, outputs))}
    assert failed >= expected - {"snr_db"}
    # A chunk of one clip is worth some decibels, which eight bits are allowed.
    assert failed == expected or (fault, scheme) == ("a chunk missing", "int8")


@pytest.mark.parametrize(("scheme", "noise_db"), [("fp32", 61.0), ("fp16", 36.0), ("int8", 25.0)])
def test_rounding_passes_and_more_of_it_does_not(
    speech: list[Audio], scheme: str, noise_db: float
) -> None:
    gates: SeparationGates = SEPARATION_GATES[scheme]
    mixtures, reference = _noisy(speech, 0.0), _noisy(speech, 10.0, 1)
    near = agreement(mixtures, speech, reference, _noisy(reference, noise_db, 2))
    assert gates.failures(near) == ()
    assert near.snr_db == pytest.approx(noise_db, abs=0.2)
    far = agreement(mixtures, speech, reference, _noisy(reference, 8.0, 2))
    assert gates.failures(far) != ()


def test_clips_of_other_lengths_are_no_comparison(speech: list[Audio]) -> None:
    with pytest.raises(ValueError, match="of the same lengths"):
        agreement(speech, speech, speech, [clip[:-1] for clip in speech])
    with pytest.raises(ValueError, match="of the same lengths"):
        agreement([], [], [], [])
