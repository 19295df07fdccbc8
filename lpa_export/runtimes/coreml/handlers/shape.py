"""The same elements in another shape or order: reshapes, joins, splits, repeats."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _reshape(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.reshape(_target(list(x.shape), call.integers("shape")))


def _target(shape: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """``wanted`` with its zeros and its -1 replaced.

    A 0 takes the size of the axis with the same distance to the last one, 1 where there is none
    (iOS17; before, both ranks had to agree, which comes to the same). A -1 takes what is left.
    """
    offset = len(shape) - len(wanted)
    sizes = [
        size if size != 0 else shape[i + offset] if i + offset >= 0 else 1
        for i, size in enumerate(wanted)
    ]
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(shape) // rest if rest else 0
    return sizes


def _reshape_like(call: Call) -> Tensor:
    """The shape is put together from slices of the shapes of other tensors."""
    sizes: list[int] = []
    for reference, begin, end, open_end in zip(
        call.tensors("ref_tensors"),
        call.inputs["begins"],
        call.inputs["ends"],
        call.inputs["end_masks"],
        strict=True,
    ):
        sizes += reference.shape[int(begin) : None if bool(open_end) else int(end)]
    return call.tensor("x").reshape(sizes)


def _expand_dims(call: Call) -> Tensor:
    x, axes = call.tensor("x"), call.integers("axes")
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(call: Call) -> Tensor:
    """An axis that is longer than one stays, even where it is named."""
    x = call.tensor("x")
    return x.squeeze(tuple(call.integers("axes"))) if call.has("axes") else x.squeeze()


def _transpose(call: Call) -> Tensor:
    return call.tensor("x").permute(call.integers("perm"))


def _flatten2d(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _stack(call: Call) -> Tensor:
    return torch.stack(call.tensors("values"), call.integer("axis"))


def _concat(call: Call) -> Tensor:
    """One after the other, or taking turns element by element (``interleave``)."""
    values = [value.reshape(1) if value.dim() == 0 else value for value in call.tensors("values")]
    axis = call.integer("axis") % values[0].dim()
    if not call.flag("interleave", False):
        return torch.cat(values, axis)
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _split(call: Call) -> Tensor | tuple[Tensor, ...]:
    x, axis = call.tensor("x"), call.integer("axis")
    if call.has("split_sizes"):
        parts = x.split(call.integers("split_sizes"), axis)
    else:
        parts = x.chunk(call.integer("num_splits"), axis)
    return parts if len(parts) > 1 else parts[0]


def _tile(call: Call) -> Tensor:
    return call.tensor("x").repeat(call.integers("reps"))


def _sliding_windows(call: Call) -> Tensor:
    """Windows along one axis: the number of windows in its place, their size right after."""
    x = call.tensor("x")
    axis = call.integer("axis") % x.dim()
    windows = x.unfold(axis, call.integer("size"), call.integer("stride", 1))
    return windows.movedim(-1, axis + 1)


def _reverse(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.flip(call.integers("axes", list(range(x.dim()))))


def _reverse_sequence(call: Call) -> Tensor:
    """The first ``lengths[i]`` elements of sequence i backwards, the rest as they were."""
    x = call.tensor("x")
    sequence, batch = call.integer("seq_axis", 0) % x.dim(), call.integer("batch_axis", 0) % x.dim()
    steps = torch.arange(x.shape[sequence])
    steps = steps.reshape([-1 if i == sequence else 1 for i in range(x.dim())])
    lengths = call.tensor("lengths").long()
    lengths = lengths.reshape([-1 if i == batch else 1 for i in range(x.dim())])
    sources = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(sequence, sources.expand(x.shape))


TABLE: dict[str, Handler] = {
    "concat": _concat,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "sliding_windows": _sliding_windows,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
