"""The filterbank start of the front end, against scipy and librosa-style definitions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC

from lpa_export.formats.speech import load_utterances
from lpa_export.training.batches import SpeechSet
from lpa_export.training.frontend import fit_log_mel, gabor_filters, mel_matrix
from lpa_export.training.loop import Conduct, Progress
from lpa_export.training.teacher import CHARACTERS


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


def test_fitting_explains_the_log_mel_spectrum(
    tiny_config: Callable[..., Any], tmp_path: Path
) -> None:
    """A fit that was stopped goes on to the same filters."""
    torch.manual_seed(0)
    config = tiny_config("pre", conv_dim=(48, 24))
    speech = SpeechSet(load_utterances(None, limit=4), CHARACTERS, receptive_field=720)

    def fit(folder: str, conduct: Conduct | None = None) -> tuple[float, Wav2Vec2ForCTC]:
        torch.manual_seed(0)
        model = Wav2Vec2ForCTC(config)
        out = tmp_path / folder
        options: dict[str, Any] = {"steps": 25, "learning_rate": 1e-2, "seed": 0}
        return fit_log_mel(model, speech, out, conduct=conduct, **options), model

    def stop(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    error, model = fit("straight")
    assert error < 0.7  # 1.0 is the error of knowing nothing
    with pytest.raises(KeyboardInterrupt):
        fit("stopped", Conduct(save_seconds=0.0, after_update=stop))
    again, other = fit("stopped")
    assert again == error
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
