"""Work along a long axis in pieces, so that what lies in between is never there as a whole.

Written once for eager torch, where it is a loop, and for torch's exporter, which makes a Scan of
it. A Scan writes what each turn gives to its place in the result; a Loop would collect the turns
first and join them then, twice the memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "joined",
    "over_pieces",
    "over_starts",
    "places_of",
    "rows_in_pieces",
    "split",
    "taken",
]


def split(total: int, most: int) -> tuple[int, int]:
    """Pieces of one size that cover `total` places: how many, at least two, and their size.

    The size is at most `most` and the last piece ends less than a place a piece behind `total`.
    Two at least: for torch's exporter a loop of one turn is another program.
    """
    count = torch.sym_max((total + most - 1) // most, 2)
    return count, (total + count - 1) // count


def over_pieces(
    body: Callable[[Tensor], tuple[Tensor, ...]], count: int, size: int
) -> tuple[Tensor, ...]:
    """What `body` gives of each piece, stacked in a new first axis.

    body: the first place of a piece, an int64 tensor () on the CPU -> tensors whose shapes are the
    same for every piece; it may read any tensor around it.
    """
    return over_starts(body, torch.arange(count) * size)


def over_starts(body: Callable[[Tensor], tuple[Tensor, ...]], starts: Tensor) -> tuple[Tensor, ...]:
    """`over_pieces` of pieces that begin at `starts` (pieces,), int64."""
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def turn(carried: Tensor, start: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            return carried.clone(), body(start)

        # A scan has to carry something.
        _, stacked = scan(turn, torch.zeros(1), starts)
        return tuple(stacked)
    first = body(starts[0])
    made = tuple(part.new_empty((len(starts), *part.shape)) for part in first)
    for index, start in enumerate(starts):
        for whole, part in zip(made, body(start) if index else first, strict=True):
            whole[index] = part
    return made


def joined(pieces: Tensor, total: int) -> Tensor:
    """(pieces, B, size, C) -> (B, total, C), without the places behind the end."""
    return taken(pieces, places_of(total, pieces.shape[1], pieces.shape[2], pieces.device))


def places_of(total: int, batch: int, size: int, device: torch.device) -> Tensor:
    """Where `total` places of `batch` utterances are in stacked pieces of `size`: (B, total)."""
    place = torch.arange(total, device=device)
    piece = place // size
    first = torch.arange(batch, device=device)[:, None] * size
    # Before that piece there are others of all utterances.
    return piece * (size * (batch - 1)) + place + first


def taken(pieces: Tensor, places: Tensor) -> Tensor:
    """(pieces, B, size, C) -> (B, total, C): one look-up of rows, which copies each once."""
    return functional.embedding(places, pieces.flatten(0, 2))


def rows_in_pieces(
    body: Callable[[Tensor], Tensor], hidden: Tensor, most: int, *, around: tuple[int, int]
) -> Tensor:
    """What `body` makes of hidden (B, T, D), at most `most` frames at a time: (B, T, D').

    body: (B, before + n + behind, D), n frames with `around` = (before, behind) neighbours, zero
    outside of the T frames -> (B, n, D').
    """
    before, behind = around
    total = hidden.shape[1]
    count, size = split(total, most)
    place = torch.arange(size + before + behind, device=hidden.device) - before

    def piece(start: Tensor) -> tuple[Tensor]:
        at = start + place
        outside = (at < 0) | (at >= total)
        rows = hidden.index_select(1, at.clamp(0, total - 1))
        return (body(rows.masked_fill(outside[:, None], 0.0)),)

    (made,) = over_pieces(piece, count, size)
    return joined(made, total)
