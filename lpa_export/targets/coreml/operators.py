"""What the converter is to make of operators that it does not know."""

from __future__ import annotations

from functools import cache
from typing import Any

from lpa_export.targets.coreml.channels_first import channel_norm

__all__ = ["teach_operators"]


@cache
def teach_operators() -> None:
    """Register them with coremltools, once: that of `channels_first`, and torch.export's alias."""
    from coremltools.converters.mil import register_torch_op

    name = channel_norm._opoverload.name().removesuffix(".default")
    register_torch_op(_layer_norm, torch_alias=[name], override=True)
    register_torch_op(_alias, torch_alias=["alias"], override=True)


def _layer_norm(context: Any, node: Any) -> None:
    from coremltools.converters.mil import Builder

    hidden, weight, bias, epsilon = (context[name] for name in node.inputs)
    norm = Builder.layer_norm(
        x=hidden, axes=[1], gamma=weight, beta=bias, epsilon=epsilon.val, name=node.name
    )
    context.add(norm)


def _alias(context: Any, node: Any) -> None:
    """A value under another name."""
    from coremltools.converters.mil import Builder

    context.add(Builder.identity(x=context[node.inputs[0]], name=node.name))
