"""A model as plain values and named arrays, for runtimes that do not start from torch.

What a kit says in torch modules, a target without torch reads here: `structure` is JSON (numbers,
names, what is there and what is not), `arrays` are the weights by the names that the structure's
order gives them. Nothing is left to be computed from the checkpoint but what depends on a length.

    features.0.conv.weight, .bias, features.0.norm.weight, ...; feature_norm; projection;
    positional.0.conv, .affine.scale, .affine.shift, .norm; norm; position_bias.table;
    layers.0.norm, .final_norm, .expand, .contract; then of attention .query, .key, .value, .output,
    .gate, .gate.constant; of an LPA .value, .output, .context, .controls; of an adapter
    .adapter.norm, .adapter.down, .adapter.up; length_adapter.projection, .norm, .convolutions.0;
    head

Weights lie as torch keeps them: linear (out, in), convolutions (out, in / groups, kernel). Norms
say `epsilon`; a norm of the front end says its `kind` too, `layer` over channels or `group` over
time. Periods and shares of windows that do not depend on the content stand in the structure, in
float64, because an edge must not move: `teeth` is [period, phase, width] and `shares` is
[lower, upper], each (heads, pulses).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lpa_export.errors import LpaError
from lpa_export.targets.position_bias import BiasByDistance, gates_of_heads

if TYPE_CHECKING:
    import numpy as np

    from lpa_export.hosts.parts import Layer, LengthAdapter, Parts
    from lpa_export.layers import LPA

__all__ = [
    "ACTIVATIONS",
    "Named",
    "Plain",
    "layer_structure",
    "named_layer",
    "named_of",
    "norm_structure",
    "plain_model",
]

ACTIVATIONS: Mapping[str, str] = {
    "GELU": "gelu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "ReLU": "relu",
    "SiLU": "silu",
    "SiLUActivation": "silu",
}
"""What the classes of torch and transformers are called here: the exact GELU, the one by tanh."""

_NORMS = {nn.LayerNorm: "layer", nn.GroupNorm: "group"}


@dataclass(frozen=True)
class Plain:
    """See the module's docstring. Arrays are float32, in the order of the model."""

    structure: dict[str, Any]
    arrays: dict[str, np.ndarray]


def plain_model(parts: Parts) -> Plain:
    """The whole model. Raises LpaError in one line for an activation that has no name here."""
    arrays = {name: value.detach().float().numpy() for name, value in _named(parts)}
    return Plain(_structure(parts), arrays)


def _structure(parts: Parts) -> dict[str, Any]:
    bias = parts.position_bias
    return {
        "do_normalize": parts.do_normalize,
        "norm_first": parts.norm_first,
        "features": [
            {
                "stride": layer.conv.stride[0],
                "norm": norm_structure(layer.norm),
                "activation": _activation(layer.activation),
            }
            for layer in parts.features
        ],
        "feature_norm": norm_structure(parts.feature_norm),
        "positional": [
            {
                "groups": layer.conv.groups,
                "padding": int(layer.conv.padding[0]),
                "trim": layer.trim,
                "affine": layer.affine is not None,
                "norm": norm_structure(layer.norm),
                "activation": _activation(layer.activation),
            }
            for layer in parts.positional
        ],
        "norm": norm_structure(parts.norm),
        "layers": [layer_structure(layer) for layer in parts.layers],
        "length_adapter": _length_adapter(parts.length_adapter),
        "position_bias": None if bias is None else {"reach": bias.max_distance},
    }


def layer_structure(layer: Layer) -> dict[str, Any]:
    """The entry of an encoder layer. Raises as `plain_model`."""
    attention, adapter = layer.attention, layer.adapter
    return {
        "norm": norm_structure(layer.norm),
        "final_norm": norm_structure(layer.final_norm),
        "activation": _activation(layer.feed_forward.activation),
        "attention": None
        if attention is None
        else {
            "heads": attention.heads,
            "scaling": attention.scaling,
            "gate": attention.gate is not None,
        },
        "lpa": None if layer.lpa is None else _lpa(layer.lpa),
        "adapter": None
        if adapter is None
        else {"norm": norm_structure(adapter.norm), "activation": _activation(adapter.activation)},
    }


