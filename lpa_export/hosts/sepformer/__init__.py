"""SepFormer, the host of speech separation and enhancement: SpeechBrain's module, written anew."""

from lpa_export.hosts.sepformer.config import MODEL_TYPE, SepFormerConfig
from lpa_export.hosts.sepformer.family import FAMILY
from lpa_export.hosts.sepformer.model import Attention, SepFormer, TransformerLayer, sinusoids
from lpa_export.hosts.sepformer.parts import SeparatorParts, separator_parts

__all__ = [
    "FAMILY",
    "MODEL_TYPE",
    "Attention",
    "SepFormer",
    "SepFormerConfig",
    "SeparatorParts",
    "TransformerLayer",
    "separator_parts",
    "sinusoids",
]
