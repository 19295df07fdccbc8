"""What lies behind an utterance does not change it, and the parts that see to that."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import parts_of
from lpa_export.hosts.parts import Attention
from lpa_export.measures.arrays import psnr
from lpa_export.targets.batched import (
    BatchedModel,
    Context,
    KeyMaskedAttention,
    MaskedGroupNorm,
    carried,
    levelled,
)
from lpa_export.targets.describe import require_exportable

Make = Callable[..., Checkpoint]

EQUAL_DB = 110.0


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_nothing_behind_an_utterance_changes_it(make_checkpoint: Make, norm: str) -> None:
    model = BatchedModel(parts_of(make_checkpoint(norm)))
    waveform = 0.1 * torch.randn(12_000) + 0.01
    batch = torch.full((3, 30_000), torch.nan)
    batch[1, 12_000:] = 1e6
    batch[2, 12_000:] = torch.inf
    batch[:, :12_000] = waveform
    with torch.inference_mode():
        logits, counts, *taps = model(waveform[None], torch.tensor([12_000]))
        padded, padded_counts, *padded_taps = model(batch, torch.tensor([12_000] * 3))
    frames = int(counts[0])
    assert padded_counts.tolist() == [frames] * 3
    for alone, beside in zip([logits, *taps], [padded, *padded_taps], strict=True):
        for row in beside:
            assert psnr(alone[0].numpy(), row[:frames].numpy()) > EQUAL_DB


@pytest.mark.parametrize("samples", [1, 400, 16_000, 480_000])
def test_normalised_waveform_is_that_of_transformers_feature_extractor(samples: int) -> None:
    waveform = (0.02 * np.random.default_rng(0).standard_normal(samples) + 0.5).astype(np.float32)
    expected = Wav2Vec2FeatureExtractor(do_normalize=True)(
        waveform, sampling_rate=16_000, return_tensors="np"
    ).input_values[0]
    found = levelled(torch.tensor(waveform)[None], torch.tensor([samples]), "mean and variance")[0]
    # numpy subtracts the mean of float32 with its own rounding: 0.5 is 25 deviations here.
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4 if samples > 1 else 1e-3)
    assert samples == 1 or psnr(expected, found.numpy()) > 100


def test_samples_behind_an_utterance_do_not_take_part_in_its_normalisation() -> None:
    waveform = torch.randn(2, 900)
    alone = levelled(waveform[:1, :600], torch.tensor([600]), "mean and variance")
    waveform[0, 600:] = torch.nan
    padded = levelled(waveform, torch.tensor([600, 900]), "mean and variance")
    torch.testing.assert_close(padded[:1, :600], alone)
    assert (padded[0, 600:] == 0).all()


def test_an_offset_alone_is_taken_from_each_utterance_by_itself() -> None:
    waveform = torch.randn(2, 900) + torch.tensor([[0.5], [-3.0]])
    waveform[0, 600:] = torch.nan
    found = levelled(waveform, torch.tensor([600, 900]), "mean")
    torch.testing.assert_close(found[0, :600], waveform[0, :600] - waveform[0, :600].mean())
    torch.testing.assert_close(found[1], waveform[1] - waveform[1].mean())
    assert (found[0, 600:] == 0).all()


def test_masked_group_norm_does_not_hear_what_lies_behind_an_utterance() -> None:
    plain = nn.GroupNorm(24, 24)
    hidden = torch.randn(1, 24, 500)
    expected = plain(hidden[..., :200])
    hidden[..., 200:] = 1e4
    padded = MaskedGroupNorm(plain)(hidden, torch.tensor([200]))[..., :200]
    assert psnr(expected.detach(), padded.detach()) > EQUAL_DB


def test_groups_of_several_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel a group"):
        MaskedGroupNorm(nn.GroupNorm(4, 24))


def test_an_utterance_without_frames_gives_no_nan() -> None:
    query, key, value, output = (nn.Linear(32, 32) for _ in range(4))
    attention = Attention(query, key, value, output, heads=4, scaling=0.35, gate=None)
    hidden = torch.randn(1, 9, 32)
    valid = torch.zeros(1, 9, dtype=torch.bool)
    context = Context(valid, torch.full((1, 1, 9), -1e4), None)
    assert torch.isfinite(KeyMaskedAttention(attention)(hidden, context)).all()


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_mask_behind_a_convolution_says_which_frames_an_utterance_alone_has(
    kernel: int, stride: int
) -> None:
    conv = nn.Conv1d(1, 1, kernel, stride=stride, padding=1)
    for frames in range(4, 12):
        alone = conv(torch.zeros(1, 1, frames)).shape[-1]
        padded = conv(torch.zeros(1, 1, 15)).shape[-1]
        mask = carried(torch.arange(15) < frames, conv)
        assert len(mask) >= padded
        assert mask[:padded].sum() == min(alone, padded)


def test_pulses_anchored_to_the_utterance_are_refused(make_checkpoint: Make) -> None:
    from lpa_export.hosts import lpa_layers

    checkpoint = make_checkpoint("pre")
    lpa = lpa_layers(checkpoint.model)[2]
    lpa.config = type(lpa.config)(**vars(lpa.config) | {"anchor": "utterance"})
    with pytest.raises(LpaError, match="layer 2 are anchored to the utterance"):
        require_exportable(checkpoint)


class _Levelled(nn.Module):
    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return levelled(waveform, lengths, "mean and variance")


def test_of_a_fixed_length_no_sum_takes_in_more_than_a_thousand_numbers() -> None:
    """Core AI's runtime adds them one by one in float32; torch does not, and would not show it."""
    samples = 480_000
    given = (torch.zeros(1, samples), torch.tensor([samples]))
    sums = [
        node
        for node in torch.export.export(_Levelled(), given).graph.nodes
        if node.target is torch.ops.aten.sum.dim_IntList
    ]
    assert sums
    for node in sums:
        shape = node.args[0].meta["val"].shape
        assert np.prod([shape[axis] for axis in node.args[1]]) <= 1_000
