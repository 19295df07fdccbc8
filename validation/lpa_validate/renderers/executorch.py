"""The details of the ops check as lines of text."""

from collections.abc import Mapping
from typing import Any

__all__ = ["lines"]


def lines(details: Mapping[str, Any]) -> list[str]:
    """What lies outside the delegates, the delegates, memory, and what was not run.

    Nothing for the details of another check, and of an ops check that could not look.
    """
    if "timing" not in details:
        return []
    return [
        *_outside(details["outside"]),
        *_delegates(details["delegates"]),
        *_memory(details["memory"]),
        f"time per op: {details['timing']}",
    ]


def _outside(rows: Any) -> list[str]:
    if not rows:
        return ["outside the delegates: nothing"]
    return [
        "outside the delegates:",
        *(
            f"  {row['nodes']:>5} x {row['op']:<42}{_count(row['macs']):>8} MACs  {_places(row)}"
            for row in rows
        ),
    ]


def _places(row: Mapping[str, Any]) -> str:
    places = [place for place in row["sources"] if place]
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0]}{more}" if places else ""


def _delegates(delegates: Any) -> list[str]:
    return [
        f"delegate {index}: {delegate['backend']}, {delegate['bytes']} bytes, "
        f"{sum(delegate.get('nodes', {}).values()) or 'unknown'} nodes"
        for index, delegate in enumerate(delegates)
    ]


def _memory(memory: Mapping[str, int]) -> list[str]:
    return [
        f"memory: {_mebibytes(memory['planned_bytes'])} planned, constants "
        f"{_mebibytes(memory['constant_bytes'])} for kernels, "
        f"{_mebibytes(memory['named_data_bytes'] + memory['delegate_data_bytes'])} for delegates"
    ]


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
