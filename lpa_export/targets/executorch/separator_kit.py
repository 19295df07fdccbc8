"""The parts of a separator in operators that XNNPACK takes: means are products with a constant."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.hosts.sepformer.model import GlobalNorm
from lpa_export.targets.batched import BATCHED
from lpa_export.targets.executorch.kit import LayerNorm
from lpa_export.targets.separation.model import WeighedNorm

__all__ = ["KIT", "ProductNorm"]

KIT = replace(BATCHED, norm=LayerNorm)
"""Of a layer: XNNPACK has no layer norm."""


class ProductNorm(WeighedNorm):
    """A global norm of frames or of chunks of so many frames; XNNPACK has no mean over one axis."""

    def __init__(self, norm: GlobalNorm, chunk: int) -> None:
        super().__init__(norm)
        for name, width in (("channels", norm.weight.numel()), ("frames", chunk)):
            self.register_buffer(name, torch.full((1, width), 1.0 / width))

    def mean(self, values: Tensor, share: Tensor) -> Tensor:
        """(B, T, C) or (B, T, K, C), shares (B, T) of the rows -> (B, 1, ..., 1)."""
        shape = (-1, *[1] * (values.dim() - 1))
        rows = functional.linear(values, self.get_buffer("channels")).flatten(-2)
        if rows.dim() > 2:
            rows = functional.linear(rows, self.get_buffer("frames")).flatten(-2)
        return torch.bmm(share[:, None], rows[..., None]).view(shape)
