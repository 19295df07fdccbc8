"""SepFormer held against SpeechBrain's: stored outputs always, itself where it can be imported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from lpa_export.errors import LpaError
from lpa_export.formats.separator import load_separator
from lpa_export.hosts import encoder_layers, lpa_layers, replace_layers
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig
from lpa_export.layers import LPAConfig

from . import speechbrain_sepformer as theirs

STORED = Path(__file__).with_name("sepformer_tiny.safetensors")
CLOSE = 2e-6
"""Estimates are below 1; SpeechBrain and ours differ by rounding in float32."""

Change = dict[str, Any]


@pytest.fixture(scope="module")
def stored() -> tuple[SepFormer, dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    """Our model with SpeechBrain's weights, and its mixtures and estimates by length."""
    with safe_open(STORED, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = _ours(config, _under("weights:", tensors))
    mixtures, estimates = _under("mixture:", tensors), _under("estimate:", tensors)
    return model, {int(n): (mixtures[n], estimates[n]) for n in sorted(mixtures)}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _ours(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> SepFormer:
    model = SepFormer(SepFormerConfig.from_json(config, "config.json")).eval()
    model.load_state_dict(weights)
    return model


@torch.no_grad()
def test_every_length_gives_what_speechbrain_gives(stored: Any) -> None:
    model, clips = stored
    half, stride = model.config.chunk // 2, model.config.stride
    assert {n % (half * stride) for n in clips} == {*range(half * stride)}
    for mixture, estimate in clips.values():
        torch.testing.assert_close(model(mixture[None])[0], estimate, rtol=0, atol=CLOSE)


@torch.no_grad()
def test_a_padded_batch_gives_what_speechbrain_gives_without_padding(stored: Any) -> None:
    model, clips = stored
    longest = max(clips) + 37
    batch = torch.full((len(clips), longest), float("nan"))
    for row, (samples, (mixture, _)) in enumerate(clips.items()):
        batch[row, :samples] = mixture
    found = model(batch, torch.tensor([*clips]))
    for row, (samples, (_, estimate)) in enumerate(clips.items()):
        torch.testing.assert_close(found[row, :, :samples], estimate, rtol=0, atol=CLOSE)
        assert not found[row, :, samples:].any()


@torch.no_grad()
def test_without_lengths_zeros_behind_a_mixture_count_as_in_speechbrain(stored: Any) -> None:
    model, clips = stored
    mixture, estimate = clips[max(clips)]
    found = model(torch.nn.functional.pad(mixture, (0, 37))[None])[0, :, : len(mixture)]
    assert (found - estimate).abs().max() > 1e-3


def test_a_mixture_without_a_frame_is_refused(stored: Any) -> None:
    with pytest.raises(ValueError, match="expected 4 samples at least, found 3"):
        stored[0](torch.zeros(1, 3))


CONFIG: Change = {
    "model_type": "sepformer",
    "sampling_rate": 8000,
    "sources": 2,
    "filters": 6,
    "kernel_size": 4,
    "hidden_size": 8,
    "chunk": 12,
    "blocks": 2,
    "intra_layers": 2,
    "inter_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "resepformer"}, "model_type is 'resepformer', expected 'sepformer'"),
        ({"model_type": "wav2vec2"}, "dual-path masker"),
        ({"norm": "gln"}, r"has unknown keys \['norm'\]"),
        ({"chunk": None}, "chunk is None, expected 2 to 10000"),
        ({"sources": 4}, "sources is 4, expected 1 to 3"),
        ({"sources": True}, "sources is True"),
        ({"kernel_size": 5}, "kernel_size 5 must be even"),
        ({"num_attention_heads": 3}, "hidden_size 8 must be a multiple of num_attention_heads 3"),
    ],
)
def test_a_configuration_of_no_dual_path_masker_is_refused(change: Change, said: str) -> None:
    with pytest.raises(LpaError, match=said) as caught:
        SepFormerConfig.from_json(CONFIG | change, "there/config.json")
    assert str(caught.value).startswith("there/config.json: ")


def test_a_configuration_is_read_as_it_was_written() -> None:
    config = SepFormerConfig.from_json(CONFIG, "config.json")
    assert config.to_json() == CONFIG
    missing = {key: value for key, value in CONFIG.items() if key != "blocks"}
    with pytest.raises(LpaError, match="lacks blocks"):
        SepFormerConfig.from_json(missing, "config.json")


def test_layers_are_counted_in_the_order_of_computation() -> None:
    model = SepFormer(SepFormerConfig.from_json(CONFIG, "config.json"))
    called: list[int] = []
    for index, layer in enumerate(encoder_layers(model)):
        layer.register_forward_hook(lambda *_, index=index: called.append(index))
    model(torch.randn(1, 100))
    assert called == [*range(6)]
    assert (model.config.intra, model.config.inter) == ((0, 1, 3, 4), (2, 5))
    names = {id(module): name for name, module in model.named_modules()}
    inter = [names[id(layer)] for layer in map(model.layers.__getitem__, model.config.inter)]
    assert all(".inter_mdl." in name for name in inter)


def _replaced(layers: tuple[int, ...], *, hard: bool) -> SepFormer:
    torch.manual_seed(1)
    model = SepFormer(SepFormerConfig.from_json(CONFIG, "config.json")).eval()
    shape: dict[str, Any] = {
        "max_offset": 3.0,
        "max_width": 6.0,
        "kernel_size": 3,
        "max_period": 8.0,
    }
    replace_layers(model, layers, LPAConfig(hidden_size=8, num_heads=2, **shape))
    for lpa in lpa_layers(model).values():
        lpa.hard = hard
    return model


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("layers", [(0, 1, 3, 4), (2, 5), (0, 1, 2, 3, 4, 5)])
@torch.no_grad()
def test_padding_changes_nothing_with_lpa_in_place_of_attention(
    layers: tuple[int, ...], hard: bool
) -> None:
    model = _replaced(layers, hard=hard)
    assert tuple(lpa_layers(model)) == layers
    clips = [torch.randn(samples) for samples in (61, 90, 122)]
    batch = torch.full((3, 150), float("nan"))
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    found = model(batch, torch.tensor([61, 90, 122]))
    for row, clip in enumerate(clips):
        torch.testing.assert_close(found[row, :, : len(clip)], model(clip[None])[0])


@torch.no_grad()
def test_an_lpa_starts_with_the_value_and_output_of_the_attention_it_replaces() -> None:
    model = SepFormer(SepFormerConfig.from_json(CONFIG, "config.json"))
    attention: Any = model.layers[3].self_att
    hidden = torch.randn(2, 5, 8)
    projected = torch.nn.functional.linear(
        hidden, attention.att.in_proj_weight, attention.att.in_proj_bias
    )
    replace_layers(model, [3], LPAConfig(hidden_size=8, num_heads=2))
    lpa = lpa_layers(model)[3]
    torch.testing.assert_close(lpa.value(hidden), projected[..., 16:])
    torch.testing.assert_close(lpa.output(hidden), attention.att.out_proj(hidden))
    with pytest.raises(LpaError, match="layer 6 does not exist: the model has layers 0 to 5"):
        replace_layers(model, [6], LPAConfig(hidden_size=8, num_heads=2))


@pytest.fixture(scope="module")
def speechbrain() -> Callable[..., Any]:
    theirs.stand_in_for_torchaudio()
    pytest.importorskip("speechbrain", reason="speechbrain is not installed: not run")
    return theirs.speechbrain_model


@torch.no_grad()
def test_chunks_of_250_frames_at_every_length_modulo_125(speechbrain: Callable[..., Any]) -> None:
    sizes = theirs.SIZES["tiny"] | {"masknet_chunksize": 250, "masknet_numspks": 3}
    model = speechbrain(**sizes)
    ours = _ours(*theirs.converted(model))
    for samples in range(1000, 1000 + 125 * ours.config.stride):
        mixture = torch.randn(1, samples)
        expected = model(mixture)[0].T
        padded = torch.nn.functional.pad(mixture, (0, 500))
        for found in (ours(mixture), ours(padded, torch.tensor([samples]))):
            torch.testing.assert_close(found[0, :, :samples], expected, rtol=0, atol=CLOSE)


HYPERPARAMS = """
sample_rate: 8000
model: !new:speechbrain.lobes.models.dual_path.SepformerWrapper
  encoder_kernel_size: 4
  encoder_out_nchannels: 8
  masknet_chunksize: 10
  intra_numlayers: 2
  inter_numlayers: 1
  intra_nhead: 2
  inter_nhead: 2
  intra_dffn: 12
  inter_dffn: 12
modules:
  encoder: !ref <model.encoder>
  masknet: !ref <model.masknet>
  decoder: !ref <model.decoder>
"""


@torch.no_grad()
def test_a_folder_that_speechbrain_publishes_is_converted(
    speechbrain: Callable[..., Any], tmp_path: Path
) -> None:
    model = speechbrain(**theirs.SIZES["tiny"])
    folder, out = tmp_path / "published", tmp_path / "out"
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
    for part in ("encoder", "masknet", "decoder"):
        torch.save(getattr(model, part).state_dict(), folder / f"{part}.ckpt")
    with pytest.raises(LpaError, match=r"only pickled weights .*from_speechbrain\.py"):
        load_separator(folder)
    theirs.converter()._convert(folder, out, None)
    mixture = torch.randn(1, 63)
    found = load_separator(out).model(mixture)[0]
    torch.testing.assert_close(found, model(mixture)[0].T, rtol=0, atol=CLOSE)


def test_converted_weights_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    theirs.converter().write(tmp_path / "out", {}, {"decoder.weight": torch.ones(1)})
    config, weights = sorted((tmp_path / "out").iterdir())
    assert weights.stat().st_mode == config.stat().st_mode


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"masknet_norm": "gln"}, "norm: ln"),
        ({"masknet_useextralinearlayer": True}, "no linear_layer_after_inter_intra"),
        ({"masknet_extraskipconnection": False}, "skip_around_intra"),
        ({"inter_norm_before": False}, "norm_before"),
        ({"intra_use_positional": False}, "use_positional_encoding"),
        ({"intra_dffn": 16}, "one number of heads and one d_ffn"),
    ],
)
def test_what_no_published_sepformer_has_is_not_converted(
    speechbrain: Callable[..., Any], change: Change, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        theirs.converted(speechbrain(**theirs.SIZES["tiny"] | change))
