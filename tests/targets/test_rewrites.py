"""Each rewrite equals the Hugging Face part it replaces, and padding changes nothing."""

import copy
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2PositionalConvEmbedding,
)

from lpa_export.measures.arrays import psnr
from lpa_export.targets.rewrites import (
    KeyMaskedAttention,
    MaskedGroupNorm,
    PlainPositionalEmbedding,
    key_bias,
    normalise_waveform,
)

Kind = TypeVar("Kind", bound=nn.Module)

# Float32 noise; the house's gate for a rewrite is 70 dB.
EQUAL_DB = 120.0


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


@pytest.fixture
def config() -> Wav2Vec2Config:
    return Wav2Vec2Config(
        hidden_size=32,
        num_attention_heads=4,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )


def _randomised(module: Kind) -> Kind:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


@pytest.mark.parametrize("samples", [1, 400, 16_000, 480_000])
def test_normalised_waveform_is_that_of_transformers_feature_extractor(samples: int) -> None:
    waveform = (0.02 * np.random.default_rng(0).standard_normal(samples) + 0.5).astype(np.float32)
    expected = Wav2Vec2FeatureExtractor(do_normalize=True)(
        waveform, sampling_rate=16_000, return_tensors="np"
    ).input_values[0]
    found = normalise_waveform(torch.tensor(waveform)[None], torch.tensor([samples]))[0]
    # numpy subtracts the mean of float32 with its own rounding: 0.5 is 25 deviations here.
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4 if samples > 1 else 1e-3)
    assert samples == 1 or psnr(expected, found.numpy()) > 100


def test_samples_behind_an_utterance_do_not_take_part_in_its_normalisation() -> None:
    waveform = torch.randn(2, 900)
    alone = normalise_waveform(waveform[:1, :600], torch.tensor([600]))
    waveform[0, 600:] = torch.nan
    padded = normalise_waveform(waveform, torch.tensor([600, 900]))
    torch.testing.assert_close(padded[:1, :600], alone)
    assert (padded[0, 600:] == 0).all()


def test_masked_group_norm_is_group_norm_on_an_utterance_alone() -> None:
    norm = _randomised(nn.GroupNorm(24, 24))
    hidden = 3 * torch.randn(2, 24, 333) + 1
    found = MaskedGroupNorm(norm)(hidden, torch.tensor([333, 333]))
    assert psnr(norm(hidden).detach(), found.detach()) > EQUAL_DB


def test_masked_group_norm_does_not_hear_what_lies_behind_an_utterance() -> None:
    norm = MaskedGroupNorm(nn.GroupNorm(24, 24))
    hidden = torch.randn(1, 24, 500)
    alone = norm(hidden[..., :200], torch.tensor([200]))
    hidden[..., 200:] = 1e4
    padded = norm(hidden, torch.tensor([200]))[..., :200]
    assert psnr(alone.detach(), padded.detach()) > EQUAL_DB


def test_groups_of_several_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel a group"):
        MaskedGroupNorm(nn.GroupNorm(4, 24))


@pytest.mark.parametrize("kernel", [15, 16])
def test_positional_embedding_is_the_same_without_weight_norm(
    config: Wav2Vec2Config, kernel: int
) -> None:
    config.num_conv_pos_embeddings = kernel
    embedding = _randomised(Wav2Vec2PositionalConvEmbedding(config))
    hidden = torch.randn(2, 61, 32)
    expected = embedding(hidden).detach()
    found = PlainPositionalEmbedding(embedding)(hidden).detach()
    assert psnr(expected, found) > EQUAL_DB
    # The original still works: its generated class is not shared with the plain one.
    torch.testing.assert_close(embedding(hidden).detach(), expected, rtol=0, atol=0)


@pytest.fixture
def attention(config: Wav2Vec2Config) -> Wav2Vec2Attention:
    module = Wav2Vec2Attention(32, 4, config=config)
    return _randomised(module)


def test_key_masked_attention_is_attention_when_all_frames_are_valid(
    attention: Wav2Vec2Attention,
) -> None:
    hidden = torch.randn(2, 57, 32)
    bias = key_bias(torch.ones(2, 57, dtype=torch.bool), hidden.dtype)
    found = KeyMaskedAttention(attention)(hidden, bias)
    assert psnr(attention(hidden)[0].detach(), found.detach()) > EQUAL_DB


def test_masked_keys_are_not_attended_to(attention: Wav2Vec2Attention) -> None:
    rewritten = KeyMaskedAttention(attention)
    hidden = torch.randn(1, 57, 32)
    expected = attention(hidden[:, :20])[0].detach()
    hidden[:, 20:] = 1e3
    valid = (torch.arange(57) < 20)[None]
    found = rewritten(hidden, key_bias(valid, hidden.dtype))[:, :20].detach()
    assert psnr(expected, found) > EQUAL_DB


def test_an_utterance_without_frames_gives_no_nan(attention: Wav2Vec2Attention) -> None:
    hidden = torch.randn(1, 9, 32)
    bias = key_bias(torch.zeros(1, 9, dtype=torch.bool), hidden.dtype)
    assert torch.isfinite(KeyMaskedAttention(attention)(hidden, bias)).all()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda: (KeyMaskedAttention, Wav2Vec2Attention(32, 4, config=Wav2Vec2Config())),
        lambda: (MaskedGroupNorm, nn.GroupNorm(8, 8)),
    ],
)
def test_a_rewrite_shares_no_weight_with_its_original(
    rewrite: Callable[[], tuple[type[nn.Module], nn.Module]],
) -> None:
    kind, original = rewrite()
    before = copy.deepcopy(original.state_dict())
    with torch.no_grad():
        for parameter in kind(original).parameters():
            parameter.zero_()
    for name, value in original.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
