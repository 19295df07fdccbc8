"""MLX: the GPU of Apple computers; executorch ships its lowering for macOS only."""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.mlx.partitioner import MLXPartitioner

    return [MLXPartitioner()]


BACKEND = Backend(
    "mlx",
    _partitioners,
    dynamic=False,
    runs_here=False,
    needs=("executorch.backends.mlx.partitioner",),
    install="build executorch 1.4.1 from source with EXECUTORCH_BUILD_MLX=ON on a Mac",
)
