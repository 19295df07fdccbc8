"""``report.json`` as it stands in the file, and its JSON Schema beside this module.

``python -m lpa_validate.schema`` writes the schema; whoever reads or writes reports elsewhere (the
demo app does) tests against it.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from lpa_export.formats.manifest import Normaliser, json_schema
from lpa_export.formats.schemes import Scheme
from lpa_export.runtimes import Label

__all__ = [
    "SCHEMA_VERSION",
    "CheckEntry",
    "Comparison",
    "DataEntry",
    "FigureEntry",
    "ReferenceEntry",
    "ReportEntry",
    "Status",
    "schemas",
]

SCHEMA_VERSION: Final = 2

Comparison = Literal[">=", "<=", "=="]
Status = Literal["pass", "fail", "unjudged", "not_run"]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Numbers that JSON cannot say stand as text: "inf", "-inf", "nan"."""


class FigureEntry(_Entry, frozen=True):
    """One number; ``ok`` is null where it has no gate, ``flag`` a gate that warns and fails not."""

    name: str
    value: float | int | str | None
    unit: str
    gate: float | int | str | None
    comparison: Comparison | None
    label: Label
    flag: bool
    ok: bool | None


class CheckEntry(_Entry, frozen=True):
    """A check's verdict; ``details`` are tables for the reader, of any form."""

    name: str
    status: Status
    reason: str
    figures: tuple[FigureEntry, ...]
    details: dict[str, Any]
    seconds: float


class DataEntry(_Entry, frozen=True):
    """The speech; ``seconds`` of audio, null where they were not counted.

    ``words``: null where nothing is transcribed.
    ``missing_seconds``: of each recording that was cut off, by its id, what its header promises
    beyond what the file holds.
    """

    name: str
    sha256: str
    utterances: int
    words: int | None
    seconds: float | None
    missing_seconds: dict[str, float] = {}


class ReferenceEntry(_Entry, frozen=True):
    """What the artifact was compared with: ``kind`` is torch or golden."""

    kind: str
    name: str
    sha256: str


class ReportEntry(_Entry, frozen=True, kw_only=True):
    """The whole file. ``artifacts``: name to SHA-256; ``asked``: checks named by the user;
    ``normaliser``: null where nothing is transcribed.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    target: str
    model: str
    scheme: Scheme
    verdict: Status
    artifacts: dict[str, str]
    artifact_bytes: int
    data: DataEntry | None
    reference: ReferenceEntry | None
    normaliser: Normaliser | None
    environment: dict[str, str]
    asked: tuple[str, ...]
    checks: tuple[CheckEntry, ...]
    seconds: float


def schemas() -> dict[Path, str]:
    """The file beside this one, and what it must hold."""
    return {Path(__file__).parent / "report.schema.json": json_schema(ReportEntry)}


if __name__ == "__main__":
    for path, text in schemas().items():
        path.write_text(text, "utf-8", newline="\n")
