"""Progress on stderr for whoever waits at a terminal, and for nobody else."""

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ["progress"]

T = TypeVar("T")


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """``items``, with a bar on stderr once two seconds have passed, if stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=description, delay=2.0, leave=False, file=sys.stderr)
