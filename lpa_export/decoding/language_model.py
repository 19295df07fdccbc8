"""A language model as its owner sees it: logits in, the path of the best text out.

KenLM and the search run in a process of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lpa_export.decoding.settings import Settings
from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.text import Vocabulary, greedy_path
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.process import Worker

__all__ = ["LanguageModel", "open_decoder"]

WORKER = Path(__file__).with_name("worker.py")
"""What the process runs."""

Ids = npt.NDArray[np.int64]


class LanguageModel:
    """A model of words for the tokens of one vocabulary, which needs a token with a space.

    Warns where it can spell less than half of the model's words. Raises LpaError in one line where
    flashlight-text is not installed, and for a file that cannot be read, is damaged, or has no
    word that the vocabulary can spell. `identity` says which file it is, and its settings.
    """

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        if find_spec("flashlight") is None:
            raise LpaError(
                "--lm needs flashlight-text, which is not installed; run: "
                "pip install 'lpa-export[lm]'"
            )
        if not any(letter.isspace() for text in vocabulary.texts for letter in text):
            raise LpaError(
                "--lm needs a vocabulary whose words are apart: this one has no token for a space"
            )
        self.settings = settings
        self.identity = _identity(settings)
        try:
            self._worker = Worker(WORKER)
            header, _ = self._worker.ask(
                "open",
                path=str(settings.path),
                settings=settings.to_json(),
                vocabulary=vocabulary.to_json(),
            )
        except ArtifactError as error:
            raise LpaError(f"{settings.path}: damaged, {error}") from error
        if "refused" in header:
            raise LpaError(header["refused"])
        if 2 * header["spelled"] < header["known"]:
            warnings.warn(
                f"{settings.path}: only {header['spelled']} of its {header['known']} words can be "
                "spelled with the tokens of this model; the others are never heard",
                LpaWarning,
                stacklevel=2,
            )

    def path(self, logits: npt.NDArray[np.floating]) -> Ids:
        """The token of each frame, (frames,), on the path to the best text that the search kept.

        `logits` are (frames, vocabulary). Raises LpaError where the process breaks.
        """
        try:
            _, (found,) = self._worker.ask("path", [np.asarray(logits, np.float32)])
        except ArtifactError as error:
            raise LpaError(f"{self.settings.path}: the search for words broke: {error}") from error
        return found


def _identity(settings: Settings) -> dict[str, Any]:
    """The file's name and digest and what it is used with, as plain values."""
    try:
        with settings.path.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LpaError(
            f"{settings.path}: the language model cannot be read ({error.strerror})"
        ) from error
    return {**settings.to_json(), "sha256": digest}


def open_decoder(
    settings: Settings | None, vocabulary: Vocabulary
) -> Callable[[npt.NDArray[np.floating]], Ids]:
    """What finds paths through logits (frames, vocabulary): greedily, or with a language model.

    Raises LpaError as :class:`LanguageModel` does.
    """
    if settings is None:
        return lambda logits: greedy_path(logits, vocabulary)
    return LanguageModel(settings, vocabulary).path
