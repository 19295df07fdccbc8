"""HuBERT: as wav2vec2, with a batch norm in front of the positional convolution where it has one.

`feat_proj_layer_norm: false` leaves the norm of the feature projection out; the module is missing
then, which `Host` reads from the model.
"""

from typing import Any

from lpa_export.hosts.host import Host
from lpa_export.hosts.parts import PositionalLayer
from lpa_export.hosts.pieces import positional_layer

__all__ = ["HOST"]


def _positional(embedding: Any) -> tuple[PositionalLayer, ...]:
    """The convolution; of the batch norm, at inference, one scale and shift per channel."""
    norm = embedding.batch_norm
    if norm is None:
        return (positional_layer(embedding),)
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias.detach() - norm.running_mean * scale
    return (positional_layer(embedding, affine=(scale, shift)),)


HOST = Host("hubert", "HubertForCTC", "HubertConfig", backbone="hubert", positional=_positional)
