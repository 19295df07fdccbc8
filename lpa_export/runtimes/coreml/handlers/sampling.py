"""Images (B, C, H, W) read at computed coordinates."""

from collections.abc import Callable

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _resample(call: Call) -> Tensor:
    """(B, C, H', W') of ``coordinates`` (B, H', W', 2), which are pairs (x, y)."""
    return _sampled(call, call.tensor("coordinates").double())


def _affine(call: Call) -> Tensor:
    """The coordinates are an affine function of those of the output, both from -1 to 1."""
    x, matrix = call.tensor("x"), call.tensor("transform_matrix").double()
    height, width = call.integer("output_height"), call.integer("output_width")
    corners = call.flag("align_corners")
    rows, columns = torch.meshgrid(
        _from_minus_one_to_one(height, corners),
        _from_minus_one_to_one(width, corners),
        indexing="ij",
    )
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1)
    coordinates = places @ matrix.reshape(-1, 1, 2, 3).transpose(-1, -2)
    return _sampled(call, coordinates.expand(x.shape[0], -1, -1, -1))


def _from_minus_one_to_one(size: int, corners: bool) -> Tensor:
    if corners:
        return torch.linspace(-1, 1, size, dtype=torch.float64)
    return (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1


def _sampled(call: Call, coordinates: Tensor) -> Tensor:
    x = call.tensor("x")
    mode, corners = call.text("coordinates_mode"), call.flag("align_corners")
    across = _pixels(coordinates[..., 0], x.shape[-1], mode, corners)
    down = _pixels(coordinates[..., 1], x.shape[-2], mode, corners)
    padding, value = call.text("padding_mode").lower(), call.number("padding_value")
    if call.text("sampling_mode").lower() == "nearest":
        # Mirrored first, then to the closest pixel, halves to the even one: as torch does it.
        fold = _FOLDS.get(padding, _unfolded)
        down, across = fold(down, x.shape[-2]), fold(across, x.shape[-1])
        return _read(x, down.round(), across.round(), padding, value)
    top, left = down.floor(), across.floor()
    below, right = (down - top).float()[:, None], (across - left).float()[:, None]
    upper = _read(x, top, left, padding, value) * (1 - right)
    upper = upper + _read(x, top, left + 1, padding, value) * right
    lower = _read(x, top + 1, left, padding, value) * (1 - right)
    lower = lower + _read(x, top + 1, left + 1, padding, value) * right
    return upper * (1 - below) + lower * below


def _pixels(coordinates: Tensor, size: int, mode: str, corners: bool) -> Tensor:
    """Coordinates counted in pixels, 0 at the centre of the first one."""
    mode = mode.lower()
    if mode == "unnormalized":
        return coordinates
    part = coordinates if mode == "normalized_zero_to_one" else (coordinates + 1) / 2
    return part * (size - 1) if corners else part * size - 0.5


def _read(x: Tensor, rows: Tensor, columns: Tensor, padding: str, value: float) -> Tensor:
    """Pixels at whole-number positions (B, H', W'), inside the image or not."""
    place = _PLACES[padding]
    height, width = x.shape[-2:]
    flat = place(rows.long(), height) * width + place(columns.long(), width)
    index = flat.reshape(x.shape[0], 1, -1).expand(-1, x.shape[1], -1)
    pixels = x.flatten(2).gather(2, index).reshape(*x.shape[:2], *rows.shape[1:])
    if padding != "constant":
        return pixels
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside[:, None], pixels, torch.tensor(value))


def _unfolded(places: Tensor, size: int) -> Tensor:
    return places


def _fold_at_centres(places: Tensor, size: int) -> Tensor:
    """Mirrored at the centres of the first and the last pixel."""
    turn = places.remainder(max(2 * (size - 1), 1))
    return torch.minimum(turn, 2 * (size - 1) - turn).clamp(min=0)


def _fold_at_edges(places: Tensor, size: int) -> Tensor:
    """Mirrored at the outer edges of the first and the last pixel."""
    turn = (places + 0.5).remainder(2 * size)
    return torch.minimum(turn, 2 * size - turn) - 0.5


_FOLDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "reflection": _fold_at_centres,
    "symmetric": _fold_at_edges,
}


def _clamped(positions: Tensor, size: int) -> Tensor:
    return positions.clamp(0, size - 1)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Mirrored at the edge pixel, which is not repeated."""
    turn = positions.remainder(max(2 * (size - 1), 1))
    return torch.minimum(turn, 2 * (size - 1) - turn).clamp(min=0)


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Mirrored behind the edge pixel, which is repeated."""
    turn = positions.remainder(2 * size)
    return torch.minimum(turn, 2 * size - 1 - turn)


_PLACES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "border": _clamped,
    "constant": _clamped,
    "reflection": _reflected,
    "symmetric": _mirrored,
}

TABLE: dict[str, Handler] = {"affine": _affine, "resample": _resample}
