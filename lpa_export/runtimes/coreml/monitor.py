"""Watches a run: the range of every value, what float16 loses of it, and the time it took."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.arithmetic import HALF_LIMIT
from lpa_export.runtimes.coreml.execution import Executed

__all__ = [
    "ACCUMULATING",
    "ACCUMULATOR_LIMIT",
    "Monitor",
    "OpRecord",
    "beyond",
    "slowest",
    "worst_ranges",
]

ACCUMULATOR_LIMIT = 32752.0
"""What a product sum may reach on the Neural Engine (rule num.range: measured by others)."""

ACCUMULATING = frozenset(
    "conv conv_transpose einsum linear matmul scaled_dot_product_attention".split()
)

_SMALLEST_NORMAL = 2.0**-14


@dataclass(frozen=True)
class OpRecord:
    """One output of an operation, over all runs that were watched.

    ``minimum`` and ``maximum`` are of the finite values as computed, before rounding (None when
    there is none). The rest are shares of all values, 0 to 1: ``nan`` and ``infinite`` of what
    the program keeps; ``saturated`` of values computed at or beyond 65504 and
    ``beyond_accumulator`` of those beyond 32752 (product sums only); ``underflow`` of values
    that are not zero but below the smallest normal float16, 6.1e-5 (float16 outputs only).
    """

    op_type: str
    name: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    minimum: float | None
    maximum: float | None
    nan: float
    infinite: float
    saturated: float
    beyond_accumulator: float
    underflow: float
    seconds: float
    runs: int

    @property
    def largest(self) -> float:
        """The largest finite magnitude."""
        return max(abs(self.minimum or 0.0), abs(self.maximum or 0.0))

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return {**asdict(self), "shape": list(self.shape)}


@dataclass
class _Tally:
    """The sums behind a record."""

    op_type: str
    name: str
    output: str
    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    elements: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    nan: int = 0
    infinite: int = 0
    saturated: int = 0
    beyond_accumulator: int = 0
    underflow: int = 0
    seconds: float = 0.0
    runs: int = 0

    def add(self, wide: Tensor, kept: Tensor, seconds: float) -> None:
        self.shape = tuple(kept.shape)
        self.elements += kept.numel()
        self.seconds += seconds
        self.runs += 1
        if not kept.numel():
            return
        finite = wide
        if kept.is_floating_point():
            self.nan += int(kept.isnan().sum())
            self.infinite += int(kept.isinf().sum())
            finite = wide if bool(wide.isfinite().all()) else wide[wide.isfinite()]
            self._count_losses(wide.abs())
        if finite.numel():
            low, high = torch.aminmax(finite)
            self.minimum = min(self.minimum, float(low))
            self.maximum = max(self.maximum, float(high))

    def _count_losses(self, magnitude: Tensor) -> None:
        self.saturated += int((magnitude >= HALF_LIMIT).sum())
        if self.op_type in ACCUMULATING:
            self.beyond_accumulator += int((magnitude > ACCUMULATOR_LIMIT).sum())
        if self.dtype is torch.float16:
            self.underflow += int(((magnitude > 0) & (magnitude < _SMALLEST_NORMAL)).sum())

    def record(self) -> OpRecord:
        count = max(self.elements, 1)
        return OpRecord(
            self.op_type,
            self.name,
            self.output,
            self.shape,
            str(self.dtype).removeprefix("torch."),
            self.elements,
            self.minimum if self.minimum <= self.maximum else None,
            self.maximum if self.minimum <= self.maximum else None,
            self.nan / count,
            self.infinite / count,
            self.saturated / count,
            self.beyond_accumulator / count,
            self.underflow / count,
            self.seconds,
            self.runs,
        )


class Monitor:
    """Collects a record per output; give the same one to several runs to watch many clips."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def observe(self, executed: Executed) -> None:
        """Take in one operation; its time counts for its first output."""
        step = executed.step
        parts = zip(step.outputs, step.types, executed.wide, executed.outputs, strict=True)
        for place, (variable, dtype, wide, kept) in enumerate(parts):
            if not isinstance(kept, Tensor):
                continue
            name = str(variable.name)
            tally = self._tallies.setdefault(name, _Tally(step.op_type, step.name, name, dtype))
            tally.add(wide, kept, 0.0 if place else executed.seconds)

    @property
    def records(self) -> tuple[OpRecord, ...]:
        """A record per output, in the order of the program."""
        return tuple(tally.record() for tally in self._tallies.values())

    def to_json(self) -> list[dict[str, Any]]:
        """All records as plain values."""
        return [record.to_json() for record in self.records]


def worst_ranges(records: Iterable[OpRecord], count: int = 10) -> list[OpRecord]:
    """The outputs with the largest finite magnitudes, those with NaN or infinities first."""
    return sorted(records, key=lambda r: (r.nan + r.infinite > 0, r.largest), reverse=True)[:count]


def slowest(records: Iterable[OpRecord], count: int = 10) -> list[OpRecord]:
    """The operations that took most time, all runs together."""
    return sorted(records, key=lambda record: record.seconds, reverse=True)[:count]


def beyond(records: Iterable[OpRecord], limit: float) -> list[OpRecord]:
    """The outputs with a magnitude above ``limit``, infinities included, in program order."""
    return [r for r in records if r.largest > limit or r.infinite > 0]
