"""Host families: finding their parts, and swapping their attention for LPA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from lpa_export.errors import LpaError
from lpa_export.hosts import (
    data2vec_audio,
    hubert,
    sepformer,
    unispeech,
    unispeech_sat,
    wav2vec2,
    wavlm,
)
from lpa_export.hosts.attention import (
    Layers,
    LPAAttention,
    Replaceable,
    lpa_layers_of,
    replace_layers_of,
    valid_frames,
)
from lpa_export.hosts.host import Host
from lpa_export.hosts.parts import Parts
from lpa_export.layers import LPA, LPAConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "HOSTS",
    "Host",
    "LPAAttention",
    "Replaceable",
    "encoder_layers",
    "family_of",
    "host_named",
    "host_of",
    "lpa_layers",
    "parts_of",
    "replace_layers",
    "valid_frames",
]

HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        module.HOST.model_type: module.HOST
        for module in (wav2vec2, hubert, data2vec_audio, unispeech, unispeech_sat, wavlm)
    }
)
"""Every family of recognisers by the `model_type` of its config.json."""


class Loaded(Protocol):
    """What `parts_of` needs of a checkpoint."""

    @property
    def model(self) -> Any: ...

    @property
    def do_normalize(self) -> bool: ...


def host_named(model_type: object, place: object) -> Host:
    """The family of a `model_type`; LpaError, with `place` first, names those that are known."""
    if model_type == sepformer.MODEL_TYPE:
        raise LpaError(
            f"{place}: model_type is {model_type!r}: it separates speech and transcribes none"
        )
    host = HOSTS.get(model_type) if isinstance(model_type, str) else None
    if host is None:
        raise LpaError(
            f"{place}: model_type is {model_type!r}, which is no host that this tool knows; "
            f"known: {', '.join(HOSTS)}"
        )
    return host


def host_of(model: PreTrainedModel) -> Host:
    """The family of a model; LpaError when it is none that is known."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return host_named(model_type, type(model).__name__)


def family_of(model: Any) -> Replaceable:
    """The family of a model that recognises or separates; LpaError when it is none."""
    if getattr(getattr(model, "config", None), "model_type", None) == sepformer.MODEL_TYPE:
        return sepformer.FAMILY
    return host_of(model)


def encoder_layers(model: Any) -> Layers:
    """The layers of a model that have attention; LpaError when it is of no known family."""
    return family_of(model).layers(model)


def lpa_layers(model: Any) -> dict[int, LPA]:
    """Index of the encoder layer -> its LPA, for the layers that have one."""
    return lpa_layers_of(family_of(model), model)


def replace_layers(model: Any, layers: Iterable[int], config: LPAConfig) -> None:
    """Put an LPA in place of the attention of each of `layers`; all others stay untouched.

    Value and output projections are copied from the attention that goes, so that an LPA starts
    by averaging the very values the attention weighed. LpaError for a layer that is not there.
    """
    replace_layers_of(family_of(model), model, layers, config)


def parts_of(checkpoint: Loaded) -> Parts:
    """What a checkpoint's model is made of."""
    model = checkpoint.model
    return host_of(model).parts(model, do_normalize=checkpoint.do_normalize)
