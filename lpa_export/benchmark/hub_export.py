"""What a user has without this package: torch.onnx.export of the untouched Hugging Face model.

Only the architecture is that of the checkpoint: replaced layers have no attention weights left, so
all weights are random. Time and memory do not depend on them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.environment import quiet
from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.formats.source import architecture
from lpa_export.runtimes import Array

__all__ = ["TimedExport", "fused", "original_model", "plain"]

_EXAMPLE_SECONDS = 2
_RATE = 16_000
_OPSET = 20
_FEWEST = 1600
"""Samples: more than any family's receptive field."""


def original_model(checkpoint: Path, *, attention: str = "sdpa") -> Any:
    """The architecture of a checkpoint folder as transformers builds it, random weights.

    `attention`: "sdpa", what transformers takes by itself, or "eager".
    """
    import torch
    from transformers import AutoConfig, AutoModelForCTC

    torch.manual_seed(0)
    with quiet():
        config = AutoConfig.for_model(**architecture(checkpoint))
        config.dtype = torch.float32
        return AutoModelForCTC.from_config(config, attn_implementation=attention).float().eval()


def plain(checkpoint: Path, file: Path) -> None:
    """Export as PyTorch's page on ONNX does it: any length, batch of one, defaults elsewhere."""
    _export(original_model(checkpoint), file)


def fused(checkpoint: Path, file: Path) -> None:
    """The same, each attention as one node: ONNX Runtime's `com.microsoft.MultiHeadAttention`."""
    import torch

    model = original_model(checkpoint)
    functional: Any = torch.nn.functional
    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _one_node
    try:
        _export(model, file)
    finally:
        functional.scaled_dot_product_attention = before


def _export(model: Any, file: Path) -> None:
    import torch
    from torch.export import Dim

    example = torch.zeros(1, _EXAMPLE_SECONDS * _RATE)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=["input_values"],
            output_names=["logits"],
            dynamic_shapes=({1: Dim("samples", min=_FEWEST)},),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(file), external_data=True)


def _one_node(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """What stands for torch's scaled dot product attention, (B, H, T, d) each, while exporting.

    A mask of bools is left out: without padding, and there is none, every frame is valid. The
    runtime's fast form takes none.
    """
    import torch

    batch, heads, frames, size = query.shape
    bias = attn_mask if attn_mask is not None and attn_mask.is_floating_point() else None
    rows = [tensor.transpose(1, 2).flatten(2) for tensor in (query, key, value)]
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [*rows, *([] if bias is None else [None, None, bias])],
        {"num_heads": heads, "scale": float(size**-0.5 if scale is None else scale)},
        dtype=query.dtype,
        shape=(batch, frames, heads * size),
        version=1,
    )
    return mixed.unflatten(2, (heads, size)).transpose(1, 2)


class TimedExport:
    """Such a file in the session that a bundle gets: the same options, the same threads."""

    def __init__(self, file: Path, *, threads: int) -> None:
        from lpa_export.runtimes.onnx import open_session

        self._session = open_session(file, threads=threads)

    def run(self, waveform: Array) -> float:
        """The feature extractor's normalisation is part of it: the bundle does it too."""
        started = time.perf_counter()
        self.logits(waveform)
        return time.perf_counter() - started

    def logits(self, waveform: Array) -> Array:
        """(frames, vocabulary) of one waveform (samples,)."""
        centred = waveform - waveform.mean()
        normal = centred / np.sqrt(np.square(centred).mean() + NORMALISATION_EPSILON)
        inputs = {"input_values": normal[None].astype(np.float32)}
        found: Array = self._session.run(["logits"], inputs)[0][0]
        return found

    def peak(self) -> int:
        from lpa_export.measures.machine import peak_memory

        return peak_memory()
