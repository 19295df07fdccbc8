"""A benchmark's result as it stands in JSON, and its schema beside this module.

``python -m lpa_export.benchmark.result`` writes the schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import as_json, as_type, json_schema, read_json

__all__ = [
    "RESULTS",
    "SCHEMA_VERSION",
    "Benchmark",
    "Machine",
    "Point",
    "Ratio",
    "SideResult",
    "read_results",
    "schemas",
    "write_result",
]

SCHEMA_VERSION: Final = 1

RESULTS = "bench.json"
"""Beside bundles: {name of a bundle's folder: its last benchmark}."""

_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=0)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times are in seconds, memory in bytes."""


class Machine(_Entry, frozen=True):
    """What ran it: `processor`, its `instructions` that products depend on, versions of tools."""

    system: str
    processor: str
    instructions: tuple[str, ...]
    tools: dict[str, str]


class Point(_Entry, frozen=True):
    """One side at one length of audio.

    `time`: median of all runs but each process's first; `spread`: between their quartiles, as a
    share of it; `times` has those runs, process by process. `first_peak` and `third_peak`: median
    over the processes of the most memory held, after one run and after three. `foreign_cores`: how
    many cores other processes kept busy meanwhile, at worst. `unusable` says why the time is not
    to be trusted, empty where it is.
    """

    seconds: _Positive
    time: _Positive
    spread: float
    times: tuple[tuple[_Positive, ...], ...]
    first_peak: _Count
    third_peak: _Count
    foreign_cores: float
    unusable: str = ""


class SideResult(_Entry, frozen=True):
    """A side's points by ascending length.

    `exponent`: the time grows with that power of the length, None for a single length.
    `artifacts`: of a bundle, name to SHA-256.
    """

    name: str
    kind: str
    model: str
    scheme: str
    artifacts: dict[str, str]
    exponent: float | None
    points: tuple[Point, ...]


class Ratio(_Entry, frozen=True):
    """How many times as long the other side takes, with the ends of a 95 % interval."""

    seconds: _Positive
    ratio: _Positive
    low: _Positive
    high: _Positive
    unusable: str = ""


class Benchmark(_Entry, frozen=True, kw_only=True):
    """The whole result; `theirs` and `ratios` where there are two sides."""

    schema_version: Literal[1] = SCHEMA_VERSION
    target: str
    device: str
    threads: int
    rounds: int
    machine: Machine
    ours: SideResult
    theirs: SideResult | None = None
    ratios: tuple[Ratio, ...] = ()


def read_results(place: Path) -> dict[str, Benchmark]:
    """The results beside bundles, by the name of a bundle's folder; none where there is no file.

    Raises LpaError for a file that is something else.
    """
    if not place.is_file():
        return {}
    return as_type(read_json(place, "benchmark"), dict[str, Benchmark], str(place))


def write_result(bundle: Path, result: Benchmark) -> None:
    """Keep a bundle's result beside its folder, in place of an older one.

    Raises OSError where nothing can be written there. What was no result of ours is replaced.
    """
    place = bundle.resolve().parent / RESULTS
    try:
        kept = read_results(place)
    except LpaError:
        kept = {}
    new = place.with_name(f".{RESULTS}.new")
    new.write_text(as_json(kept | {bundle.resolve().name: result}), "utf-8", newline="\n")
    new.replace(place)


def schemas() -> dict[Path, str]:
    """The file beside this one, and what it must hold."""
    return {Path(__file__).with_name("bench.schema.json"): json_schema(Benchmark)}


if __name__ == "__main__":
    for path, text in schemas().items():
        path.write_text(text, "utf-8", newline="\n")
