"""The kit of fixed-shape programs for the Neural Engine: everything in (B, C, 1, S).

Linear maps are 1x1 convolutions, norms run over the channel axis, long convolutions are sums of
short ones, LPA layers local dense masks over stored windows. In layout *split* the front end is a
program of its own, which takes exactly the valid samples; in layout *whole* it takes a padded
waveform, and its norms over time hear the valid part only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from lpa_export.hosts.parts import FeatureLayer, Levelling, PositionalLayer
from lpa_export.targets.batched import carried
from lpa_export.targets.coreml.attention import ChannelsFirstAttention
from lpa_export.targets.coreml.channels_first import ChannelNorm, pointwise
from lpa_export.targets.coreml.convolutions import FoldedConv, ShortConvs
from lpa_export.targets.coreml.lpa import BandLPA
from lpa_export.targets.coreml.normalisation import (
    Centring,
    Level,
    MaskedCentring,
    MaskedNormalisation,
    MaskedTimeNorm,
    Normalisation,
    TimeNorm,
)
from lpa_export.targets.coreml.padding import Preparation, Silence
from lpa_export.targets.rows import row_convolution
from lpa_export.targets.skeleton import Kit

__all__ = ["split_kit", "whole_kit"]

Levels = Sequence[Level] | None
"""State of the front end: the levels from here on, None where every sample is valid."""

_LEVELLED: dict[Levelling, Callable[..., nn.Module] | None] = {
    "none": None,
    "mean": Centring,
    "mean and variance": Normalisation,
}
_MASKED: dict[Levelling, Callable[..., nn.Module] | None] = {
    "none": None,
    "mean": MaskedCentring,
    "mean and variance": MaskedNormalisation,
}


class Waveform(nn.Module):
    """A waveform as the row that the first convolution takes; `levelled` makes what levels it."""

    def __init__(self, levelled: Callable[..., nn.Module] | None, *samples: int) -> None:
        super().__init__()
        self.statistics = None if levelled is None else levelled(*samples)

    def forward(self, waveform: Tensor, levels: Levels) -> tuple[Tensor, Levels]:
        """(1, N) -> (1, 1, 1, N)."""
        if self.statistics is not None:
            waveform = self.statistics(waveform, levels)
        return waveform[:, None, None], levels


class Convolution(nn.Module):
    """A layer of the front end with any of its norms; `masked`: it hears of padding."""

    def __init__(self, layer: FeatureLayer, *, masked: bool) -> None:
        super().__init__()
        first = layer.conv.in_channels == 1
        # A row of exact samples may have any length; only a fixed one can be cut into equal parts.
        self.conv = FoldedConv(layer.conv) if first and masked else row_convolution(layer.conv)
        over_time = MaskedTimeNorm if masked else TimeNorm
        norm = layer.norm
        self.time_norm = over_time(norm) if isinstance(norm, nn.GroupNorm) else None
        self.channel_norm = ChannelNorm(norm) if isinstance(norm, nn.LayerNorm) else None
        self.activation: nn.Module = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, levels: Levels) -> tuple[Tensor, Levels]:
        """hidden (1, C, 1, S) -> (1, C', 1, S'), and the levels from there on."""
        levels = None if levels is None else levels[1:]
        hidden = self.conv(hidden)
        if self.time_norm is not None:
            hidden = self.time_norm(hidden, None if levels is None else levels[0])
        if self.channel_norm is not None:
            hidden = self.channel_norm(hidden)
        return self.activation(hidden), levels


class Frames(nn.Module):
    """Features stay as they are; the last level says which frames are valid, (1, 1, 1, T)."""

    def forward(self, hidden: Tensor, levels: Levels) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        return hidden, None if levels is None else levels[0][1].view(1, 1, 1, -1)


class Positional(nn.Module):
    """A layer of the convolutional position embedding, in short pieces."""

    def __init__(self, layer: PositionalLayer) -> None:
        super().__init__()
        self.convs = ShortConvs(layer.conv)
        self.norm = None if layer.norm is None else ChannelNorm(layer.norm)
        self.activation: nn.Module = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, _mask: Tensor) -> Tensor:
        """hidden (1, D, 1, T), zero at padding -> (1, D, 1, T)."""
        embedded = self.convs(hidden)
        if self.norm is not None:
            embedded = self.norm(embedded)
        activated: Tensor = self.activation(embedded)
        return activated


class Shortening(nn.Module):
    """A convolution of a length adapter and its gated linear unit."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = row_convolution(conv, padded=True)
        self.source = (conv,)  # in a tuple: its weights are not those of this module

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (1, D, 1, T), zero at padding; mask (1, 1, 1, T) -> the same of fewer frames."""
        hidden = functional.glu(self.conv(hidden), dim=1)
        mask = carried(mask, *self.source)
        return hidden * mask, mask


def split_kit(frames: int) -> Kit:
    """A front end of exact samples, and an encoder of `frames` frames, a multiple of `BLOCK`."""
    return Kit(
        normalise=lambda levelling: Waveform(_LEVELLED[levelling]),
        convolution=partial(Convolution, masked=False),
        frames=Frames,
        linear=pointwise,
        norm=ChannelNorm,
        silence=Silence,
        positional=Positional,
        prepare=partial(Preparation, frames=frames),
        attention=ChannelsFirstAttention,
        lpa=partial(BandLPA, frames=frames),
        shorten=Shortening,
    )


def whole_kit(frames: int, samples: int) -> Kit:
    """Both in one, for a padded waveform of `samples`, those of exactly `frames` frames."""

    def normalise(levelling: Levelling) -> nn.Module:
        return Waveform(_MASKED[levelling], samples)

    return replace(
        split_kit(frames), normalise=normalise, convolution=partial(Convolution, masked=True)
    )