def _lpa(lpa: LPA) -> dict[str, Any]:
    config = lpa.config
    teeth, shares = lpa.fixed_windows()
    names = ("aperiodic", "periodic", "positional", "max_offset", "min_width", "max_width")
    return {
        "heads": config.num_heads,
        **{name: getattr(config, name) for name in names},
        "teeth": _windows(teeth),
        "shares": _windows(shares),
    }


def _windows(parts: Sequence[Tensor] | None) -> list[Any] | None:
    return None if parts is None else [part.detach().tolist() for part in parts]


def _length_adapter(adapter: LengthAdapter | None) -> dict[str, Any] | None:
    if adapter is None:
        return None
    return {
        "projection": adapter.projection is not None,
        "norm": norm_structure(adapter.norm),
        "convolutions": [
            {"stride": conv.stride[0], "padding": int(conv.padding[0])}
            for conv in adapter.convolutions
        ],
    }


def norm_structure(norm: nn.LayerNorm | nn.GroupNorm | None) -> dict[str, Any] | None:
    """The entry of a norm, None for none."""
    return None if norm is None else {"kind": _NORMS[type(norm)], "epsilon": norm.eps}


def _activation(module: nn.Module) -> str:
    name = type(module).__name__
    if name not in ACTIVATIONS:
        raise LpaError(
            f"the activation {name} is none that a target without torch knows; known: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


Named = Iterator[tuple[str, Tensor]]
"""Names and what they name."""


def _named(parts: Parts) -> Named:
    """Every array by its name, in the order of the model."""
    for index, feature in enumerate(parts.features):
        yield from named_of(f"features.{index}.conv", feature.conv)
        yield from named_of(f"features.{index}.norm", feature.norm)
    yield from named_of("feature_norm", parts.feature_norm)
    yield from named_of("projection", parts.projection)
    for index, layer in enumerate(parts.positional):
        place = f"positional.{index}"
        if layer.affine is not None:
            yield f"{place}.affine.scale", layer.affine[0]
            yield f"{place}.affine.shift", layer.affine[1]
        yield from named_of(f"{place}.conv", layer.conv)
        yield from named_of(f"{place}.norm", layer.norm)
    yield from named_of("norm", parts.norm)
    if parts.position_bias is not None:
        yield "position_bias.table", BiasByDistance(parts.position_bias).table
    for index, encoder in enumerate(parts.layers):
        yield from named_layer(f"layers.{index}", encoder)
    adapter = parts.length_adapter
    if adapter is not None:
        yield from named_of("length_adapter.projection", adapter.projection)
        yield from named_of("length_adapter.norm", adapter.norm)
        for index, conv in enumerate(adapter.convolutions):
            yield from named_of(f"length_adapter.convolutions.{index}", conv)
    yield from named_of("head", parts.head)


def named_layer(place: str, layer: Layer) -> Named:
    """The arrays of an encoder layer, in the order of the docstring above."""
    if layer.attention is not None:
        for name in ("query", "key", "value", "output"):
            yield from named_of(f"{place}.{name}", getattr(layer.attention, name))
        if layer.attention.gate is not None:
            yield from named_of(f"{place}.gate", gates_of_heads(layer.attention))
            yield f"{place}.gate.constant", layer.attention.gate.constant.flatten()
    if layer.lpa is not None:
        for name in ("value", "output", "context", "controls"):
            yield from named_of(f"{place}.{name}", getattr(layer.lpa, name))
    yield from named_of(f"{place}.norm", layer.norm)
    yield from named_of(f"{place}.expand", layer.feed_forward.expand)
    yield from named_of(f"{place}.contract", layer.feed_forward.contract)
    yield from named_of(f"{place}.final_norm", layer.final_norm)
    if layer.adapter is not None:
        for name in ("norm", "down", "up"):
            yield from named_of(f"{place}.adapter.{name}", getattr(layer.adapter, name))


def named_of(name: str, module: nn.Module | None) -> Named:
    """The parameters of a module, none of None."""
    for kind, value in module.named_parameters() if module is not None else ():
        yield f"{name}.{kind}", value
