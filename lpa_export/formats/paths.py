"""Names of files that stand in files: which of them a system takes, and where they lead."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

__all__ = ["is_file", "names_a_file_inside"]

_LONGEST_PART = 255
_LONGEST = 1024
"""Bytes that every system of ours takes: of a name, and of a path below a folder."""


def names_a_file_inside(name: str) -> bool:
    """Whether `name` is a path below a folder, on every system, that a file can have.

    Not so: absolute, upwards, with a drive or a zero byte, with half of a surrogate pair, too long.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or set(name) & set("\\:\0"):
        return False
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return False
    return max(sizes) <= _LONGEST_PART and sum(sizes) + len(sizes) <= _LONGEST


def is_file(path: Path) -> bool:
    """`Path.is_file`, which raises OSError for a name that is longer than any file's: False."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
