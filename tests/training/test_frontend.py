"""The filterbank start of the front end, against scipy and librosa-style definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.formats.speech import load_utterances
from lpa_export.training.data import SpeechSet
from lpa_export.training.frontend import fit_log_mel, gabor_filters, mel_matrix
from lpa_export.training.stages import CHARACTERS


def test_filters_are_quadrature_pairs_with_rising_centres() -> None:
    filters = gabor_filters(40, 400)[:, 0].double().numpy()
    spectra = np.abs(np.fft.rfft(filters, 4096))
    centres = spectra.argmax(axis=1) * 16_000 / 4096
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1.0, atol=1e-6)
    assert (np.diff(centres[0::2]) > 0).all()
    np.testing.assert_allclose(centres[0::2], centres[1::2], atol=60)
    products = np.abs((filters[0::2] * filters[1::2]).sum(axis=1))
    assert products.max() < 0.05


def test_mel_triangles_peak_at_equal_steps_of_mel() -> None:
    matrix = mel_matrix().numpy()
    assert matrix.shape == (40, 201)
    assert matrix.min() == 0.0
    assert 0.3 < matrix.max() <= 1.0
    inner = matrix[20:39].sum(axis=0)
    covered = inner[(inner > 0).nonzero()[0][15:-15]]
    np.testing.assert_allclose(covered, 1.0, atol=1e-5)  # neighbours share every bin


def test_fitting_explains_the_log_mel_spectrum(tiny_config: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(tiny_config("pre"))
    demo = load_utterances(None, limit=12)
    speech = SpeechSet(demo, CHARACTERS, receptive_field=720)
    error = fit_log_mel(model, speech, steps=60, learning_rate=5e-3, seed=0)
    assert error < 0.5  # 1.0 is the error of knowing nothing
