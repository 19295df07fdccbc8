"""SepFormer as a family whose attention can be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lpa_export.hosts.attention import LPAAttention
from lpa_export.hosts.pieces import plain_replacement
from lpa_export.hosts.sepformer.config import MODEL_TYPE
from lpa_export.hosts.sepformer.model import SepFormer, TransformerLayer
from lpa_export.layers import LPA

__all__ = ["FAMILY"]


@dataclass(frozen=True)
class _Family:
    """See `lpa_export.hosts.Replaceable`."""

    model_type: str = MODEL_TYPE
    attention: str = "self_att"

    def layers(self, model: SepFormer) -> list[TransformerLayer]:
        """All transformer layers, intra-chunk and inter-chunk, in the order of computation."""
        return model.layers

    def replacement(self, lpa: LPA, attention: Any) -> LPAAttention:
        """What stands for an attention that goes."""
        return plain_replacement(lpa, attention)

    def gate(self, attention: Any) -> None:
        """There is no position bias."""


FAMILY = _Family()
