"""`sweep.json`: what the sweep found, as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.training.files import replace_file
from lpa_export.training.sweep import LayerFit

__all__ = ["SWEEP", "Ranking", "read_ranking", "write_ranking"]

SWEEP = "sweep.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Ranking:
    """The layers, easiest first, and what their figures belong to.

    `speech` says, for `fitted` and `held_out`, how many utterances there were and their hash;
    `settings` is the recipe's `sweep` section, `pulses` the shape of the LPA.
    """

    recipe: str
    teacher_sha256: str
    pulses: Mapping[str, Any]
    initialise: str
    settings: Mapping[str, Any]
    speech: Mapping[str, Mapping[str, Any]]
    fits: tuple[LayerFit, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Layers, easiest first."""
        return tuple(fit.layer for fit in self.fits)


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write `ranking` as JSON; a kill leaves the old file or the new one."""
    content = {"format_version": FORMAT_VERSION, **asdict(ranking), "order": ranking.order}
    text = json.dumps(content, indent=1) + "\n"
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_ranking(path: Path) -> Ranking:
    """Read what `write_ranking` wrote; LpaError when the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format_version") != FORMAT_VERSION:
            raise ValueError("another format version")
        del content["order"]
        ranking = Ranking(**content | {"fits": _fits(content["fits"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LpaError(
            f"{path}: not the file of a sweep ({type(error).__name__}: {error}); delete its folder "
            "and run lpa-train sweep again"
        ) from error
    return ranking


def _fits(entries: Sequence[Mapping[str, Any]]) -> tuple[LayerFit, ...]:
    return tuple(
        LayerFit(int(entry["layer"]), float(entry["soft"]), float(entry["hard"]))
        for entry in entries
    )
