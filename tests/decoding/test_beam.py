"""The search with a language model: against every path there is, and what it does at the edges."""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.decoding.settings import Settings
from lpa_export.formats.text import Vocabulary, greedy_text, path_text, path_words

from .arpa_by_hand import Table

beam = pytest.importorskip("lpa_export.decoding.beam", reason="the extra lm is not installed")

Logits = np.ndarray[Any, Any]

LETTERS = Vocabulary(tokens=("<pad>", "|", "A", "B"))
"""Words of two letters, and all that can be said of them in a few frames."""


def best_text(logits: Logits, table: Table, weight: float, word_score: float) -> tuple[str, ...]:
    """The words with the best score, summed over every path, in float64."""
    logs = logits.astype(np.float64)
    probabilities = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    heard: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for path in product(range(len(LETTERS)), repeat=len(logits)):
        spoken = [i for i, before in zip(path, (None, *path), strict=False) if i != before]
        text = "".join("" if i == 0 else " AB"[i - 1] for i in spoken)
        heard[tuple(text.split())] += math.prod(
            probabilities[frame, i] for frame, i in enumerate(path)
        )
    return max(
        heard,
        key=lambda words: (
            math.log(heard[words])
            + weight * math.log(10) * table.sentence(words, letters=2)
            + word_score * len(words)
        ),
    )


@pytest.mark.parametrize(("weight", "word_score"), [(0.5, 1.5), (1.0, 0.0), (0.0, -2.0)])
def test_a_wide_beam_finds_the_best_of_all_texts(
    arpa: Callable[..., Path], weight: float, word_score: float
) -> None:
    """4,096 paths each; some of the best texts have words that the model does not know."""
    path = arpa(["AB", "A", "BA", "BB"])
    table = Table(path)
    search = beam.BeamSearch(LETTERS, Settings(path, weight, word_score, beam=10_000))
    found, greedy, unknown = [], [], 0
    for seed in range(12):
        logits = 3 * np.random.default_rng(seed).standard_normal((6, 4))
        said = path_text(search.path(logits), LETTERS)
        words = best_text(logits, table, weight, word_score)
        assert said.split() == list(words), seed
        found.append(" ".join(words))
        greedy.append(" ".join(greedy_text(logits, LETTERS).split()))
        unknown += any((word,) not in table.found for word in words)
    assert unknown > 0
    assert found != greedy and len(set(found)) > 5


def clear(text: str, vocabulary: Vocabulary, certain: float = 8.0) -> Logits:
    """Logits (2 * tokens, vocabulary) of a text as it is encoded, each letter and then a blank."""
    ids = [i for token in vocabulary.encode(text) for i in (token, vocabulary.blank)]
    logits = np.zeros((len(ids), len(vocabulary)))
    logits[range(len(ids)), ids] = certain
    return logits


