"""The hard model against Hugging Face's own forward pass, stage by stage."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import TorchReference, tap_names
from lpa_export.targets.graph import HardModel, require_plain, tap_kinds

Make = Callable[..., Checkpoint]
EQUAL_DB = 110.0


def _waveform(samples: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * noise + 0.01).astype(np.float32)


def _run(model: HardModel, waveforms: torch.Tensor, lengths: list[int]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        values = model(waveforms, torch.tensor(lengths))
    return dict(zip(["logits", "frame_lengths", *model.stages], values, strict=True))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_every_stage_is_that_of_the_reference(
    make_checkpoint: Make, norm: str, do_normalize: bool
) -> None:
    checkpoint = make_checkpoint(norm, do_normalize=do_normalize)
    waveform = _waveform(19_777)
    found = _run(HardModel(checkpoint), torch.tensor(waveform)[None], [len(waveform)])
    reference = TorchReference(checkpoint).taps(waveform)
    for name, expected in reference.items():
        assert psnr(expected, found[name][0].numpy()) > EQUAL_DB, name


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_nothing_behind_an_utterance_changes_it(
    checkpoints: Mapping[str, Checkpoint], norm: str
) -> None:
    model = HardModel(checkpoints[norm])
    waveform = _waveform(12_000)
    alone = _run(model, torch.tensor(waveform)[None], [12_000])
    frames = int(alone["frame_lengths"][0])
    batch = torch.full((3, 30_000), torch.nan)
    batch[1, 12_000:] = 1e6
    batch[2, 12_000:] = torch.inf
    batch[:, :12_000] = torch.tensor(waveform)
    padded = _run(model, batch, [12_000] * 3)
    assert padded["frame_lengths"].tolist() == [frames] * 3
    for row in range(3):
        for name in (*model.stages, "logits"):
            values = padded[name][row, :frames].numpy()
            assert psnr(alone[name][0].numpy(), values) > EQUAL_DB, (name, row)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_callers_model_stays_as_it_is(make_checkpoint: Make, norm: str) -> None:
    checkpoint = make_checkpoint(norm)
    reference, waveform = TorchReference(checkpoint), _waveform(5_000)
    before = copy.deepcopy(checkpoint.model.state_dict())
    logits = reference.logits(waveform)
    with torch.no_grad():
        for parameter in HardModel(checkpoint).parameters():
            parameter.zero_()
    assert checkpoint.model.state_dict().keys() == before.keys()
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    np.testing.assert_array_equal(reference.logits(waveform), logits)


def test_a_model_with_nothing_replaced_is_a_model_too(make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint("post", ())
    waveform = _waveform(9_000)
    found = _run(HardModel(checkpoint), torch.tensor(waveform)[None], [9_000])["logits"][0]
    assert psnr(TorchReference(checkpoint).logits(waveform), found.numpy()) > EQUAL_DB


def test_tap_kinds_name_what_replaced_attention(checkpoints: Mapping[str, Checkpoint]) -> None:
    kinds = tap_kinds(checkpoints["pre"])
    assert tuple(kinds) == tap_names(3)
    assert [kinds[f"encoder.layers.{i}"] for i in range(3)] == ["lpa", "attention", "lpa"]
    assert (kinds["features"], kinds["logits"]) == ("frontend", "head")


@pytest.mark.parametrize("setting", [{"add_adapter": True}, {"adapter_attn_dim": 8}])
def test_adapters_are_refused_by_name(make_checkpoint: Make, setting: Mapping[str, Any]) -> None:
    checkpoint = make_checkpoint("pre")
    for name, value in setting.items():
        setattr(checkpoint.model.config, name, value)
    with pytest.raises(LpaError, match=next(iter(setting))):
        require_plain(checkpoint)
