"""Images (..., H, W), or boxes cut out of them, brought to another size."""

import numpy as np
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler
from lpa_export.runtimes.coreml.handlers.gather import wrapped

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
    """The element that holds the centre of each sample by default, else the one closest to it."""
    size = x.shape[axis]
    if mode == "DEFAULT":
        chosen = (2 * torch.arange(wanted) + 1) * size // (2 * wanted)
    else:
        chosen = (_grid(size, wanted, mode) + 0.5).floor().long().clamp(max=size - 1)
    return x.index_select(axis, chosen)


def _repeated(x: Tensor, axis: int, wanted: int) -> Tensor:
    """The element at or before the start of each sample: how an upsampling finds it."""
    size = x.shape[axis]
    return x.index_select(axis, torch.arange(wanted) * size // wanted)


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
    height, width = _scaled(call)
    return _repeated(_repeated(call.tensor("x"), -2, height), -1, width)


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


def _crop_resize(call: Call) -> Tensor:
    """Boxes cut out of x (B, C, H, W), each brought to the target size by linear interpolation.

    Up to iOS16 every box is cut out of every image, (N, B, C, H', W'), or out of the one that it
    names, (N, 1, C, H', W'); from iOS17 on box i comes from image ``box_indices[i]``,
    (N, C, H', W'). The grid follows SamplingMode of Core ML's model format; samples outside of
    the image take ``pad_value``.
    """
    x = call.tensor("x")
    if call.has("roi"):
        boxes = call.tensor("roi").reshape(call.tensor("roi").shape[0], -1).double()
        if boxes.shape[1] == 5:
            chosen = wrapped(boxes[:, 0].long(), x.shape[0])
            return _cut(call, x[chosen], boxes[:, 1:])[:, None]
        images = [_cut(call, image.expand(len(boxes), -1, -1, -1), boxes) for image in x]
        return torch.stack(images, 1)
    boxes = call.tensor("boxes").double()
    indices = call.optional("box_indices")
    chosen = torch.arange(len(boxes)) if indices is None else wrapped(indices, x.shape[0])
    return _cut(call, x[chosen], boxes)


def _cut(call: Call, x: Tensor, boxes: Tensor) -> Tensor:
    """Box i (4,) out of image i of x (N, C, H, W)."""
    mode, value = call.text("sampling_mode", "DEFAULT"), call.number("pad_value", 0.0)
    sizes = [call.integer("target_height", 1), call.integer("target_width", 1)]
    starts, ends = _corners(call, boxes, x.shape[-2:])
    for axis, wanted in zip((-2, -1), sizes, strict=True):
        grid = torch.stack(
            [
                _between(float(start), float(end), wanted, mode)
                for start, end in zip(starts[:, axis], ends[:, axis], strict=True)
            ]
        )
        outside = bool(((grid < 0) | (grid > x.shape[axis] - 1)).all(1).any())
        if mode == "UNALIGN_CORNERS" and outside:
            # Core ML then takes other pixels, by a rule that is not documented.
            raise ValueError("a box that lies outside of the image")
        x = _sampled_at(x, axis, grid, value)
    return x


def _corners(call: Call, boxes: Tensor, sizes: torch.Size) -> tuple[Tensor, Tensor]:
    """First and last pixel (N, 2) of every box, height before width."""
    kind = call.text("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")
    first, second = boxes.chunk(2, -1)
    if kind.endswith("WIDTH_FIRST"):
        first, second = first.flip(-1), second.flip(-1)
    if kind.startswith("CENTER_SIZE"):
        first, second = first - second / 2, first + second / 2
    scale = torch.tensor(call.number("spatial_scale", 1.0), dtype=torch.float64)
    if call.flag("normalized_coordinates", False):
        scale = scale * (torch.tensor(sizes) - 1)
    return first * scale, second * scale


def _between(start: float, end: float, wanted: int, mode: str) -> Tensor:
    """Where ``wanted`` samples lie from pixel ``start`` to pixel ``end``, both of the box.

    The end may come first: the box is then read backwards.
    """
    steps = torch.arange(wanted, dtype=torch.float64)
    length = end - start
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            return steps + (start + length / 2 if mode == "ALIGN_CORNERS" else start)
        return start + steps * length / (wanted - 1)
    if mode == "OFFSET_CORNERS":
        return start + (steps + 0.5) * max(1.0, length) / wanted
    spacing = (length + 1) / wanted
    if mode == "UNALIGN_CORNERS":
        return start + (steps + 0.5) * spacing - 0.5
    return (start + steps * spacing).clamp(max=end)


def _sampled_at(x: Tensor, axis: int, grid: Tensor, outside: float) -> Tensor:
    """Image i of x along an axis at the places grid[i], ``outside`` where there is no image."""
    last = x.shape[axis] - 1
    low = grid.floor().clamp(0, last).long()
    weight = (grid - low).to(x.dtype)
    shape = [len(grid), 1, 1, 1]
    shape[axis] = -1
    whole = [*x.shape]
    whole[axis] = grid.shape[1]
    below, above = (
        x.gather(axis, place.reshape(shape).expand(whole))
        for place in (low, (low + 1).clamp(max=last))
    )
    found = below + (above - below) * weight.reshape(shape)
    inside = ((grid >= 0) & (grid <= last)).reshape(shape)
    return torch.where(inside, found, torch.tensor(outside, dtype=x.dtype))


TABLE: dict[str, Handler] = {
    "crop_resize": _crop_resize,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
