"""Metal Performance Shaders: the GPU of Apple devices; deprecated by ExecuTorch for Core ML.

In float32, as `coreml` is.
"""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.apple.mps.partition import MPSPartitioner
    from executorch.exir.backend.compile_spec_schema import CompileSpec

    return [MPSPartitioner(compile_specs=[CompileSpec("use_fp16", bytes([False]))])]


BACKEND = Backend(
    "mps",
    _partitioners,
    dynamic=False,
    runs_here=False,
    needs=("executorch.backends.apple.mps.partition",),
    install="pip install executorch==1.4.1, or take backend coreml",
)
