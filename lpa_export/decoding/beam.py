"""Beam search over CTC logits with a language model of words, by flashlight-text.

The search is flashlight's without a lexicon, so that any text can be heard; what it asks of a
language model for each token, it asks of `WordScores`, which answers with KenLM's probability of
whole words. The text that is looked for is the one with the largest

    log P(text | audio) + weight * log P(text) + word_score * words

in natural logarithms, where P(text | audio) sums over all paths that say it and P(text) is the
n-gram model's, from the begin of the sentence to its end. A word that the model does not know has

    P(word | history) = P(<unk> | history) * (letters + 1) ** -(length + 1)

each of its characters, and its end, as likely as any of the vocabulary's. While a word is being
spelled, it is credited with what it may become at best by unigrams, the known words that begin
like it or an unknown one: that steers the beam and cancels out where the word ends.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flashlight.lib.text.decoder import (
    LM,
    CriterionType,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    LMState,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from lpa_export.decoding.arpa import read_words
from lpa_export.decoding.settings import Settings
from lpa_export.errors import LpaError
from lpa_export.formats.text import Vocabulary

__all__ = ["BeamSearch", "WordScores"]

_MARKS = {"<s>", "</s>", "<unk>", "<UNK>"}
_UNKNOWN = "<unk>"
_LN10 = math.log(10)
_LAST = chr(0x10FFFF)
_SPACE, _END = "space", "end"

_TOKENS = 12
"""The best tokens of a frame that are followed, which bounds what a frame costs."""

_THRESHOLD = 20.0
"""What is this much worse than the best, in natural logarithms, is followed no longer."""

_LEAST = -10.0
"""log10 of the least probability: a file that has 0 for <unk>, or no <unk>, forbids no word."""

_IMPOSSIBLE = 1e30
"""Far beyond any logit and finite in single precision."""

_PAUSE_FRAMES = 500
"""From here on a search ends at the next pause between words, and a new sentence begins."""


class _State(LMState):
    """A text so far: KenLM's state behind its whole words, the word being spelled, its credit."""

    def __init__(self, history: Any, word: str, credit: float) -> None:
        super().__init__()
        self.history = history
        self.word = word
        self.credit = credit
        self.following: dict[int | str, tuple[_State, float]] = {}


class WordScores(LM):
    """A model of words, asked token by token; what it answers is weighted already.

    Raises LpaError for a file that KenLM does not read, and where the vocabulary can spell none of
    its words. `known` counts its words, `spelled` those that the vocabulary can spell.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, weight: float, word_score: float):
        super().__init__()
        self._weight = weight * _LN10  # KenLM's logarithms are of base 10
        self._word_score = word_score
        self._parts = [re.findall(r"\s+|\S+", text) for text in vocabulary.texts]
        letters = {letter for text in vocabulary.texts for letter in text if not letter.isspace()}
        self._letter = -math.log10(len(letters) + 1)
        words = dict.fromkeys(word for word in read_words(path) if word not in _MARKS)
        self.known = len(words)
        names = [*words, _UNKNOWN]
        self._unknown = len(names) - 1
        self._model = _open(path, names)
        nothing = self._model.start(True)
        alone = [max(self._model.score(nothing, index)[1], _LEAST) for index in range(len(names))]
        # Of words that are the same in this vocabulary's letters the likeliest stands for all.
        self._index: dict[str, int] = {}
        for index in sorted(range(self._unknown), key=lambda index: -alone[index]):
            said = _said(vocabulary, names[index])
            if said:
                self._index.setdefault(said, index)
        self.spelled = len(self._index)
        if not self.spelled:
            raise LpaError(
                f"{path}: none of its {self.known} words can be spelled with the tokens of this "
                "model; give a language model of its alphabet"
            )
        self._sorted = sorted(self._index)
        self._alone = np.array([alone[self._index[word]] for word in self._sorted])
        self._unknown_alone = alone[self._unknown]
        self._credits: dict[str, float] = {"": 0.0}
        # The search keeps C++ halves of states only, so the whole ones are kept here.
        self._states: list[_State] = []

    def start(self, start_with_nothing: bool) -> _State:
        """The state before the first word; those of the text before are forgotten."""
        for state in self._states:
            state.following.clear()
        self._states.clear()
        self._credits = {"": 0.0}
        return self._kept(_State(self._model.start(start_with_nothing), "", 0.0))

    def score(self, state: _State, token: int) -> tuple[_State, float]:
        """The state behind a token and what the token adds to the score."""
        found = state.following.get(token)
        if found is None:
            found = state.following[token] = self._behind(state, token)
        return found

    def finish(self, state: _State) -> tuple[_State, float]:
        """The state behind the text's end, and what the last word and the end add."""
        last, score = self._word_ended(state)
        found = last.following.get(_END)
        if found is None:
            history, end = self._model.finish(last.history)
            found = self._kept(_State(history, "", 0.0)), self._weight * max(end, _LEAST)
            last.following[_END] = found
        return found[0], score + found[1]

    def _behind(self, state: _State, token: int) -> tuple[_State, float]:
        total = 0.0
        for part in self._parts[token]:
            if part.isspace():
                state, score = self._word_ended(state)
            else:
                word = state.word + part
                credit = self._credit(word)
                score = credit - state.credit
                state = self._kept(_State(state.history, word, credit))
            total += score
        return state, total

    def _word_ended(self, state: _State) -> tuple[_State, float]:
        """The same state where no word has begun: two spaces say no more than one."""
        if not state.word:
            return state, 0.0
        found = state.following.get(_SPACE)
        if found is None:
            index = self._index.get(state.word, self._unknown)
            history, score = self._model.score(state.history, index)
            score = max(score, _LEAST)
            if index == self._unknown:
                score += self._letter * (len(state.word) + 1)
            total = self._weight * score + self._word_score
            found = self._kept(_State(history, "", 0.0)), total - state.credit
            state.following[_SPACE] = found
        return found

    def _credit(self, word: str) -> float:
        found = self._credits.get(word)
        if found is None:
            best = self._unknown_alone + self._letter * (len(word) + 1)
            first = bisect_left(self._sorted, word)
            last = bisect_left(self._sorted, word + _LAST, first)
            if first < last:
                best = max(best, float(self._alone[first:last].max()))
            found = self._credits[word] = self._weight * best + self._word_score
        return found

    def _kept(self, state: _State) -> _State:
        self._states.append(state)
        return state


