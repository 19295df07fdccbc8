"""What a language model is used with, and the flags that say so."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export.cli import count
from lpa_export.errors import LpaError

__all__ = ["Settings", "add_flags", "given_flags"]


@dataclass(frozen=True)
class Settings:
    """An ARPA file and how much it counts.

    `lm_weight` multiplies its log probabilities, `word_score` is added for each word, both in
    natural logarithms; `beam` texts are followed from frame to frame. Weight and score by default
    are those of pyctcdecode, tuned on no data of ours. Raises LpaError for numbers out of bounds.
    """

    path: Path
    lm_weight: float = 0.5
    word_score: float = 1.5
    beam: int = 32

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lm_weight) and self.lm_weight >= 0):
            raise LpaError(f"--lm-weight must be a number from 0 on, found {self.lm_weight}")
        if not math.isfinite(self.word_score):
            raise LpaError(f"--word-score must be a number, found {self.word_score}")
        if self.beam < 1:
            raise LpaError(f"--beam must be a whole number above 0, found {self.beam}")

    @classmethod
    def of(cls, lm: str | Path | None, **changes: Any) -> Settings | None:
        """The defaults but for what is not None; None where there is no model.

        Raises LpaError for settings of a model that is not given.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if lm is not None:
            return cls(Path(lm), **given)
        if given:
            raise LpaError(f"{_flag(next(iter(given)))} goes with --lm, the file it is for")
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values, of the path the file's name."""
        return {**asdict(self), "path": self.path.name}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """``--lm`` and what goes with it, for every command that makes texts of logits."""
    parser.add_argument(
        "--lm",
        type=Path,
        metavar="FILE",
        help="a language model of words, ARPA, .gz too: texts by beam search with it",
    )
    parser.add_argument(
        "--lm-weight",
        type=float,
        metavar="X",
        help=f"what its log probabilities are multiplied with (default: {Settings.lm_weight:g})",
    )
    parser.add_argument(
        "--word-score",
        type=float,
        metavar="X",
        help=f"what is added for each word, in nats (default: {Settings.word_score:g})",
    )
    parser.add_argument(
        "--beam",
        type=count,
        metavar="N",
        help=f"how many texts are followed from frame to frame (default: {Settings.beam})",
    )


def given_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was said by the flags, as keyword arguments of the functions behind commands."""
    return {name: getattr(arguments, name) for name in ("lm", "lm_weight", "word_score", "beam")}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
