"""The stored list of test mixtures: a JSON line each, recordings by their ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.training.files import replace_file
from lpa_export.training.separation.mixtures import Draw

__all__ = ["read_draws", "write_draws"]

_NAMED = ("speech", "noise")


def write_draws(
    path: Path, draws: Sequence[Draw], speech: Sequence[str], noise: Sequence[str]
) -> None:
    """Write mixtures of the recordings with these ids."""
    ids = dict(zip(_NAMED, (speech, noise), strict=True))
    lines = []
    for draw in draws:
        row = asdict(draw)
        lines.append(json.dumps(row | {name: ids[name][row[name]] for name in _NAMED}) + "\n")
    replace_file(path, lambda beside: beside.write_text("".join(lines), encoding="utf-8"))


def read_draws(path: Path, speech: Sequence[str], noise: Sequence[str]) -> list[Draw]:
    """Read them again; LpaError, by file and line, for a recording that is not there."""
    places = {
        name: {identity: place for place, identity in enumerate(ids)}
        for name, ids in zip(_NAMED, (speech, noise), strict=True)
    }
    draws = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            draws.append(Draw(**row | {name: places[name][row[name]] for name in _NAMED}))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LpaError(
                f"{path}:{number}: no mixture of the recipe's test speech and noise "
                f"({type(error).__name__}: {error})"
            ) from error
    if not draws:
        raise LpaError(f"{path}: lists no mixture; delete it, and it is drawn again")
    return draws
