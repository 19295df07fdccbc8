"""The running mean of weights, against the mean of all of them at once."""

from pathlib import Path

import torch
from torch import nn

from lpa_export.training.state import WeightAverage


def _model(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def test_the_mean_of_three_epochs(tmp_path: Path) -> None:
    average = WeightAverage(tmp_path / "average.safetensors")
    for epoch in range(3):
        average.add(_model(epoch), epoch)
    found = _model(9)
    assert average.load_into(found)
    expected = torch.stack([_model(epoch).weight.detach() for epoch in range(3)]).mean(0)
    torch.testing.assert_close(found.weight.detach(), expected)


def test_an_epoch_that_runs_again_counts_once(tmp_path: Path) -> None:
    average = WeightAverage(tmp_path / "average.safetensors")
    for seed, epoch in ((0, 0), (1, 1), (2, 1)):
        average.add(_model(seed), epoch)
    found = _model(9)
    average.load_into(found)
    expected = (_model(0).weight + _model(1).weight).detach() / 2
    torch.testing.assert_close(found.weight.detach(), expected)


def test_without_epochs_the_model_stays(tmp_path: Path) -> None:
    model = _model(4)
    assert not WeightAverage(tmp_path / "average.safetensors").load_into(model)
    assert torch.equal(model.weight, _model(4).weight)
