"""Front end, encoder and whole model in torch against Hugging Face's forward pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.errors import LpaError
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.coreml.encoder import Encoder
from lpa_export.targets.coreml.frontend import FrontEnd, NormaliseWaveform
from lpa_export.targets.coreml.verify import require_equal, require_frames
from lpa_export.targets.coreml.whole import WholeModel

Make = Callable[..., Any]
STYLES = [("pre", (0, 2)), ("post", (0, 2)), ("pre", ()), ("post", (0, 1, 2))]
FRAMES = 64

# Float32 noise, and up to an edge that it moves; the house's gate for a rewrite is 70 dB.
EQUAL_DB = 70.0


@pytest.mark.parametrize(("norm", "layers"), STYLES)
def test_split_model_is_the_reference_at_any_valid_length(
    make_checkpoint: Make, speech: Make, norm: str, layers: tuple[int, ...]
) -> None:
    checkpoint = make_checkpoint(norm, layers)
    front_end, encoder = FrontEnd(checkpoint), Encoder(checkpoint, FRAMES)
    for samples in (720, 9_000, 20_000):
        waveform = speech(samples)
        projected, _ = front_end(torch.from_numpy(waveform)[None])
        frames = projected.shape[-1]
        padded = torch.full((1, 32, 1, FRAMES), 9.0)
        padded[..., :frames] = projected
        mask = (torch.arange(FRAMES) < frames).float().view(1, 1, 1, -1)
        logits = encoder(padded, mask)[0][0, :, 0, :frames].T
        assert psnr(TorchReference(checkpoint).logits(waveform), logits) > EQUAL_DB


@pytest.mark.parametrize("do_normalize", [True, False])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_whole_model_is_the_reference_at_any_valid_length(
    make_checkpoint: Make, speech: Make, norm: str, do_normalize: bool
) -> None:
    checkpoint = make_checkpoint(norm, do_normalize=do_normalize)
    room = checkpoint.receptive_field + (FRAMES - 1) * 320
    whole = WholeModel(checkpoint, FRAMES, room)
    for samples in (720, 9_001, room):
        waveform = np.zeros((1, room), np.float32)
        waveform[0, :samples] = speech(samples)
        logits = whole(torch.from_numpy(waveform), torch.tensor([float(samples)]))[0]
        expected = TorchReference(checkpoint).logits(waveform[0, :samples])
        found = logits[0, :, 0, : len(expected)].T
        assert psnr(expected, found) > EQUAL_DB, samples


def test_quiet_speech_keeps_its_variance() -> None:
    waveform = (1e-4 * np.random.default_rng(0).standard_normal((1, 16_000))).astype(np.float32)
    expected = (waveform - waveform.mean()) / np.sqrt(waveform.astype(float).var() + 1e-7)
    assert psnr(expected, NormaliseWaveform()(torch.from_numpy(waveform))) > 100


def test_another_frame_arithmetic_is_noticed(make_checkpoint: Make) -> None:
    front_end = FrontEnd(make_checkpoint())
    require_frames(front_end, FrameArithmetic((400, 3), (160, 2)))
    with pytest.raises(LpaError, match="frame arithmetic"):
        require_frames(front_end, FrameArithmetic((400, 4), (160, 2)))


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("projection", "wav2vec2.feature_projection.projection.weight"),
        ("encoder.layers.1", "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight"),
        ("encoder.layers.2", "wav2vec2.encoder.layers.2.attention.lpa.output.weight"),
        ("logits", "lm_head.weight"),
    ],
)
def test_a_wrong_rewrite_is_refused_by_the_name_of_its_stage(
    make_checkpoint: Make, golden: Make, stage: str, place: str
) -> None:
    checkpoint = make_checkpoint()
    clips = golden(checkpoint)
    require_equal(checkpoint, clips)
    with torch.no_grad():
        checkpoint.model.get_parameter(place).mul_(1.01)
    with pytest.raises(LpaError, match=f": {stage} of clip clip has a PSNR"):
        require_equal(checkpoint, clips)
