"""`transcripts.json`: what a run's models said to each utterance of the dev set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.formats.speech import Utterance
from lpa_export.training.files import replace_file

__all__ = ["TRANSCRIPTS", "Transcript", "read_transcripts", "write_transcripts"]

TRANSCRIPTS = "transcripts.json"


@dataclass(frozen=True)
class Transcript:
    """One utterance and its greedy transcripts by the teacher, the soft and the hard model."""

    id: str
    speaker: str | None
    text: str
    teacher: str
    soft: str
    hard: str


def write_transcripts(
    folder: Path, utterances: Sequence[Utterance], said: Mapping[str, Sequence[str]]
) -> None:
    """Write them into the run's folder; `said` has texts by `teacher`, `soft` and `hard`."""
    rows = [
        asdict(Transcript(item.id, item.speaker, item.text, **{who: said[who][i] for who in said}))
        for i, item in enumerate(utterances)
    ]
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    replace_file(folder / TRANSCRIPTS, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_transcripts(folder: Path) -> tuple[Transcript, ...]:
    """Read what `write_transcripts` wrote; LpaError when it is not there or damaged."""
    path = folder / TRANSCRIPTS
    try:
        return tuple(Transcript(**row) for row in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise LpaError(
            f"{path}: not the transcripts of a run ({type(error).__name__}: {error}); delete its "
            "folder and run it again"
        ) from error
