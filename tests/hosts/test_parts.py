"""Every family taken apart and put together again equals transformers' own forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from lpa_export.hosts import HOSTS, encoder_layers, host_of, lpa_layers, parts_of, replace_layers
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.layers import LPAConfig
from tests.hosts.plain import forward

PULSES = LPAConfig(hidden_size=32, num_heads=2)


@dataclass
class Loaded:
    """The little of a checkpoint that `parts_of` reads."""

    model: Any
    do_normalize: bool


def speech(samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(samples) / 16_000
    return 0.1 * torch.sin(2 * torch.pi * (300 + 200 * time) * time) + 0.05 * torch.randn(
        samples, generator=generator
    )


@pytest.mark.parametrize("replaced", [(), (0,), (1,), (0, 1)])
def test_parts_put_together_equal_the_forward_pass(
    tiny_host: Callable[..., Any], host_variant: str, replaced: tuple[int, ...]
) -> None:
    model = tiny_host(host_variant)
    replace_layers(model, replaced, PULSES)
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    for do_normalize in (False, True):
        extract = Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
        waveform = speech(16_000)
        inputs = extract(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            expected = model(inputs.input_values).logits[0]
            found = forward(parts_of(Loaded(model, do_normalize)), waveform)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_parts_share_no_positional_weight_with_the_model(tiny_host: Callable[..., Any]) -> None:
    model = tiny_host("wav2vec2")
    before = model.wav2vec2.encoder.pos_conv_embed.conv.weight.clone()
    parts = parts_of(Loaded(model, True))
    with torch.no_grad():
        parts.positional[0].conv.weight.zero_()
    assert torch.equal(model.wav2vec2.encoder.pos_conv_embed.conv.weight, before)


def test_frames_are_those_of_the_forward_pass(
    tiny_host: Callable[..., Any], host_variant: str
) -> None:
    model = tiny_host(host_variant)
    frames = host_of(model).frames(model.config)
    shortest = frames.receptive_field
    assert frames.frames(shortest - 1) == 0
    for samples in (shortest, *range(shortest + 310, shortest + 2_000, 97), 16_000):
        with torch.inference_mode():
            found = model(speech(samples)[None]).logits.shape[1]
        assert frames.frames(samples) == found


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_an_adapters_kernel_and_stride_enter_the_arithmetic(
    tiny_host: Callable[..., Any], kernel: int
) -> None:
    model = tiny_host(
        "wav2vec2 add_adapter", adapter_kernel_size=kernel, adapter_stride=3, num_adapter_layers=2
    )
    frames = FrameArithmetic.of(model.config)
    assert frames.hop == 320 * 9
    for samples in range(frames.receptive_field, 30_000, 640):
        with torch.inference_mode():
            assert frames.frames(samples) == model(speech(samples)[None]).logits.shape[1]
    assert frames.to_json()["paddings"] == (0, 0, 1, 1)


def test_every_family_is_in_the_table_under_transformers_own_name(
    tiny_host: Callable[..., Any], host_variant: str
) -> None:
    model = tiny_host(host_variant)
    host = host_of(model)
    assert HOSTS[model.config.model_type] is host
    assert host.model_class == type(model).__name__
    assert host.config_class == type(model.config).__name__
    assert host_variant.split()[0] == host.model_type


@pytest.mark.parametrize("variant", ["wavlm", "wavlm pre-norm"])
@pytest.mark.parametrize("replaced", [(0,), (0, 1), (0, 1, 2), (1, 2), (0, 2)])
def test_kept_layers_of_wavlm_get_the_position_bias_whatever_is_replaced(
    tiny_host: Callable[..., Any], variant: str, replaced: tuple[int, ...]
) -> None:
    model = tiny_host(variant, num_hidden_layers=4)
    layers: Any = encoder_layers(model)
    attention = layers[0].attention
    expected = attention.compute_bias(60, 60)
    parts = parts_of(Loaded(model, True))
    assert parts.position_bias is not None
    assert torch.equal(parts.position_bias.of_pairs(60), expected)
    seen: dict[int, torch.Tensor] = {}
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(
            lambda _m, _a, given, i=index: seen.update({i: given["position_bias"]}),
            with_kwargs=True,
        )
    replace_layers(model, replaced, PULSES)
    with torch.inference_mode():
        model(torch.stack([speech(19_280 + 320), speech(19_280 + 320)]))
    for index in range(1, 4):
        assert torch.equal(seen[index], expected.repeat(2, 1, 1))
    embedding = "wavlm.encoder.layers.0.attention.rel_attn_embed.weight"
    assert torch.equal(model.state_dict()[embedding], attention.rel_attn_embed.weight)


def test_the_bias_of_wavlms_real_sizes_is_transformers_own() -> None:
    from transformers import WavLMConfig
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    from lpa_export.hosts.parts import PositionBias

    config = WavLMConfig()
    torch.manual_seed(0)
    attention = WavLMAttention(768, 12, 0.0, config.num_buckets, config.max_bucket_distance)
    bias = PositionBias(
        attention.rel_attn_embed.weight, config.num_buckets, config.max_bucket_distance
    )
    assert torch.equal(bias.of_pairs(1_499), attention.compute_bias(1_499, 1_499))


@pytest.mark.parametrize("variant", ["wavlm", "hubert", "data2vec-audio", "unispeech-sat"])
def test_padding_changes_no_valid_frame_of_a_replaced_layer(
    tiny_host: Callable[..., Any], variant: str
) -> None:
    """Between encoder and head only: how a family pads its front end is its own affair."""
    model = tiny_host(variant, num_hidden_layers=1, add_adapter=False)
    replace_layers(model, [0], PULSES)
    attention: Any = encoder_layers(model)[0]
    hidden = torch.randn(1, 40, 32, generator=torch.Generator().manual_seed(2))
    valid = (torch.arange(40) < 25)[None]
    with torch.inference_mode():
        alone = attention(hidden[:, :25])
        padded = attention(hidden, attention_mask=valid)
    alone, padded = (x[0] if isinstance(x, tuple) else x for x in (alone, padded))
    torch.testing.assert_close(padded[:, :25], alone, rtol=0, atol=2e-5)


def test_gradients_reach_wavlms_embedding_through_a_replaced_layer_0(
    tiny_host: Callable[..., Any],
) -> None:
    model = tiny_host("wavlm")
    replace_layers(model, [0], PULSES)
    model(speech(8_000)[None]).logits.square().sum().backward()
    layers: Any = encoder_layers(model)
    assert float(layers[0].attention.rel_attn_embed.weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("norm", "do_normalize", "levelling"),
    [
        ("layer", True, "mean and variance"),
        ("group", True, "mean and variance"),
        ("layer", False, "none"),  # a norm over the channels hears an offset
        ("group", False, "mean"),
    ],
)
def test_what_a_norm_over_time_takes_out_anyway_goes_before_it(
    tiny_host: Callable[..., Any], norm: str, do_normalize: bool, levelling: str
) -> None:
    model = tiny_host("wav2vec2", feat_extract_norm=norm, conv_bias=True)
    parts = host_of(model).parts(model, do_normalize=do_normalize)
    assert parts.levelling == levelling
    assert (parts.features[0].conv.bias is None) == (norm == "group")
    assert parts.features[1].conv.bias is not None
    assert model.wav2vec2.feature_extractor.conv_layers[0].conv.bias is not None
