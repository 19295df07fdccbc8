"""What a validation found: one schema for every target, apart from any way of printing it.

A check is judged by its figures alone: it passes when at least one figure has a gate and every
gate holds. *Skipped is never passed*: a check without a judged figure is ``not_run``, and one whose
data cannot tell is ``unjudged``.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import msgspec

from lpa_export.formats.manifest import Normaliser
from lpa_export.formats.schemes import Scheme
from lpa_export.runtimes import Label
from lpa_validate.schema import (
    CheckEntry,
    Comparison,
    DataEntry,
    FigureEntry,
    ReferenceEntry,
    ReportEntry,
    Status,
)

__all__ = [
    "Check",
    "Comparison",
    "Data",
    "Figure",
    "Reference",
    "Report",
    "Status",
    "gated",
    "judged",
    "labelled",
    "not_run",
    "unjudged",
]

Value = float | int | str | None

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
}


_EXIT_CODES: Mapping[Status, int] = {"pass": 0, "fail": 1, "unjudged": 1, "not_run": 2}


@dataclass(frozen=True)
class Figure:
    """One number with its unit and, where it is judged by one, its gate.

    ``flag`` marks a gate that warns and does not fail. A NaN never meets a gate.
    """

    name: str
    value: Value
    unit: str = ""
    gate: Value = None
    comparison: Comparison | None = None
    label: Label = "measured"
    flag: bool = False

    def __post_init__(self) -> None:
        if (self.gate is None) != (self.comparison is None):
            raise ValueError(f"{self.name}: a gate and its comparison come together")
        if self.comparison is not None and self.comparison not in get_args(Comparison):
            raise ValueError(f"{self.name}: unknown comparison {self.comparison!r}")

    @property
    def ok(self) -> bool | None:
        """Whether the gate holds; None for a figure without one."""
        if self.comparison is None:
            return None
        if self.value is None:
            return False
        return _COMPARE[self.comparison](self.value, self.gate)

    @property
    def failed(self) -> bool:
        """Whether this figure alone fails its check."""
        return self.ok is False and not self.flag

    @property
    def entry(self) -> FigureEntry:
        """As it stands in the file."""
        return FigureEntry(**vars(self), ok=self.ok)


@dataclass(frozen=True)
class Check:
    """One check: its verdict, the figures it rests on, why it failed or could not run.

    ``details`` holds tables for the reader (changed utterances, taps, ops): JSON values only.
    """

    name: str
    status: Status
    figures: tuple[Figure, ...] = ()
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def figure(self, name: str) -> Figure:
        """The figure of that name. Raises KeyError when there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    @property
    def entry(self) -> CheckEntry:
        """As it stands in the file."""
        return CheckEntry(
            name=self.name,
            status=self.status,
            reason=self.reason,
            figures=tuple(figure.entry for figure in self.figures),
            details=_plain(self.details),
            seconds=round(self.seconds, 3),
        )


def gated(
    name: str,
    value: Value,
    gate: float | int | None,
    comparison: Comparison,
    *,
    unit: str = "",
    flag: bool = False,
) -> Figure:
    """A figure whose gate may not exist for this scheme (None): then it is not judged."""
    return Figure(name, value, unit, gate, None if gate is None else comparison, flag=flag)


def labelled(label: Label, figures: Iterable[Figure]) -> list[Figure]:
    """The figures as they came about: a check says so of those that the artifact gave."""
    return [replace(figure, label=label) for figure in figures]


