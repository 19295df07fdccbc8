"""Core ML as a delegate of ExecuTorch: fixed lengths; written anywhere, runs on Apple devices.

In float32: the sums that normalise a waveform of a few seconds overflow float16. What is to run on
the Neural Engine is target coreml's, which keeps them apart.
"""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS18,
    )
    return [CoreMLPartitioner(compile_specs=specs)]


BACKEND = Backend(
    "coreml",
    _partitioners,
    dynamic=False,
    runs_here=False,
    emulated=True,
    needs=("coremltools", "executorch.backends.apple.coreml.partition"),
    install="pip install coremltools==9.0",
)
