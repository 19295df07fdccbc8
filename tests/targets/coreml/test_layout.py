"""Rewrites into (B, C, 1, S): each equals the module it replaces."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention

from lpa_export.hosts.parts import Attention
from lpa_export.measures.arrays import psnr
from lpa_export.targets.coreml.attention import ChannelsFirstAttention
from lpa_export.targets.coreml.channels_first import (
    ChannelNorm,
    pointwise,
    to_channels_first,
)
from lpa_export.targets.coreml.convolutions import MAX_TAPS, FoldedConv, ShortConvs
from lpa_export.targets.coreml.normalisation import (
    Centring,
    MaskedCentring,
    MaskedTimeNorm,
    Normalisation,
    TimeNorm,
)
from lpa_export.targets.coreml.padding import Padding, key_bias
from lpa_export.targets.rows import row_convolution

Kind = TypeVar("Kind", bound=nn.Module)

# Float64 noise; the house's gate for a rewrite is 70 dB.
EXACT_DB = 250.0


def _random(module: Kind) -> Kind:
    """In float64, no parameter at a value that hides a mistake."""
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def _config(**changes: Any) -> Wav2Vec2Config:
    return Wav2Vec2Config(hidden_size=32, num_attention_heads=4, intermediate_size=48, **changes)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _channels_last(hidden: Tensor) -> Tensor:
    return hidden[:, :, 0].transpose(1, 2)


@pytest.mark.parametrize(
    ("rewrite", "original"),
    [
        (pointwise, lambda: nn.Linear(32, 20)),
        (pointwise, lambda: nn.Linear(32, 20, bias=False)),
        (ChannelNorm, lambda: nn.LayerNorm(32)),
    ],
)
def test_a_map_of_single_frames_is_the_same_in_either_layout(
    rewrite: Callable[..., nn.Module], original: Callable[[], nn.Module]
) -> None:
    module, hidden = _random(original()), _noise(2, 29, 32)
    found = rewrite(module)(to_channels_first(hidden))
    assert psnr(module(hidden), _channels_last(found)) > EXACT_DB


@pytest.mark.parametrize("kernel", [1, 3, 13, 14, 15, 27, 64, 128])
@pytest.mark.parametrize("groups", [1, 4, 16])
def test_short_convolutions_add_up_to_the_long_one(kernel: int, groups: int) -> None:
    conv = _random(nn.Conv1d(16, 16, kernel, padding=kernel // 2, groups=groups))
    hidden = _noise(1, 16, 1, 70)
    rewritten = ShortConvs(conv)
    assert all(piece.kernel_size[1] <= MAX_TAPS for piece in rewritten.pieces)  # type: ignore[index]
    expected = conv(hidden[:, :, 0])[:, :, :70]
    assert psnr(expected, rewritten(hidden)[:, :, 0]) > EXACT_DB


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (400, 160), (6, 6), (3, 2), (12, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_row_gives_the_same_convolution(kernel: int, stride: int, bias: bool) -> None:
    conv = _random(nn.Conv1d(1, 8, kernel, stride=stride, bias=bias))
    waveform = _noise(1, 1, 1, kernel + 21 * stride)
    found = FoldedConv(conv)(waveform)
    assert psnr(conv(waveform[:, 0]), found[:, :, 0]) > EXACT_DB


def test_wav2vec2_base_has_no_stride_of_five_behind_the_fold() -> None:
    folded = FoldedConv(nn.Conv1d(1, 8, 10, stride=5))
    assert (folded.fold, folded.conv.kernel_size, folded.conv.stride) == (5, (1, 2), (1, 1))


def test_a_convolution_over_a_row_is_the_one_over_time() -> None:
    conv = _random(nn.Conv1d(6, 9, 3, stride=2, groups=3))
    hidden = _noise(1, 6, 1, 50)
    assert psnr(conv(hidden[:, :, 0]), row_convolution(conv)(hidden)[:, :, 0]) > EXACT_DB


def test_time_norm_is_group_norm_of_single_channels() -> None:
    norm = _random(nn.GroupNorm(12, 12))
    hidden = 3 * _noise(1, 12, 1, 200) + 1
    assert psnr(norm(hidden[:, :, 0]), TimeNorm(norm)(hidden)[:, :, 0]) > EXACT_DB


def test_masked_time_norm_does_not_hear_padding() -> None:
    norm = _random(nn.GroupNorm(12, 12))
    hidden = _noise(1, 12, 1, 200)
    expected = norm(hidden[:, :, 0, :130])
    hidden[..., 130:] = 1e4
    mask = (torch.arange(200) < 130).double()
    found = MaskedTimeNorm(norm)(hidden, (torch.tensor([130.0], dtype=torch.float64), mask))
    assert psnr(expected, found[:, :, 0, :130]) > EXACT_DB


@pytest.mark.parametrize("rewrite", [TimeNorm, MaskedTimeNorm])
def test_groups_of_several_channels_are_refused(rewrite: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="one channel a group"):
        rewrite(nn.GroupNorm(4, 24))


def _part(attention: Wav2Vec2Attention) -> Attention:
    return Attention(
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.out_proj,
        heads=attention.num_heads,
        scaling=attention.scaling,
        gate=None,
    )


def _padding(valid: int, frames: int) -> Padding:
    mask = (torch.arange(frames) < valid).double().view(1, 1, 1, -1)
    return Padding(mask, key_bias(mask), mask, None)


def test_attention_head_by_head_is_attention() -> None:
    attention = _random(Wav2Vec2Attention(32, 4, config=_config()))
    hidden = _noise(1, 57, 32)
    found = ChannelsFirstAttention(_part(attention))(to_channels_first(hidden), _padding(57, 57))
    assert psnr(attention(hidden)[0], _channels_last(found)) > EXACT_DB


def test_masked_keys_are_not_attended_to() -> None:
    attention = _random(Wav2Vec2Attention(32, 4, config=_config()))
    hidden = _noise(1, 57, 32)
    expected = attention(hidden[:, :20])[0]
    hidden[:, 20:] = 7.0
    found = ChannelsFirstAttention(_part(attention))(to_channels_first(hidden), _padding(20, 57))
    assert psnr(expected, _channels_last(found)[:, :20]) > EXACT_DB


def test_no_mask_value_leaves_float16() -> None:
    bias = key_bias(torch.tensor([[[[1.0, 0.0]]]]))
    assert bias.flatten().tolist() == [0.0, -1e4]
    assert torch.isfinite(functional.softmax(bias.half(), dim=-1)).all()


def test_quiet_speech_keeps_its_variance() -> None:
    waveform = (1e-4 * np.random.default_rng(0).standard_normal((1, 16_000))).astype(np.float32)
    expected = (waveform - waveform.mean()) / np.sqrt(waveform.astype(float).var() + 1e-7)
    assert psnr(expected, Normalisation()(torch.from_numpy(waveform), None)) > 100


@pytest.mark.parametrize("exact", [True, False])
def test_an_offset_goes_before_the_first_convolution_and_padding_has_no_part_in_it(
    exact: bool,
) -> None:
    waveform = torch.full((1, 900), 0.5) + 0.01 * _noise(1, 900)
    expected = waveform.double() - waveform.double().mean()
    if exact:
        found = Centring()(waveform, None)
    else:
        padded = functional.pad(waveform, (0, 100), value=7.0)
        mask = functional.pad(torch.ones(900), (0, 100))
        found = MaskedCentring(1000).double()(padded, [(torch.tensor([900.0]), mask)])
        assert (found[:, 900:] == 0).all()
        found = found[:, :900]
    assert psnr(expected, found) > EXACT_DB
