"""Images (..., H, W) brought to another size: nearest neighbour and linear interpolation."""

import numpy as np
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _grid(size: int, wanted: int, mode: str) -> Tensor:
    """Where the ``wanted`` samples lie on an axis of ``size`` elements (float64)."""
    steps = torch.arange(wanted, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            return steps + ((size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0)
        places = steps * (size - 1) / (wanted - 1)
    elif mode == "OFFSET_CORNERS":
        places = (steps + 0.5) * max(1, size - 1) / wanted
    elif mode == "UNALIGN_CORNERS":
        places = (steps + 0.5) * size / wanted - 0.5
    else:
        places = steps * size / wanted
    return places.clamp(0, size - 1)


def _linear(x: Tensor, axis: int, wanted: int, mode: str) -> Tensor:
    places = _grid(x.shape[axis], wanted, mode)
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (places - low).to(x.dtype).reshape([-1] + [1] * (-1 - axis))
    below, above = x.index_select(axis, low), x.index_select(axis, high)
    return below + (above - below) * weight


def _nearest(x: Tensor, axis: int, wanted: int, mode: str) -> Tensor:
    """The element at or before the place by default, the closest one in the other modes."""
    places = _grid(x.shape[axis], wanted, mode)
    # A place that is a whole number must not fall below it for want of precision.
    offset = 1e-9 if mode == "DEFAULT" else 0.5
    chosen = (places + offset).floor().long().clamp(max=x.shape[axis] - 1)
    return x.index_select(axis, chosen)


_METHODS = {"LINEAR": _linear, "NEAREST_NEIGHBOR": _nearest}


def _resized(x: Tensor, sizes: list[int], method: str, mode: str) -> Tensor:
    for axis, wanted in enumerate(sizes, -len(sizes)):
        x = _METHODS[method](x, axis, wanted, mode)
    return x


def _target(call: Call) -> list[int]:
    return [call.integer("target_size_height", 1), call.integer("target_size_width", 1)]


def _scaled(call: Call) -> list[int]:
    """The product is float32, as the factors are: 0.7 times 10 has to be 7."""
    factors = call.number("scale_factor_height", 1.0), call.number("scale_factor_width", 1.0)
    sizes = call.tensor("x").shape[-2:]
    return [
        int(np.floor(np.float32(factor) * np.float32(size)))
        for factor, size in zip(factors, sizes, strict=True)
    ]


def _upsample_nearest_neighbor(call: Call) -> Tensor:
    return _resized(call.tensor("x"), _scaled(call), "NEAREST_NEIGHBOR", "DEFAULT")


def _resize_nearest_neighbor(call: Call) -> Tensor:
    return _resized(call.tensor("x"), _target(call), "NEAREST_NEIGHBOR", "DEFAULT")


def _upsample_bilinear(call: Call) -> Tensor:
    """The spacing comes from the sizes, not from the scale factors."""
    aligned = call.flag("align_corners", True)
    mode = "STRICT_ALIGN_CORNERS"
    if not aligned:
        mode = "UNALIGN_CORNERS" if call.flag("half_pixel_centers", True) else "DEFAULT"
    return _resized(call.tensor("x"), _scaled(call), "LINEAR", mode)


def _resize_bilinear(call: Call) -> Tensor:
    return _resized(
        call.tensor("x"), _target(call), "LINEAR", call.text("sampling_mode", "DEFAULT")
    )


def _resize(call: Call) -> Tensor:
    """The last ``resized_dims`` axes take the last sizes of ``shape``; a size of 0 keeps one."""
    x, count = call.tensor("x"), call.integer("resized_dims")
    wanted = call.integers("shape")[-count:] if count else []
    kept = x.shape[x.dim() - count :]
    sizes = [size or old for size, old in zip(wanted, kept, strict=True)]
    method, mode = call.text("interpolation_mode", "LINEAR"), call.text("sampling_mode", "DEFAULT")
    if x.is_floating_point():
        return _resized(x, sizes, method, mode)
    return _resized(x.double(), sizes, method, mode).trunc().to(x.dtype)


TABLE: dict[str, Handler] = {
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
