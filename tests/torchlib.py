"""Exports of many models in one process, faster."""

import functools

__all__ = ["one_torchlib"]


def one_torchlib() -> None:
    """Let torch's exporter to ONNX keep its table of operators.

    It reads the source of some 500 functions for each call, 0.36 s of CPU time, and an export of
    this package calls it five times. The table is not changed by an export.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    if not hasattr(ONNXRegistry.from_torchlib, "cache_info"):
        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
