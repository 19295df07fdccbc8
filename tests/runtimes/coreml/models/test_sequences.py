"""Recurrent and separating networks, and programs that take inputs of several lengths."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpa_export.runtimes.coreml import Arithmetic


class Recurrent(nn.Module):
    """Two LSTM layers in both directions, a GRU and a plain recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.forth = nn.LSTM(20, 8)
        self.rnn = nn.RNN(8, 6, batch_first=True)
        self.gru = nn.GRU(6, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x, (state, _) = self.lstm(x)
        x, _ = self.forth(x.transpose(0, 1))
        x = self.rnn(x.transpose(0, 1))[0]
        return self.gru(x)[0] + state[-1][:, None, :5]


class Separator(nn.Module):
    """Mask estimation between a learned analysis and synthesis, as in Conv-TasNet."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = nn.Conv1d(1, 24, 16, 8, bias=False)
        self.norm = nn.GroupNorm(1, 24)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(24, 32, 1),
                nn.PReLU(),
                nn.GroupNorm(1, 32),
                nn.Conv1d(32, 32, 3, padding=2**i, dilation=2**i, groups=32),
                nn.PReLU(),
                nn.GroupNorm(1, 32),
                nn.Conv1d(32, 24, 1),
            )
            for i in range(3)
        )
        self.masks = nn.Conv1d(24, 48, 1)
        self.synthesis = nn.ConvTranspose1d(24, 1, 16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heard = self.analysis(x)
        y = self.norm(heard)
        for block in self.blocks:
            y = y + block(y)
        parts = self.masks(y).unflatten(1, (2, 24)).sigmoid() * heard.unsqueeze(1)
        return self.synthesis(parts.flatten(0, 1)).unflatten(0, (-1, 2)).squeeze(2)


class AnyLength(nn.Module):
    """Shapes come from the input: positions, masks and windows of whatever length is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Conv1d(6, 16, 3, 2)
        self.query, self.out = nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inward(x).transpose(1, 2)
        steps = torch.arange(h.shape[1])
        far = (steps[:, None] - steps).abs() > 4
        h = h + torch.sin(steps.float() / 3)[None, :, None]
        q, k, v = self.query(h).chunk(3, -1)
        weights = (q @ k.transpose(1, 2) / 4).masked_fill(far, -1e4).softmax(-1)
        h = F.layer_norm(h + weights @ v, (16,))
        sums = torch.cumsum(h, 1) / (steps + 1)[None, :, None]
        return self.out(torch.cat([sums[:, :1], h[:, 1:]], 1))


@pytest.mark.parametrize(
    ("network", "shape", "target", "precision"),
    [
        (Recurrent, (2, 15, 12), "iOS15", "fp16"),
        (Recurrent, (2, 15, 12), "iOS18", "fp32"),
        (Separator, (2, 1, 800), "iOS16", "fp32"),
        (Separator, (2, 1, 800), "iOS17", "fp16"),
    ],
)
def test_recurrent_and_separating_networks(
    convert: Callable[..., Any],
    require_agreement: Callable[..., None],
    network: type[nn.Module],
    shape: tuple[int, ...],
    target: str,
    precision: str,
) -> None:
    torch.manual_seed(0)
    model, inputs = network().eval(), [torch.randn(shape)]
    mlmodel = convert(model, inputs, target, precision)
    require_agreement(model, inputs, mlmodel, precision)


@pytest.mark.parametrize(("target", "precision"), [("iOS15", "fp32"), ("iOS18", "fp16")])
@pytest.mark.parametrize("kind", ["range", "enumerated"])
def test_lengths_are_those_of_the_input(
    convert: Callable[..., Any],
    packaged: Callable[..., Any],
    psnr: Callable[..., float],
    target: str,
    precision: str,
    kind: str,
) -> None:
    import coremltools

    torch.manual_seed(0)
    model = AnyLength().eval()
    shapes = {
        "range": coremltools.Shape((1, 6, coremltools.RangeDim(9, 200, default=40))),
        "enumerated": coremltools.EnumeratedShapes([(1, 6, n) for n in (40, 21, 90)]),
    }
    package = packaged(convert(model, [torch.randn(1, 6, 40)], target, precision, [shapes[kind]]))
    for length in (40, 21, 90):
        inputs = [torch.randn(1, 6, length)]
        found = psnr(model, inputs, package, Arithmetic.FP16)
        assert found > {"fp32": 90, "fp16": 55}[precision]