ENGLISH = Vocabulary(tokens=("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def test_kenlm_draws_no_bar(arpa: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    assert capfd.readouterr() == ("", "")


def test_what_sounds_alike_is_decided_by_the_words_before(arpa: Callable[..., Path]) -> None:
    path = arpa(["TO", "SEA"], order=2)
    logits = clear("TO SEE", ENGLISH)
    logits[-2, ENGLISH.tokens.index("A")] = 7.0
    settings = Settings(path)
    assert greedy_text(logits, ENGLISH) == "TO SEE"
    assert path_text(beam.BeamSearch(ENGLISH, settings).path(logits), ENGLISH) == "TO SEA"
    off = beam.BeamSearch(ENGLISH, Settings(path, lm_weight=0.0, word_score=0.0))
    assert path_text(off.path(logits), ENGLISH) == "TO SEE"


def test_a_word_that_the_model_does_not_know_is_spelled(arpa: Callable[..., Path]) -> None:
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    logits = clear("TO ZYZZYVA SEA", ENGLISH)
    assert path_text(search.path(logits), ENGLISH) == "TO ZYZZYVA SEA"


def test_words_have_the_times_of_their_frames(arpa: Callable[..., Path]) -> None:
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    logits = np.zeros((12, len(ENGLISH)))
    frames = "__TTO_|_SEA_"
    logits[range(12), [ENGLISH.tokens.index(x) if x != "_" else 0 for x in frames]] = 12
    words = path_words(search.path(logits), ENGLISH, hop_seconds=0.02)
    assert [(word.text, word.start, word.end) for word in words] == [
        ("TO", pytest.approx(0.04), pytest.approx(0.1)),
        ("SEA", pytest.approx(0.16), pytest.approx(0.22)),
    ]


def test_a_space_is_said_once_and_only_between_words(arpa: Callable[..., Path]) -> None:
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    logits = np.zeros((16, len(ENGLISH)))
    frames = "|_TTO_|_|_|SEA||"
    logits[range(16), [ENGLISH.tokens.index(x) if x != "_" else 0 for x in frames]] = 12
    path = search.path(logits)
    assert greedy_text(logits, ENGLISH) == "TO   SEA"
    assert path_text(path, ENGLISH) == "TO SEA"
    assert len(path) == 16


@pytest.mark.parametrize("frames", [0, 1, 40])
def test_silence_has_no_words(arpa: Callable[..., Path], frames: int) -> None:
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    logits = np.zeros((frames, len(ENGLISH)), np.float32)
    logits[:, 0] = 12
    assert search.path(logits).tolist() == [0] * frames


def test_logits_that_are_no_numbers_are_searched_all_the_same(arpa: Callable[..., Path]) -> None:
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"])))
    logits = clear("TO SEA", ENGLISH)
    logits[:, 5] = np.nan
    logits[:, 6] = -np.inf
    assert path_text(search.path(logits), ENGLISH) == "TO SEA"
    assert len(search.path(np.full((9, len(ENGLISH)), np.nan))) == 9


def test_long_logits_are_searched_from_pause_to_pause(
    arpa: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a whole and in stretches; states are kept of one stretch only."""
    search = beam.BeamSearch(ENGLISH, Settings(arpa(["TO", "SEA"]), beam=8))
    text = " ".join(["TO SEA"] * 20)
    logits = clear(text, ENGLISH)
    assert path_text(search.path(logits), ENGLISH) == text
    whole = len(search.scores._states)
    monkeypatch.setattr(beam, "_PAUSE_FRAMES", 40)
    path = search.path(logits)
    assert path_text(path, ENGLISH) == text
    assert [word.text for word in path_words(path, ENGLISH, hop_seconds=1)] == text.split()
    assert len(search.scores._states) < whole / 4


def written(path: Path, words: list[str]) -> Path:
    """A model that knows nothing but its words: all are as likely, whatever stands before."""
    lines = ["\\data\\", f"ngram 1={len(words) + 3}", "ngram 2=1", "", "\\1-grams:"]
    lines += [f"-1\t{word}\t0" for word in ["<unk>", "<s>", "</s>", *words]]
    lines += ["", "\\2-grams:", f"-1\t<s> {words[0]}"]
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), "utf-8")
    return path


def test_words_are_brought_to_the_letters_of_the_vocabulary(tmp_path: Path) -> None:
    """Case and apostrophes of the file are not those of the model; what it lacks is left out."""
    path = written(tmp_path / "w.arpa", ["Don\u2019t", "sea", "Sea", "naïve", "1984"])
    search = beam.BeamSearch(ENGLISH, Settings(path))
    assert (search.scores.known, search.scores.spelled) == (5, 2)
    before = search.scores.start(False)
    index = ENGLISH.encode("DON'T SEA")
    total = 0.0
    for token in index:
        before, score = search.scores.score(before, token)
        total += score
    _, end = search.scores.finish(before)
    # Two known words and the end, at a tenth each.
    assert total + end == pytest.approx(0.5 * 3 * math.log(0.1) + 2 * 1.5, abs=1e-5)


@pytest.mark.parametrize("impossible", ["<unk>", "to", "</s>"])
def test_what_has_no_probability_can_be_said_all_the_same(tmp_path: Path, impossible: str) -> None:
    path = written(tmp_path / "w.arpa", ["sea", "to"])
    path.write_text(path.read_text().replace(f"-1\t{impossible}\t", f"-inf\t{impossible}\t"))
    search = beam.BeamSearch(ENGLISH, Settings(path))
    logits = clear("TO ZYZ SEA", ENGLISH, certain=40.0)
    assert path_text(search.path(logits), ENGLISH) == "TO ZYZ SEA"


def test_an_accent_that_is_a_token_of_its_own_is_found(tmp_path: Path) -> None:
    apart = Vocabulary(tokens=("<pad>", "|", *"naive", "\u0308"))
    path = written(tmp_path / "w.arpa", ["na\u00efve"])
    assert apart.as_said("na\u00efve") == "nai\u0308ve"
    assert beam.BeamSearch(apart, Settings(path)).scores.spelled == 1


def test_word_pieces_that_begin_with_a_space_are_words(tmp_path: Path) -> None:
    """As a tokenizer has them: the space is in the text of the piece that begins a word."""
    pieces = Vocabulary(
        tokens=("<pad>", "▁to", "▁s", "ea", "ee"),
        word_delimiter=None,
        texts=("", " to", " s", "ea", "ee"),
        spelling="tokenizer",
    )
    search = beam.BeamSearch(pieces, Settings(written(tmp_path / "w.arpa", ["to", "sea"])))
    logits = np.zeros((3, 5))
    logits[range(3), [1, 2, 4]] = 8.0
    logits[2, 3] = 7.5
    assert greedy_text(logits, pieces) == "to see"
    assert path_text(search.path(logits), pieces) == "to sea"
