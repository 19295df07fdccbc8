"""MLX by the clock: the model of any length, and the untouched architecture beside it.

A pass ends when its logits are computed; what a function's first pass compiles is warm-up.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError, LpaWarning
from lpa_export.runtimes import Array

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle
    from lpa_export.targets.mlx.model import Model

__all__ = ["TimedModel", "fused", "fused_bf16", "original", "timed", "unfused", "unfused_bf16"]


class TimedModel:
    """A model of any length, from the waveform in memory to logits."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def run(self, waveform: Array) -> float:
        """Seconds of one pass over (samples,)."""
        import mlx.core as mx

        started = time.perf_counter()
        mx.eval(self._model(mx.array(waveform[None])))
        return time.perf_counter() - started

    def peak(self) -> int:
        """A GPU's own count where there is one, else the process's."""
        import mlx.core as mx

        from lpa_export.measures.machine import peak_memory

        return int(mx.get_peak_memory()) if mx.is_available(mx.gpu) else peak_memory()


def timed(bundle: Bundle, *, threads: int) -> TimedModel:
    """The model of a bundle; MLX takes the threads that its libraries take.

    Raises LpaError where it was to use a kernel that cannot be used: its time would be another's.
    """
    from lpa_export.targets.mlx.model import load

    with warnings.catch_warnings():
        warnings.simplefilter("error", LpaWarning)
        try:
            return TimedModel(load(bundle.path))
        except LpaWarning as warning:
            raise LpaError(str(warning)) from warning


def fused(checkpoint: Path, threads: int) -> TimedModel:
    """The architecture of a checkpoint folder with random weights, its attention MLX's own."""
    return _original(checkpoint, "fp32", fused=True)


def unfused(checkpoint: Path, threads: int) -> TimedModel:
    """The same, attention as two products and a softmax."""
    return _original(checkpoint, "fp32", fused=False)


def fused_bf16(checkpoint: Path, threads: int) -> TimedModel:
    """`fused` in bfloat16."""
    return _original(checkpoint, "bf16", fused=True)


def unfused_bf16(checkpoint: Path, threads: int) -> TimedModel:
    """`unfused` in bfloat16."""
    return _original(checkpoint, "bf16", fused=False)


def original(checkpoint: Path, scheme: str, *, fused: bool) -> Model:
    """The architecture of a checkpoint folder in MLX. Raises LpaError for none that is known."""
    import torch

    from lpa_export.formats.schemes import scheme_named
    from lpa_export.formats.source import CONFIG, architecture
    from lpa_export.hosts import host_named
    from lpa_export.targets.mlx.model import Model
    from lpa_export.targets.mlx.weights import kept
    from lpa_export.targets.plain import plain_model

    content = architecture(checkpoint)
    host = host_named(content.get("model_type"), checkpoint / CONFIG)
    torch.manual_seed(0)
    parts = host.parts(host.build(host.config(content)).eval(), do_normalize=True)
    plain = plain_model(parts)
    config = {"model": plain.structure, "compute": scheme, "sums": "blocks", "quantised": None}
    arrays = kept(plain.arrays, scheme_named(scheme), 64).arrays
    return Model(config, arrays, fused=fused)


def _original(checkpoint: Path, scheme: str, *, fused: bool) -> TimedModel:
    return TimedModel(original(checkpoint, scheme, fused=fused))
