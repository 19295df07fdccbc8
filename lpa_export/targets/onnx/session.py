"""A quiet ONNX Runtime session on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    import onnx

__all__ = ["open_session", "run_clip"]

# Fatal only: what goes wrong arrives as an exception, not as a log.
_QUIET = 4


def open_session(
    model: onnx.ModelProto | bytes | Path, *, threads: int = 0, optimised: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open a model on the CPU; `threads` 0: as many as there are cores.

    With `optimised`, the graph after the runtime's hardware-independent rewrites ("basic": all of
    them to standard operators) is written there. Raises LpaError when the runtime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    if optimised is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
    source: Any = model
    if isinstance(model, Path):
        source = str(model)
    elif not isinstance(model, bytes):
        source = model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises its own types, RuntimeError among them
        raise LpaError(f"ONNX Runtime refuses the model ({error}); export it again") from error


def run_clip(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    waveform: np.ndarray,
    given: Mapping[str, np.ndarray] | None = None,
) -> Mapping[str, np.ndarray]:
    """The named outputs for one waveform (samples,), without their batch axis.

    `given`: further inputs that the session may have, without a batch axis too.
    """
    inputs = {
        "waveform": waveform[None].astype(np.float32, copy=False),
        "lengths": np.array([waveform.shape[0]], np.int64),
    } | {name: values[None] for name, values in (given or {}).items()}
    values = session.run(list(names), inputs)
    return {name: value[0] for name, value in zip(names, values, strict=True)}
