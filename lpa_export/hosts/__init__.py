"""Finding the attention of a host model and swapping it for LPA."""

from lpa_export.hosts.wav2vec2 import LPAAttention, encoder_layers, lpa_layers, replace_layers

__all__ = ["LPAAttention", "encoder_layers", "lpa_layers", "replace_layers"]
