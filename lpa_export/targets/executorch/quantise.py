"""int8 weights per channel by PT2E with XNNPACK's quantiser.

Activations of linear maps and of the first convolution are quantised on the fly. Those of the other
convolutions have one fixed range each, found on calibration speech: executorch 1.4.1 fails to lower
a convolution in the middle of a graph whose range is dynamic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lpa_export.environment import quiet
from lpa_export.formats.audio import load_audio
from lpa_export.formats.manifest import Compression
from lpa_export.formats.speech import load_utterances
from lpa_export.targets.skeleton import keeps_float

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

__all__ = ["calibration_speech", "counted", "quantise"]

CALIBRATION_CLIPS = 8

_LINEAR, _CONVOLUTION = torch.ops.aten.linear.default, torch.ops.aten.conv2d.default

_FIRST = "features.layers.0.conv"


def calibration_speech() -> list[Tensor]:
    """The first demo recordings that ship with the package, (1, samples) each."""
    utterances = load_utterances(None)[:CALIBRATION_CLIPS]
    return [torch.from_numpy(load_audio(utterance.audio))[None] for utterance in utterances]


def quantise(program: ExportedProgram, speech: Sequence[Tensor]) -> GraphModule:
    """The graph with quantised weights; trace it again before lowering."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.composable_quantizer import ComposableQuantizer

    def quantiser(chosen: Callable[[Node], bool], *, dynamic: bool) -> Any:
        made = XNNPACKQuantizer()
        config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
        for operator in (_LINEAR, _CONVOLUTION):
            made.set_operator_type(operator, config)
        return made.set_filter_function(chosen)

    with quiet(), torch.no_grad():
        both = ComposableQuantizer(
            [quantiser(_is_dynamic, dynamic=True), quantiser(_is_static, dynamic=False)]
        )
        prepared = prepare_pt2e(program.module(check_guards=False), both)
        for waveform in speech:
            prepared(waveform)
        converted: GraphModule = convert_pt2e(prepared)
    return converted


def counted(model: nn.Module, quantised: GraphModule) -> Compression:
    """Bytes in float32 of all weights of linear maps and convolutions, and what became of them.

    Those that are int8 are counted in the quantised graph.
    """
    weights = {
        path: 4 * module.weight.numel()
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    stored = [*quantised.parameters(), *quantised.buffers()]
    return Compression(
        total=sum(weights.values()),
        eligible=sum(size for path, size in weights.items() if not keeps_float(path)),
        compressed=sum(4 * value.numel() for value in stored if value.dtype == torch.int8),
    )


def _is_dynamic(node: Node) -> bool:
    """Linear maps, and the convolution at the start; quantisers ask about weights too."""
    if node.op != "call_function":
        return True
    path = _own_path(node)
    return bool(path) and (node.target is _LINEAR or path == _FIRST)


def _is_static(node: Node) -> bool:
    """All other convolutions."""
    if node.op != "call_function":
        return True
    path = _own_path(node)
    return bool(path) and node.target is _CONVOLUTION and path != _FIRST


def _own_path(node: Node) -> str:
    """The path of the torch module that a node is from; empty where it is not to be quantised.

    Means are linear maps too, but of our own modules.
    """
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    path, kind = list(stack.values())[-1] if stack else ("", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return str(path) if name.startswith("torch.nn.") and not keeps_float(path) else ""
