"""Text and CTC: texts to token ids and back, greedy decoding, the times of words.

CTC (Graves et al., 2006): a frame speaks one token or the blank; repeats are merged, then blanks
dropped. A path is what each frame speaks: the best token of each is the greedy path, without a
language model; `lpa_export.decoding` finds paths with one. What a token says and how a text is
spelled is the checkpoint's own tokenizer's affair: `lpa_export.formats.tokenizer` reads it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lpa_export.errors import LpaError
from lpa_export.formats.normaliser import NORMALISER, TextRule, normalise_text

__all__ = [
    "NORMALISER",
    "TOKENIZER",
    "Spelling",
    "TextRule",
    "Vocabulary",
    "Word",
    "greedy_path",
    "greedy_text",
    "normalise_text",
    "path_text",
    "path_words",
    "word_times",
]

TOKENIZER = "tokenizer.json"
"""The file of a fast tokenizer."""

Spelling = Literal["characters", "words", "tokenizer"]
"""How a text becomes tokens: letter by letter, at its spaces, or by a `tokenizer.json`."""

# What Hugging Face puts beside the letters: no text is ever spelled with them, whatever their id.
SPECIAL_TOKENS = frozenset({"<pad>", "<s>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]"})


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a CTC head: ``tokens[i]`` is what output ``i`` means.

    ``blank`` is the id of the CTC blank, ``word_delimiter`` the token that stands for a space, if
    there is one. ``texts[i]`` is what token i adds to a transcript: itself unless it is given, a
    space for the delimiter, nothing for the blank. ``special``: ids that no text is spelled with.
    ``files``: the tokenizer's files by name, where they say more than all this.
    Raises LpaError when blank or delimiter are not among the tokens, or two tokens are spelled
    the same.
    """

    tokens: tuple[str, ...]
    blank: int = 0
    word_delimiter: str | None = "|"
    texts: tuple[str, ...] = ()
    special: frozenset[int] = frozenset()
    spelling: Spelling = "characters"
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.tokens):
            raise LpaError(
                f"vocabulary: blank id must lie in 0..{len(self.tokens) - 1}, found {self.blank}"
            )
        if self.word_delimiter is not None and self.word_delimiter not in self.tokens:
            raise LpaError(f"vocabulary: no word delimiter {self.word_delimiter!r} in the tokens")
        if not self.texts:
            object.__setattr__(self, "texts", tuple(map(self._own_text, range(len(self)))))
        if len(self.texts) != len(self.tokens):
            raise LpaError(f"vocabulary: {len(self.tokens)} tokens, but {len(self.texts)} texts")
        named = {i for i, token in enumerate(self.tokens) if token in SPECIAL_TOKENS}
        object.__setattr__(self, "special", self.special | named | {self.blank})
        self._require_distinct()

    def _own_text(self, index: int) -> str:
        token = self.tokens[index]
        if index == self.blank:
            return ""
        return " " if token == self.word_delimiter else token

    def _require_distinct(self) -> None:
        if self.spelling == "tokenizer":
            return
        for what in (self._key, self.texts.__getitem__):  # as a text is spelled, as it is said
            seen: dict[str, int] = {}
            for index in self._spelled:
                first = seen.setdefault(what(index), index)
                if first != index:
                    two = " and ".join(f"{i} ({self.tokens[i]!r})" for i in (first, index))
                    raise LpaError(
                        f"vocabulary: every token must be there once; {two} are the same"
                    )

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def rule(self) -> TextRule:
        """How a text is brought to this vocabulary's letters, for labels and for WER alike."""
        if self.spelling == "tokenizer":  # its tokens are often no text: byte pairs, ▁
            return TextRule.of(self.texts[index].strip() for index in self._spelled)
        rule = TextRule.of(self.tokens[index] for index in self._spelled)
        if self.spelling == "words":  # phonemes: neither case nor apostrophes are typing habits
            return TextRule(rule.unicode, apostrophes="", case=None)
        return rule

    def normalise(self, text: str) -> str:
        """The text as this vocabulary would write it; what it cannot say stays as it is."""
        return self.rule(text)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, normalised first and the word delimiter for each space.

        As the tokenizer has it: tokens of several letters are taken first, and of the spaces
        beside them none is left. Raises LpaError naming the characters that the vocabulary lacks.
        """
        normalised = self.normalise(text)
        if self.spelling == "tokenizer":
            return self._encode_by_file(normalised, text)
        ids, unknown = self._spell(normalised)
        if unknown:
            raise _cannot_say(unknown, text)
        return ids

    def require_sayable(self, text: str) -> None:
        """Raise LpaError, naming them, when ``text`` has characters that no token can say."""
        if self.spelling != "tokenizer":
            self.encode(text)
            return
        letters = set("".join(self.texts[index] for index in self._spelled))
        unknown = set(self.normalise(text)) - letters - {" "}
        if unknown:
            raise _cannot_say(unknown, text)

    def as_said(self, text: str) -> str:
        """``text`` as a transcript of this vocabulary has it, where it is heard right.

        Raises LpaError naming the characters that the vocabulary lacks.
        """
        if self.spelling == "tokenizer":  # a bundle has no file to spell by
            self.require_sayable(text)
            return self.normalise(text)
        return self.decode(self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids that are already merged, white space at its ends dropped."""
        return "".join(self.texts[index] for index in ids).strip()

    @cached_property
    def _spelled(self) -> tuple[int, ...]:
        """Ids that texts are spelled with: all but special ones, the delimiter and white space."""
        return tuple(
            index
            for index, token in enumerate(self.tokens)
            if index not in self.special and token != self.word_delimiter and token.strip()
        )

    def _key(self, index: int) -> str:
        return self.rule.characters(self.tokens[index])

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Token as a normalised text has it -> id, the word delimiter as the space it is."""
        ids = {self._key(index): index for index in self._spelled}
        space = " " if self.word_delimiter is None else self.word_delimiter
        if space in self.tokens:
            ids[" "] = self.tokens.index(space)
        if self.word_delimiter is not None and self.spelling == "words":
            ids[self.word_delimiter] = self.tokens.index(self.word_delimiter)
        return ids

    @cached_property
    def _long(self) -> re.Pattern[str]:
        """Tokens of several letters and the spaces beside them, the longest that fits first."""
        long = sorted((key for key in self._ids if len(key) > 1), key=len, reverse=True)
        return re.compile(f" *({'|'.join(map(re.escape, long)) or '(?!)'}) *")

    def _spell(self, normalised: str) -> tuple[list[int], set[str]]:
        """Ids of a normalised text, and what of it has none."""
        ids: list[int] = []
        unknown: set[str] = set()
        for piece in self._pieces(normalised):
            if piece in self._ids:
                ids.append(self._ids[piece])
                continue
            # A vocabulary may have letter and accent apart, where the text has them in one.
            apart = unicodedata.normalize("NFD", piece)
            if all(part in self._ids for part in apart):
                ids += (self._ids[part] for part in apart)
            else:
                unknown.add(piece)
        return ids, unknown

    def _pieces(self, normalised: str) -> Iterator[str]:
        if self.spelling == "words":
            yield from normalised.split()
            return
        end = 0
        for found in self._long.finditer(normalised):
            yield from normalised[end : found.start()]
            yield found[1]
            end = found.end()
        yield from normalised[end:]

    def _encode_by_file(self, normalised: str, text: str) -> list[int]:
        if TOKENIZER not in self.files:
            raise LpaError(
                f"spelling a text takes the checkpoint's {TOKENIZER}, which a bundle has not"
            )
        encoding = self._tokenizer.encode(normalised, add_special_tokens=False)
        outside = {
            normalised[slice(*span)]
            for index, span in zip(encoding.ids, encoding.offsets, strict=True)
            if index in self.special or index >= len(self)
        }
        if outside:
            raise _cannot_say(outside, text)
        return [int(index) for index in encoding.ids]

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.files[TOKENIZER])

    @cached_property
    def _first_alike(self) -> npt.NDArray[np.int64]:
        """Id -> the first id of the same token: outputs without a name share the unknown one."""
        first: dict[str, int] = {}
        return np.array([first.setdefault(token, i) for i, token in enumerate(self.tokens)])

    def merge(self, best: npt.NDArray[np.integer]) -> list[tuple[int, int, int]]:
        """(id, first frame, frame behind the last) of each run in the best ids (frames,)."""
        ids = self._first_alike[best]
        return [(int(ids[start]), start, end) for start, end in _runs(ids)]

    def to_json(self) -> dict[str, Any]:
        """As in a bundle's ``tokens.json``: any token survives, and no tokenizer is needed.

        A transcript is the ``text`` of each token that is spoken, white space at its ends dropped.
        """
        special = self.special - {self.blank}
        return {
            "blank": self.blank,
            "word_delimiter": self.word_delimiter,
            "spelling": self.spelling,
            "tokens": [
                {"token": token, "text": text} | ({"special": True} if index in special else {})
                for index, (token, text) in enumerate(zip(self.tokens, self.texts, strict=True))
            ],
        }

    @classmethod
    def from_json(cls, content: Any, place: Path | str) -> Vocabulary:
        """Read what :meth:`to_json` wrote; LpaError, ``place`` first, when it is anything else."""
        entries = content.get("tokens") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(map(_is_entry, entries)):
            raise LpaError(f"{place}: expected a list of tokens, each with its token and text")
        blank, delimiter = content.get("blank"), content.get("word_delimiter")
        if type(blank) is not int or not isinstance(delimiter, str | None):
            raise LpaError(f"{place}: expected the blank's id and a word delimiter or null")
        if content.get("spelling") not in get_args(Spelling):
            raise LpaError(f"{place}: spelling must be one of {', '.join(get_args(Spelling))}")
        try:
            return cls(
                tokens=tuple(entry["token"] for entry in entries),
                blank=blank,
                word_delimiter=delimiter,
                texts=tuple(entry["text"] for entry in entries),
                special=frozenset(i for i, entry in enumerate(entries) if entry.get("special")),
                spelling=content["spelling"],
            )
        except LpaError as error:
            raise LpaError(f"{place}: {error}") from error

    @classmethod
    def read(cls, path: Path | str) -> Vocabulary:
        """Read a bundle's ``tokens.json``; LpaError when it is missing or no such file."""
        try:
            return cls.from_json(json.loads(_read_text(Path(path))), path)
        except (ValueError, RecursionError) as error:
            raise LpaError(f"{path}: expected JSON, found other text ({error})") from error

    def write(self, path: Path | str) -> None:
        """Write as ``tokens.json``, in ASCII: half a surrogate pair is a token like any other."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1) + "\n", "utf-8", newline="\n")

    def write_lines(self, path: Path | str) -> None:
        """Write as ``tokens.txt`` for readers: a token a line, what cannot be seen escaped."""
        lines = "".join(f"{_visible(token)}\n" for token in self.tokens)
        Path(path).write_text(lines, "utf-8", newline="\n")


@dataclass(frozen=True)
class Word:
    """A recognised word, with its first and last moment in seconds."""

    text: str
    start: float
    end: float


def greedy_path(logits: npt.NDArray[np.floating], vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    """The best token of each frame, (frames,), of logits (frames, vocabulary).

    Raises LpaError when the logits' width is not the vocabulary's.
    """
    _require_width(logits, vocabulary)
    return np.asarray(np.asarray(logits).argmax(axis=-1), np.int64)


def path_text(path: npt.NDArray[np.integer], vocabulary: Vocabulary) -> str:
    """What a path (frames,) of token ids says."""
    return vocabulary.decode(index for index, _, _ in vocabulary.merge(path))


def path_words(
    path: npt.NDArray[np.integer], vocabulary: Vocabulary, *, hop_seconds: float
) -> list[Word]:
    """The words of :func:`path_text` with their times; ``hop_seconds`` is one frame's length.

    A word starts at the first frame of its first token and ends behind the last frame of its
    last one. CTC peaks are narrow, so ends lie early by up to a few frames.
    """
    words: list[Word] = []
    spoken: list[tuple[str, int, int]] = []

    def close() -> None:
        if spoken:
            text = "".join(part for part, _, _ in spoken)
            words.append(Word(text, spoken[0][1] * hop_seconds, spoken[-1][2] * hop_seconds))
            spoken.clear()

    for index, start, end in vocabulary.merge(path):
        for part in re.split(r"(\s+)", vocabulary.texts[index]):
            if part.isspace():
                close()
            elif part:
                spoken.append((part, start, end))
    close()
    return words


def greedy_text(logits: npt.NDArray[np.floating], vocabulary: Vocabulary) -> str:
    """Greedy CTC transcript of logits (frames, vocabulary).

    Raises LpaError when the logits' width is not the vocabulary's.
    """
    return path_text(greedy_path(logits, vocabulary), vocabulary)


def word_times(
    logits: npt.NDArray[np.floating], vocabulary: Vocabulary, *, hop_seconds: float
) -> list[Word]:
    """:func:`path_words` of the greedy path.

    Raises LpaError when the logits' width is not the vocabulary's.
    """
    return path_words(greedy_path(logits, vocabulary), vocabulary, hop_seconds=hop_seconds)


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


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() <= {"token", "text", "special"}
        and isinstance(entry.get("token"), str)
        and isinstance(entry.get("text"), str)
        and isinstance(entry.get("special", False), bool)
    )


def _visible(token: str) -> str:
    """A token as a line of its own, in Python's escapes where it would not be seen."""
    shown = token.replace("\\", "\\\\")
    shown = "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape", "surrogatepass").decode()
        for mark in shown
    )
    return '""' if not token else shown if shown == shown.strip() else f'"{shown}"'


def _cannot_say(unknown: set[str], text: str) -> LpaError:
    return LpaError(
        f"characters outside the vocabulary: {' '.join(map(repr, sorted(unknown)))} in "
        f"{_shortened(text)!r}; spell them out or remove them"
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
