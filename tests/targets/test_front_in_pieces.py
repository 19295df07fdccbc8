"""The front end in pieces against the whole one, in float64 and in float32, and on real speech."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lpa_export.hosts import parts_of
from lpa_export.layers.in_pieces import joined, over_pieces, split
from lpa_export.measures.arrays import psnr
from lpa_export.targets.batched import BATCHED
from lpa_export.targets.front_in_pieces import FeaturesInPieces
from lpa_export.targets.skeleton import Features

SAME_IN_FLOAT64_DB = 200.0
"""Rounding of float64 alone lies at 290 dB here."""

SAME_DB = 110.0

NORMS = {
    "group": {"feat_extract_norm": "group", "conv_bias": False},
    "group, bias": {"feat_extract_norm": "group", "conv_bias": True},
    "layer": {"feat_extract_norm": "layer", "conv_bias": True},
}


@pytest.fixture(scope="module", params=[(n, d) for n in NORMS for d in (True, False)], ids=str)
def parts(request: pytest.FixtureRequest, tiny_config: Callable[..., Any]) -> Any:
    """A front end of wav2vec2-base's kernels, two of its filters of very high pass."""
    from transformers import Wav2Vec2ForCTC

    norm, do_normalize = request.param
    torch.manual_seed(5)
    sizes = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
    model = Wav2Vec2ForCTC(tiny_config(num_hidden_layers=1, **sizes | NORMS[norm])).eval()
    first: Any = model.wav2vec2.feature_extractor.conv_layers[0]
    with torch.no_grad():
        # Differences of the fifth and of the ninth order: hardly anything of speech passes.
        first.conv.weight[0, 0] = torch.tensor([0.0, 0, 1, -5, 10, -10, 5, -1, 0, 0])
        first.conv.weight[1, 0] = torch.tensor([1.0, -9, 36, -84, 126, -126, 84, -36, 9, -1])
        first.layer_norm.weight.add_(0.2 * torch.randn(16))
        first.layer_norm.bias.add_(0.2 * torch.randn(16))
    return parts_of(SimpleNamespace(model=model, do_normalize=do_normalize))


def _compare(parts: Any, waveform: np.ndarray, most: int) -> None:
    """A recording and, padded with what must not be heard, its first third."""
    batch = torch.tensor(waveform)[None].repeat(2, 1)
    lengths = torch.tensor([len(waveform), len(waveform) // 3])
    batch[1, lengths[1] :] = torch.nan
    whole, pieces = Features(parts, BATCHED).double(), FeaturesInPieces(parts, most).double()
    with torch.inference_mode():
        expected, valid, counts = whole(batch.double(), lengths)
        found, same_valid, same_counts = pieces(batch.double(), lengths)
        single, *_ = pieces.float()(batch, lengths)
    assert found.shape == expected.shape
    assert (valid == same_valid).all()
    assert counts.tolist() == same_counts.tolist()
    assert torch.isfinite(single).all()
    for row, count in enumerate(counts.tolist()):
        assert psnr(expected[row, :count], found[row, :count]) > SAME_IN_FLOAT64_DB
        assert psnr(expected[row, :count], single[row, :count]) > SAME_DB


@pytest.mark.parametrize("most", [7, 100])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_pieces_give_what_the_whole_gives(
    parts: Any, speech: Callable[..., np.ndarray], most: int, offset: float
) -> None:
    _compare(parts, speech(12_345) + np.float32(offset), most)


@pytest.mark.parametrize("samples", [20, 21, 29, 30, 31, 100])
def test_so_do_pieces_of_audio_of_a_few_frames(
    parts: Any, speech: Callable[..., np.ndarray], samples: int
) -> None:
    waveform = torch.tensor(speech(samples, 4))[None].double()
    lengths = torch.tensor([samples])
    with torch.inference_mode():
        expected, *_ = Features(parts, BATCHED).double()(waveform, lengths)
        found, *_ = FeaturesInPieces(parts).double()(waveform, lengths)
    assert found.shape == expected.shape
    # One frame has no variance over time: the norm divides rounding by its epsilon.
    assert len(found[0]) == 1 or psnr(expected, found) > SAME_DB


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_pieces_of_real_speech_give_what_the_whole_gives(
    parts: Any, an4_dev: Path, offset: float
) -> None:
    lines = [json.loads(line) for line in an4_dev.read_text().splitlines()[:3]]
    paths = [an4_dev.parent / line["audio_filepath"] for line in lines]
    waveform = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
    _compare(parts, waveform + np.float32(offset), 100)


def test_an_utterance_without_a_frame_gives_no_nan(parts: Any) -> None:
    with torch.inference_mode():
        found, valid, _ = FeaturesInPieces(parts)(torch.randn(2, 900), torch.tensor([900, 3]))
    assert torch.isfinite(found).all()
    assert not valid[1].any()


def test_a_norm_over_time_behind_the_first_convolution_is_refused(parts: Any) -> None:
    first, second = parts.features
    changed = type(second)(second.conv, nn.GroupNorm(16, 16), second.activation)
    layers = (first, changed)
    with pytest.raises(ValueError, match="behind the first"):
        FeaturesInPieces(type(parts)(**vars(parts) | {"features": layers}))


@pytest.mark.slow
def test_an_hour_in_pieces_is_the_whole(tiny_config: Callable[..., Any]) -> None:
    """A first convolution of the size of a hop, so that the whole one fits into memory."""
    from transformers import Wav2Vec2ForCTC

    torch.manual_seed(5)
    sizes = {"conv_dim": (4, 4), "conv_kernel": (40, 8), "conv_stride": (40, 8)}
    model = Wav2Vec2ForCTC(tiny_config("post", num_hidden_layers=1, **sizes)).eval()
    parts = parts_of(SimpleNamespace(model=model, do_normalize=True))
    generator = np.random.default_rng(0)
    level = 0.02 + 0.1 * np.repeat(generator.random(3_600), 16_000)
    waveform = (level * generator.standard_normal(len(level)) + 0.3).astype(np.float32)
    batch, lengths = torch.tensor(waveform)[None], torch.tensor([len(waveform)])
    with torch.inference_mode():
        expected, _, counts = Features(parts, BATCHED).double()(batch.double(), lengths)
        found, *_ = FeaturesInPieces(parts)(batch, lengths)
    assert counts.tolist() == [180_000]
    assert psnr(expected, found) > SAME_DB


@given(total=st.integers(1, 200_000), most=st.integers(1, 3_000))
def test_pieces_cover_all_and_are_of_one_size(total: int, most: int) -> None:
    count, size = split(total, most)
    assert count >= 2
    assert 1 <= size <= max(most, 1)
    assert total <= count * size < total + count


@pytest.mark.parametrize("total", [1, 2, 9, 10])
def test_what_pieces_give_is_put_together_in_order(total: int) -> None:
    rows = torch.arange(2 * total * 3.0).view(2, total, 3)
    count, size = split(total, 4)

    def body(start: Tensor) -> tuple[Tensor]:
        index = (start + torch.arange(size)).clamp_max(total - 1)
        return (rows.index_select(1, index),)

    (stacked,) = over_pieces(body, count, size)
    assert stacked.shape == (count, 2, size, 3)
    torch.testing.assert_close(joined(stacked, total), rows)
