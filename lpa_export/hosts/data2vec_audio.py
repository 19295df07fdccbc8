"""Data2VecAudio: a chain of plain convolutions for positions, each with a norm without weights."""

from typing import Any

from lpa_export.hosts.host import Host
from lpa_export.hosts.parts import PositionalLayer
from lpa_export.hosts.pieces import positional_layer

__all__ = ["HOST"]


def _positional(embedding: Any) -> tuple[PositionalLayer, ...]:
    return tuple(positional_layer(layer) for layer in embedding.layers)


HOST = Host(
    "data2vec-audio",
    "Data2VecAudioForCTC",
    "Data2VecAudioConfig",
    backbone="data2vec_audio",
    positional=_positional,
)
