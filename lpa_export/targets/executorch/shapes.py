"""Images (1, D, 1, T) and matrices (T, D), one made of the other as XNNPACK likes it."""

from __future__ import annotations

from torch import Tensor

__all__ = ["to_image", "to_matrix"]


def to_image(hidden: Tensor) -> Tensor:
    """(T, D) -> (1, D, 1, T). Axes are added behind: XNNPACK adds them nowhere else."""
    return hidden[..., None, None].permute(2, 1, 3, 0)


def to_matrix(image: Tensor) -> Tensor:
    """(1, D, 1, T) -> (T, D)."""
    return image.permute(0, 2, 3, 1).view(-1, image.shape[1])
