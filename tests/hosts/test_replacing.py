"""Swapping attention for LPA inside Hugging Face's own model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.hosts import LPAAttention, lpa_layers, replace_layers, valid_frames
from lpa_export.layers import LPAConfig

SMALL = LPAConfig(hidden_size=32, num_heads=2)


@pytest.fixture(params=["pre", "post"])
def host(request: pytest.FixtureRequest, tiny_config: Callable[..., Any]) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    return Wav2Vec2ForCTC(tiny_config(request.param)).eval()


def test_only_the_chosen_layers_change(host: Wav2Vec2ForCTC) -> None:
    before = {name: tensor.clone() for name, tensor in host.state_dict().items()}
    replace_layers(host, [1], SMALL)
    after = host.state_dict()
    kept = [name for name in before if ".layers.1.attention." not in name]
    assert set(kept) == {name for name in after if ".attention.lpa." not in name}
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert list(lpa_layers(host)) == [1]


def test_value_and_output_projections_come_from_the_attention(host: Wav2Vec2ForCTC) -> None:
    attention: Any = host.wav2vec2.encoder.layers[2].attention
    replace_layers(host, [2], SMALL)
    lpa = lpa_layers(host)[2]
    assert torch.equal(lpa.value.weight, attention.v_proj.weight)
    assert torch.equal(lpa.value.bias, attention.v_proj.bias)
    assert torch.equal(lpa.output.weight, attention.out_proj.weight)
    assert torch.equal(lpa.output.bias, attention.out_proj.bias)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("hard", [False, True])
def test_padding_inside_the_host_changes_no_valid_frame(
    tiny_config: Callable[..., Any], implementation: str, hard: bool
) -> None:
    torch.manual_seed(1)
    model = Wav2Vec2ForCTC(tiny_config("pre")).eval()
    model.set_attn_implementation(implementation)
    replace_layers(model, [0, 2], SMALL)
    for lpa in lpa_layers(model).values():
        lpa.hard = hard
    waveform = torch.randn(1, 9_000)
    padded = torch.cat([waveform, torch.zeros(1, 7_000)], dim=1)
    mask = (torch.arange(16_000) < 9_000).long()[None]
    with torch.inference_mode():
        alone = model(waveform).logits
        with_padding = model(padded, attention_mask=mask).logits[:, : alone.shape[1]]
    torch.testing.assert_close(with_padding, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_named(host: Wav2Vec2ForCTC, layer: int) -> None:
    with pytest.raises(LpaError, match=rf"layer {layer} does not exist.*0 to 2"):
        replace_layers(host, [layer], SMALL)


def test_replacing_a_layer_twice_is_refused(host: Wav2Vec2ForCTC) -> None:
    replace_layers(host, [0], SMALL)
    with pytest.raises(LpaError, match="layer 0 is an LPA already"):
        replace_layers(host, [0], SMALL)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(LpaError, match=r"Linear: model_type is None, .*known: wav2vec2, hubert"):
        lpa_layers(torch.nn.Linear(2, 2))


def test_every_form_of_mask_gives_the_same_valid_frames() -> None:
    valid = torch.tensor([[True, True, False], [True, False, False]])
    additive = torch.zeros(2, 1, 3, 3).masked_fill(~valid[:, None, None], -1e4)
    forms = [valid, valid.long(), valid[:, None, None].expand(2, 1, 3, 3), additive]
    for mask in forms:
        found = valid_frames(mask)
        assert found is not None
        assert torch.equal(found, valid)
    assert valid_frames(None) is None


def test_wav2vec2_base_takes_eight_lpa_layers() -> None:
    """The real configuration: 12 layers of width 768, 94 M parameters, random weights."""
    with torch.device("meta"):
        model = Wav2Vec2ForCTC(Wav2Vec2Config())
        assert 94e6 < sum(p.numel() for p in model.parameters()) < 95e6
        replace_layers(model, range(8), LPAConfig(hidden_size=768, num_heads=12))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    kinds = [isinstance(layer.attention, LPAAttention) for layer in model.wav2vec2.encoder.layers]
    assert kinds == [True] * 8 + [False] * 4
    assert model(torch.zeros(1, 16_000, device="meta")).logits.shape == (1, 49, 32)
