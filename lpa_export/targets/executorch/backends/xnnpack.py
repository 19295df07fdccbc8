"""XNNPACK: optimised kernels for the CPU of phones and computers, any length."""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


BACKEND = Backend("xnnpack", _partitioners, dynamic=True, runs_here=True)
