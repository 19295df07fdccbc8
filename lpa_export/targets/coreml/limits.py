"""Numbers that the Neural Engine and float16 set, where neither torch nor coremltools is needed."""

__all__ = ["BLOCK", "MAX_EXACT_FRAMES", "MAX_FRAMES"]

BLOCK = 64
"""Queries of a block of the local band; the frames of a bucket are a multiple of it."""

MAX_EXACT_FRAMES = 2048
"""Float16 holds every integer to here, and window edges reach the number of frames."""

MAX_FRAMES = 16_384
"""The longest axis that every generation of the engine takes."""
