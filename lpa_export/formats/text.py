"""Text and CTC: characters to ids and back, greedy decoding, the times of words.

CTC (Graves et al., 2006): a frame speaks one token or the blank; repeats are merged, then blanks
dropped. Everything here is greedy, without a language model.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpa_export.errors import LpaError

__all__ = [
    "NORMALISER",
    "Vocabulary",
    "Word",
    "greedy_ids",
    "greedy_text",
    "normalise_text",
    "word_times",
]

NORMALISER = "lpa-basic/1"
"""Name and version of :func:`normalise_text`; WERs of different normalisers are not compared."""

# Typists, phones and e-books write the apostrophe of "don't" in all of these ways.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`\uff07", "'"))

# What Hugging Face puts beside the letters: they are never text, whatever their id.
_SPECIAL_TOKENS = frozenset({"<pad>", "<s>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]"})
_BLANK_TOKENS = ("<pad>", "[PAD]", "<blank>", "<blk>")


def normalise_text(text: str) -> str:
    """Upper case, one apostrophe, single spaces, no spaces at the ends (``NORMALISER``)."""
    return " ".join(text.translate(_APOSTROPHES).upper().split())


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a CTC head: ``tokens[i]`` is what output ``i`` means.

    ``blank`` is the id of the CTC blank, ``word_delimiter`` the token that stands for a space.
    Raises LpaError when tokens repeat, or blank or delimiter are not among them.
    """

    tokens: tuple[str, ...]
    blank: int = 0
    word_delimiter: str = "|"

    def __post_init__(self) -> None:
        repeated = sorted({token for token in self.tokens if self.tokens.count(token) > 1})
        if repeated:
            raise LpaError(f"vocabulary: every token must be there once; twice: {repeated[:5]}")
        if not 0 <= self.blank < len(self.tokens):
            raise LpaError(
                f"vocabulary: blank id must lie in 0..{len(self.tokens) - 1}, found {self.blank}"
            )
        if self.word_delimiter not in self.tokens:
            raise LpaError(f"vocabulary: no word delimiter {self.word_delimiter!r} in the tokens")

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_json(cls, path: Path | str) -> "Vocabulary":
        """Read a Hugging Face ``vocab.json``, an object of token: id; the pad token is the blank.

        Raises LpaError when it is missing, no such object, or its ids are not 0..n-1.
        """
        path = Path(path)
        try:
            ids = json.loads(_read_text(path))
        except ValueError as error:
            raise LpaError(
                f"{path}: expected a JSON vocabulary, found other text ({error})"
            ) from error
        if not isinstance(ids, dict) or not all(type(value) is int for value in ids.values()):
            raise LpaError(f"{path}: expected one JSON object of token: id (a whole number)")
        if sorted(ids.values()) != list(range(len(ids))):
            raise LpaError(f"{path}: ids must be 0 to {len(ids) - 1}, each once")
        return cls._of(tuple(sorted(ids, key=ids.__getitem__)), path)

    @classmethod
    def from_lines(cls, path: Path | str) -> "Vocabulary":
        """Read ``tokens.txt``: one token a line, the id is the line number from 0.

        Raises LpaError when it is missing or a line is empty.
        """
        path = Path(path)
        # Not splitlines(): a token may be any character, line separators of Unicode included.
        lines = _read_text(path).removesuffix("\n").split("\n")
        tokens = tuple(line.removesuffix("\r") for line in lines)
        if "" in tokens:
            raise LpaError(f"{path}:{tokens.index('') + 1}: expected a token, found an empty line")
        return cls._of(tokens, path)

    @classmethod
    def _of(cls, tokens: tuple[str, ...], path: Path) -> "Vocabulary":
        blank = next((tokens.index(name) for name in _BLANK_TOKENS if name in tokens), 0)
        try:
            return cls(tokens, blank=blank)
        except LpaError as error:
            raise LpaError(f"{path}: {error}") from error

    def write_json(self, path: Path | str) -> None:
        """Write as a Hugging Face ``vocab.json``."""
        ids = {token: index for index, token in enumerate(self.tokens)}
        Path(path).write_text(json.dumps(ids, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def write_lines(self, path: Path | str) -> None:
        """Write as ``tokens.txt``, one token a line."""
        Path(path).write_text("".join(f"{token}\n" for token in self.tokens), "utf-8", newline="\n")

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, normalised first and the word delimiter for each space.

        Raises LpaError naming the characters that the vocabulary lacks.
        """
        delimited = normalise_text(text).replace(" ", self.word_delimiter)
        unknown = sorted(set(delimited) - self._characters.keys())
        if unknown:
            raise LpaError(
                f"characters outside the vocabulary: {' '.join(map(repr, unknown))} in "
                f"{_shortened(text)!r}; spell them out or remove them"
            )
        return [self._characters[character] for character in delimited]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids that are already merged; blank and special tokens are skipped."""
        pieces = (self.tokens[index] for index in ids if index not in self._silent)
        return " ".join("".join(pieces).replace(self.word_delimiter, " ").split())

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that stand for no text: the blank and the special tokens."""
        special = (i for i, token in enumerate(self.tokens) if token in _SPECIAL_TOKENS)
        return frozenset({self.blank, *special})

    @cached_property
    def _characters(self) -> dict[str, int]:
        """Upper-case character to id (a lower-case vocabulary takes the same text)."""
        return {
            token.upper(): index
            for index, token in enumerate(self.tokens)
            if index not in self._silent and len(token) == 1
        }


@dataclass(frozen=True)
class Word:
    """A recognised word, with its first and last moment in seconds."""

    text: str
    start: float
    end: float


def greedy_ids(logits: npt.NDArray[np.floating]) -> list[int]:
    """The best token of each of (frames, vocabulary), repeats merged; blanks are kept."""
    best = np.asarray(logits).argmax(axis=-1)
    return [int(best[start]) for start, _ in _runs(best)]


def greedy_text(logits: npt.NDArray[np.floating], vocabulary: Vocabulary) -> str:
    """Greedy CTC transcript of logits (frames, vocabulary).

    Raises LpaError when the logits' width is not the vocabulary's.
    """
    _require_width(logits, vocabulary)
    return vocabulary.decode(greedy_ids(logits))


def word_times(
    logits: npt.NDArray[np.floating], vocabulary: Vocabulary, *, hop_seconds: float
) -> list[Word]:
    """The words of :func:`greedy_text` with their times; ``hop_seconds`` is one frame's length.

    A word starts at the first frame of its first character and ends behind the last frame of
    its last one. CTC peaks are narrow, so ends lie early by up to a few frames.
    Raises LpaError when the logits' width is not the vocabulary's.
    """
    _require_width(logits, vocabulary)
    best = np.asarray(logits).argmax(axis=-1)
    words: list[Word] = []
    letters: list[tuple[str, int, int]] = []
    for start, end in _runs(best):
        index = int(best[start])
        if index in vocabulary._silent:
            continue
        if vocabulary.tokens[index] == vocabulary.word_delimiter:
            words += _joined(letters, hop_seconds)
            letters = []
        else:
            letters.append((vocabulary.tokens[index], start, end))
    return words + _joined(letters, hop_seconds)


def _joined(letters: list[tuple[str, int, int]], hop_seconds: float) -> list[Word]:
    """The word of (text, start frame, end frame) letters, or nothing for no letters."""
    if not letters:
        return []
    text = "".join(letter for letter, _, _ in letters)
    return [Word(text, letters[0][1] * hop_seconds, letters[-1][2] * hop_seconds)]


def _runs(ids: npt.NDArray[np.integer]) -> list[tuple[int, int]]:
    """(start, end) of each run of equal values, ends exclusive; none for no values."""
    if not len(ids):
        return []
    changes = (np.flatnonzero(np.diff(ids)) + 1).tolist()
    return list(zip([0, *changes], [*changes, len(ids)], strict=True))


def _require_width(logits: npt.NDArray[np.floating], vocabulary: Vocabulary) -> None:
    if logits.ndim != 2 or logits.shape[1] != len(vocabulary):
        raise LpaError(
            f"expected logits of shape (frames, {len(vocabulary)}) for this vocabulary, "
            f"found {tuple(logits.shape)}; use the vocabulary the model was trained with"
        )


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise LpaError(f"{path}: expected a vocabulary file, found none") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LpaError(
            f"{path}: expected a vocabulary in UTF-8, cannot read it ({error})"
        ) from error


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
