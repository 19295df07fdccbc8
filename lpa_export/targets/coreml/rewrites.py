"""The table of rewrites: what stands in a program in place of which module, each equal to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from lpa_export.targets.coreml.attention import ChannelsFirstAttention
from lpa_export.targets.coreml.channels_first import ChannelNorm, FeedForward, pointwise
from lpa_export.targets.coreml.convolutions import FoldedConv, PositionalEmbedding, ShortConvs
from lpa_export.targets.coreml.frontend import TimeNorm, row_conv
from lpa_export.targets.coreml.lpa import BandLPA
from lpa_export.targets.coreml.whole import MaskedTimeNorm

__all__ = ["REWRITES", "REWRITES_OF"]

REWRITES: Mapping[str, Callable[..., nn.Module]] = {
    "linear as 1x1 convolution": pointwise,
    "layer norm over channels": ChannelNorm,
    "feed-forward as 1x1 convolutions": FeedForward,
    "attention head by head": ChannelsFirstAttention,
    "LPA as local dense masks": BandLPA,
    "long convolution as short ones": ShortConvs,
    "positional convolution as short ones": PositionalEmbedding,
    "convolution over a row": row_conv,
    "norm over time": TimeNorm,
    "first convolution on a folded row": FoldedConv,
    "norm over valid time": MaskedTimeNorm,
}
"""Name -> what builds it from the module that it replaces."""

REWRITES_OF: Mapping[str, tuple[str, ...]] = {
    layout: tuple(name for name in REWRITES if name not in others)
    for layout, others in {
        "split": {"first convolution on a folded row", "norm over valid time"},
        "whole": {"norm over time"},
    }.items()
}
"""Layout -> names of the rewrites that its programs may hold."""
