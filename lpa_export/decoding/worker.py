"""The process that holds a language model: requests on stdin, answers on stdout.

A damaged file can take KenLM's process down with it, and must not take ours.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lpa_export.decoding.beam import BeamSearch
from lpa_export.decoding.settings import Settings
from lpa_export.errors import LpaError
from lpa_export.formats.text import Vocabulary
from lpa_export.runtimes.frames import Answer, Arrays, pipes, serve

__all__ = ["main"]


class _Session:
    """At most one language model, for one vocabulary."""

    def __init__(self) -> None:
        self._search: BeamSearch | None = None

    def open(self, request: Mapping[str, Any]) -> Answer:
        """Read a model; how many of its words the vocabulary can spell, or why it is refused."""
        vocabulary = Vocabulary.from_json(request["vocabulary"], "vocabulary")
        given = {**request["settings"], "path": Path(request["path"])}
        try:
            self._search = BeamSearch(vocabulary, Settings(**given))
        except LpaError as error:
            return {"refused": str(error)}, []
        return {"known": self._search.scores.known, "spelled": self._search.scores.spelled}, []

    def path(self, arrays: Arrays) -> Answer:
        """The best path through logits."""
        if self._search is None:
            raise ValueError("no language model is open")
        return {}, [self._search.path(arrays[0])]

    def answer(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Do what the request's ``op`` names."""
        table: dict[str, Callable[[], Answer]] = {
            "open": lambda: self.open(request),
            "path": lambda: self.path(arrays),
        }
        return table[request["op"]]()


def main() -> None:
    """Serve requests until stdin ends. What the library prints goes to stderr."""
    serve(*pipes(), _Session().answer)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