def judged(
    name: str,
    figures: Sequence[Figure],
    *,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> Check:
    """The check these figures amount to; ``reason`` explains a failure.

    Without one the failed figures themselves are the reason.
    """
    figures = tuple(figures)
    failed = [figure for figure in figures if figure.failed]
    if failed:
        status: Status = "fail"
        reason = reason or "; ".join(map(_shortfall, failed))
    elif any(figure.ok is not None for figure in figures):
        status = "pass"
    else:
        status, reason = "not_run", reason or "no figure of it has a gate"
    return Check(name, status, figures, reason, details or {})


def not_run(name: str, reason: str, figures: Sequence[Figure] = ()) -> Check:
    """A check that could not be judged, and why."""
    return Check(name, "not_run", tuple(figures), reason)


def unjudged(
    name: str, reason: str, figures: Sequence[Figure], details: Mapping[str, Any]
) -> Check:
    """A check that ran on data which cannot tell whether its gate holds, and why."""
    return Check(name, "unjudged", tuple(figures), reason, details)


def _shortfall(figure: Figure) -> str:
    value = f"{figure.value:.6g}" if isinstance(figure.value, float) else figure.value
    return f"{figure.name} is {value}, must be {figure.comparison} {figure.gate}"


@dataclass(frozen=True)
class Data:
    """The speech a report speaks of; ``seconds`` of audio. Other data, other report.

    ``words``: None where nothing is transcribed.
    ``missing_seconds``: of each recording that was cut off, by its id.
    """

    name: str
    sha256: str
    utterances: int
    words: int | None
    seconds: float | None
    missing_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def entry(self) -> DataEntry:
        """As it stands in the file."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        missing = {name: round(value, 3) for name, value in self.missing_seconds.items()}
        return DataEntry(**{**vars(self), "seconds": seconds, "missing_seconds": missing})


@dataclass(frozen=True)
class Reference:
    """What the artifact was compared with: ``kind`` is torch, or golden for its kept tensors."""

    kind: str
    name: str
    sha256: str

    @property
    def entry(self) -> ReferenceEntry:
        """As it stands in the file."""
        return ReferenceEntry(**vars(self))


@dataclass(frozen=True)
class Report:
    """Everything one run of ``lpa-validate`` found.

    ``asked`` are the checks the user named; empty when he took the default set. ``artifacts``
    maps each artifact's name to its SHA-256, so that a report cannot pass for another's;
    ``artifact_bytes`` is their size together. ``allow_unjudged``: the user knows that the data
    cannot judge every gate.
    """

    target: str
    model: str
    scheme: Scheme
    artifacts: Mapping[str, str]
    artifact_bytes: int
    data: Data | None
    reference: Reference | None
    normaliser: Normaliser | None
    environment: Mapping[str, str]
    checks: tuple[Check, ...]
    asked: tuple[str, ...] = ()
    seconds: float = 0.0
    allow_unjudged: bool = False

    def check(self, name: str) -> Check:
        """The check of that name. Raises KeyError when it is not in the report."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    @property
    def verdict(self) -> Status:
        """A failed check fails; else what could not be judged, or not be run, is said.

        ``not_run``: a check that was asked for, or every one, did not run.
        """
        statuses = [check.status for check in self.checks]
        if "fail" in statuses:
            return "fail"
        if "unjudged" in statuses and not self.allow_unjudged:
            return "unjudged"
        if "pass" not in statuses or (self.asked and "not_run" in statuses):
            return "not_run"
        return "pass"

    @property
    def exit_code(self) -> int:
        """0 for a pass, 1 for a gate that does not hold or cannot be judged, 2 for not run."""
        return _EXIT_CODES[self.verdict]

    @property
    def entry(self) -> ReportEntry:
        """As it stands in the file."""
        return ReportEntry(
            target=self.target,
            model=self.model,
            scheme=self.scheme,
            verdict=self.verdict,
            artifacts=dict(self.artifacts),
            artifact_bytes=self.artifact_bytes,
            data=None if self.data is None else self.data.entry,
            reference=None if self.reference is None else self.reference.entry,
            normaliser=self.normaliser,
            environment=dict(self.environment),
            asked=self.asked,
            checks=tuple(check.entry for check in self.checks),
            seconds=round(self.seconds, 3),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as strict JSON values; infinities and NaN become strings."""
        plain: dict[str, Any] = _plain(msgspec.to_builtins(self.entry))
        return plain


def _plain(value: Any) -> Any:
    """``value`` with mappings and sequences as dicts and lists, non-finite numbers as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
