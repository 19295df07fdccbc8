"""Convolutional networks: residual blocks, pooling, transposed convolution, upsampling."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpa_export.runtimes.coreml import Arithmetic

Convert = Callable[..., Any]


class Residual(nn.Module):
    """Strided residual blocks, several kinds of pooling, and a decoder back to full size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU6())
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.first = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.1)
        )
        self.depthwise = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.up = nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.grouped = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1, groups=4)
        self.smooth = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = x + self.first(x)
        x = F.hardswish(x * self.squeeze(x) + F.elu(self.depthwise(x)))
        x = self.smooth(self.grouped(F.mish(self.up(x))))
        return torch.cat([self.shuffle(x), F.pixel_unshuffle(x, 2).repeat(1, 1, 4, 4)[:, :2]], 1)


class UNet(nn.Module):
    """A small U-Net: skip connections, both kinds of upsampling, group and instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.PReLU(16)
        )
        self.deep = nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")
        self.side = nn.Conv2d(32, 8, 3, padding=1, padding_mode="replicate")
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.down(x)
        middle = self.middle(F.max_pool2d(top, 2))
        deep = torch.tanh(self.deep(F.avg_pool2d(middle, 2)))
        deep = F.interpolate(deep, scale_factor=2.0, mode="nearest")
        side = F.softplus(self.side(torch.cat([middle, deep], 1)))
        side = F.interpolate(side, size=(32, 40), mode="bilinear", align_corners=False)
        wide = F.interpolate(side, scale_factor=1.5, mode="bilinear", align_corners=True)
        return self.out(torch.cat([top, wide[..., :32, -40:]], 1))


@pytest.mark.parametrize(
    ("network", "shape", "target", "precision"),
    [
        (Residual, (1, 3, 48, 64), "iOS16", "fp32"),
        (Residual, (1, 3, 48, 64), "iOS18", "fp16"),
        (UNet, (2, 2, 32, 40), "iOS15", "fp16"),
        (UNet, (2, 2, 32, 40), "iOS17", "fp32"),
    ],
)
def test_convolutional_networks(
    convert: Convert,
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


def test_float16_programs_lose_precision_only_where_it_is_emulated(
    convert: Convert, packaged: Callable[..., Any], psnr: Callable[..., float]
) -> None:
    torch.manual_seed(0)
    model, inputs = UNet().eval(), [torch.randn(1, 2, 32, 40)]
    package = packaged(convert(model, inputs, "iOS17", "fp16"))
    rounded, unrounded, sequential = (
        psnr(model, inputs, package, arithmetic)
        for arithmetic in (Arithmetic.FP16, Arithmetic.FP32, Arithmetic.FP16_SEQUENTIAL)
    )
    assert sequential - 1 < rounded < unrounded
