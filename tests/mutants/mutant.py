"""A planted mistake."""

from dataclasses import dataclass

__all__ = ["Mutant"]


@dataclass(frozen=True)
class Mutant:
    """In `file`, the one place that says `right` says `wrong` instead; `tests` should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str
