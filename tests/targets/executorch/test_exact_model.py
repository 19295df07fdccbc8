"""The model for one utterance: equal to Hugging Face's own forward pass at every length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.formats.checkpoint import Checkpoint, LPASection
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.executorch.buckets import BucketModel
from lpa_export.targets.executorch.model import ExactModel

Make = Callable[..., Any]


def _stages(checkpoint: Checkpoint, waveform: np.ndarray) -> dict[str, np.ndarray]:
    model = ExactModel(checkpoint)
    with torch.inference_mode():
        values = model.run(torch.from_numpy(waveform[None]))
    return {name: value[0].numpy() for name, value in zip(model.stages, values, strict=True)}


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("frames", [1, 2, 3, 64, 201])
def test_every_stage_is_the_references(
    make_checkpoint: Make, noise: Make, norm: str, frames: int
) -> None:
    checkpoint = make_checkpoint(norm, (0, 2))
    arithmetic = FrameArithmetic.of(checkpoint.model.config)
    waveform = noise(arithmetic.receptive_field + (frames - 1) * arithmetic.hop + 7)
    expected = TorchReference(checkpoint).taps(waveform)
    found = _stages(checkpoint, waveform)
    assert list(found) == list(expected)
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5 * scale, rtol=0)


@pytest.mark.parametrize("counts", [(2, 0, 0), (0, 1, 0), (0, 0, 2), (1, 2, 1), (0, 2, 2)])
def test_any_mixture_of_pulse_families_is_right(
    make_checkpoint: Make, noise: Make, counts: tuple[int, int, int]
) -> None:
    checkpoint = make_checkpoint("post", ())
    torch.manual_seed(3)
    aperiodic, periodic, positional = counts
    pulses = LPAConfig(32, 2, aperiodic=aperiodic, periodic=periodic, positional=positional)
    replace_layers(checkpoint.model, (0, 1), pulses)
    for lpa in lpa_layers(checkpoint.model).values():
        lpa.hard = True
        with torch.no_grad():
            lpa.controls.weight.mul_(4)
    section = LPASection((0, 1), Pulses(), temperature=0.1)
    checkpoint = Checkpoint(
        checkpoint.model.eval(), checkpoint.vocabulary, section, "mixed", "0" * 64, True
    )
    waveform = noise(40_000)
    expected = TorchReference(checkpoint).logits(waveform)
    np.testing.assert_allclose(_stages(checkpoint, waveform)["logits"], expected, atol=2e-4)


def test_silence_and_a_constant_offset_stay_finite(make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint("pre", (0,))
    for level in (0.0, 0.25):
        logits = _stages(checkpoint, np.full(8_000, level, np.float32))["logits"]
        assert np.isfinite(logits).all()


def test_a_model_that_does_not_normalise_is_given_the_waveform_as_it_is(
    make_checkpoint: Make, noise: Make
) -> None:
    checkpoint = make_checkpoint("pre", (0,), do_normalize=False)
    waveform = 0.1 * noise(8_000) + 0.3
    expected = TorchReference(checkpoint).logits(waveform)
    np.testing.assert_allclose(_stages(checkpoint, waveform)["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("samples", [720, 9_001, 20_000])
def test_a_bucket_gives_what_the_utterance_gives_alone(
    make_checkpoint: Make, noise: Make, samples: int
) -> None:
    checkpoint = make_checkpoint("post", (0, 2))
    frames = FrameArithmetic.of(checkpoint.model.config).frames(20_000)
    padded = np.zeros((1, 20_000), np.float32)
    padded[0, :samples] = noise(samples)
    lengths = torch.tensor([samples], dtype=torch.int32)
    with torch.inference_mode():
        logits = BucketModel(checkpoint, frames)(torch.from_numpy(padded), lengths)[0].numpy()
    expected = TorchReference(checkpoint).logits(padded[0, :samples])
    np.testing.assert_allclose(logits[: len(expected)], expected, atol=2e-4)