class BeamSearch:
    """Finds paths through logits of a vocabulary. Raises LpaError as `WordScores` does."""

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.scores = WordScores(settings.path, vocabulary, settings.lm_weight, settings.word_score)
        self._vocabulary = vocabulary
        options = LexiconFreeDecoderOptions(
            beam_size=settings.beam,
            beam_size_token=min(_TOKENS, len(vocabulary)),
            beam_threshold=_THRESHOLD,
            lm_weight=1.0,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        # No token is flashlight's silence: its first frame would say one for nothing.
        self._search = LexiconFreeDecoder(options, self.scores, -1, vocabulary.blank, [])

    def path(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The token of each frame, (frames,), on the path to the best text that the search kept.

        Logits are (frames, vocabulary); a NaN counts as the lowest. Long ones are searched
        stretch by stretch, each a sentence that ends in a pause.
        """
        logits = np.nan_to_num(
            np.asarray(logits, np.float64),
            nan=-_IMPOSSIBLE,
            neginf=-_IMPOSSIBLE,
            posinf=_IMPOSSIBLE,
        )
        logits = logits - logits.max(axis=-1, keepdims=True)
        scores = (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))).astype(np.float32)
        found = [self._stretch(scores[start:end]) for start, end in self._stretches(scores)]
        return self._spaces_once(np.concatenate([np.zeros(0, np.int64), *found]))

    def _spaces_once(self, path: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The path with blanks for spaces before the first word and behind another space."""
        apart = True
        for index, first, behind in self._vocabulary.merge(path):
            text = self._vocabulary.texts[index]
            if text.isspace() and apart:
                path[first:behind] = self._vocabulary.blank
            apart = text.isspace() or (apart and not text)
        return path

    def _stretch(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        scores = np.ascontiguousarray(scores)
        best = self._search.decode(scores.ctypes.data, *scores.shape)[0]
        # One token more stands before the first frame, and one behind the last.
        return np.array(best.tokens[1 : len(scores) + 1], np.int64)

    def _stretches(self, scores: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
        """(first, behind the last) frame of each stretch: cut in the middle of greedy spaces.

        The last frame of one may say nothing but that space, or two words could become one.
        """
        start = 0
        for index, first, behind in self._vocabulary.merge(scores.argmax(axis=-1)):
            last = (first + behind - 1) // 2
            if self._vocabulary.texts[index].isspace() and last + 1 - start >= _PAUSE_FRAMES:
                scores[last] = -_IMPOSSIBLE
                scores[last, index] = 0
                yield start, last + 1
                start = last + 1
        if start < len(scores):
            yield start, len(scores)


def _said(vocabulary: Vocabulary, word: str) -> str:
    """A word as the vocabulary says it; empty where it cannot be spelled, or in two words only."""
    try:
        said = vocabulary.as_said(word)
    except LpaError:
        return ""
    return "" if any(letter.isspace() for letter in said) else said


def _open(path: Path, words: Sequence[str]) -> Any:
    """The file in KenLM, for these words by their index. Raises LpaError."""
    entries = Dictionary()
    for word in words:
        entries.add_entry(word)
    try:
        with _hushed():
            return KenLM(str(path), entries)
    except UnicodeDecodeError as error:  # it quotes what it does not understand, whatever that is
        raise LpaError(f"{path}: damaged, KenLM does not read it") from error
    except RuntimeError as error:
        said = str(error).splitlines()[-1]
        raise LpaError(f"{path}: damaged, KenLM does not read it ({said})") from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Without KenLM's progress bar, which it draws on stderr unasked."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
