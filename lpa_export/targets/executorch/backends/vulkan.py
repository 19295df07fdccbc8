"""Vulkan: the GPU of Android phones; written anywhere, fixed lengths."""

from typing import Any

from lpa_export.targets.executorch.backends import Backend

__all__ = ["BACKEND"]


def _partitioners() -> list[Any]:
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

    return [VulkanPartitioner()]


BACKEND = Backend(
    "vulkan",
    _partitioners,
    dynamic=False,
    runs_here=False,
    needs=("executorch.backends.vulkan.partitioner.vulkan_partitioner",),
    install="pip install executorch==1.4.1",
)
