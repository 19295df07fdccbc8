"""Types of arguments that several commands have; argparse turns what they raise into its line."""

from __future__ import annotations

import argparse

__all__ = ["count", "names"]


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names apart by commas."""
    found = tuple(text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names as a,b; found {text!r}")
    return found
