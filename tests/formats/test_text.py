"""Vocabularies, greedy CTC decoding and word times against slow independent loops."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpa_export.errors import LpaError
from lpa_export.formats.text import (
    Vocabulary,
    greedy_ids,
    greedy_text,
    normalise_text,
    word_times,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHIPPED = Vocabulary(("<pad>", "|", "'", *LETTERS))
HUGGING_FACE = ["<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "I", "H", "S", "'"]


def one_hot(ids: list[int], width: int = len(SHIPPED)) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[ids]


def frames_of(symbols: str) -> np.ndarray:
    """Logits that say ``symbols`` frame by frame, ``_`` for the blank."""
    return one_hot([0 if symbol == "_" else SHIPPED.tokens.index(symbol) for symbol in symbols])


def slow_text(ids: list[int], tokens: list[str], skipped: set[str]) -> str:
    """CTC by its definition: merge repeats, drop the blank, spell."""
    merged = [key for key, _ in itertools.groupby(ids)]
    text = "".join(tokens[index] for index in merged if tokens[index] not in skipped)
    return " ".join(word for word in text.split("|") if word)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("HHH_II", "HI"),
        ("L_L", "LL"),
        ("LLL", "L"),
        ("_A|_|B_", "A B"),
        ("||A||", "A"),
        ("____", ""),
        ("'T'I'S", "'T'I'S"),
    ],
)
def test_greedy_text_merges_repeats_then_drops_blanks(frames: str, text: str) -> None:
    assert greedy_text(frames_of(frames), SHIPPED) == text


@given(st.lists(st.integers(0, len(HUGGING_FACE) - 1), max_size=40))
def test_greedy_text_equals_the_definition_of_ctc(ids: list[int]) -> None:
    vocabulary = Vocabulary(tuple(HUGGING_FACE))
    logits = one_hot(ids, len(HUGGING_FACE)) if ids else np.zeros((0, len(HUGGING_FACE)))
    expected = slow_text(ids, HUGGING_FACE, {"<pad>", "<s>", "</s>", "<unk>"})
    assert greedy_text(logits, vocabulary) == expected


def test_greedy_ids_keeps_the_blanks_between_runs() -> None:
    assert greedy_ids(frames_of("AA_B")) == [3, 0, 4]
    assert greedy_ids(np.zeros((0, 29))) == []


@given(st.lists(st.text(LETTERS + "'", min_size=1, max_size=6), min_size=1, max_size=5))
def test_any_text_comes_back_from_its_own_ids(words: list[str]) -> None:
    text = " ".join(words)
    assert SHIPPED.decode(SHIPPED.encode(text)) == text


def test_hugging_faces_tokenizer_decodes_the_same(tmp_path: Path) -> None:
    tokenizer_class = pytest.importorskip("transformers").Wav2Vec2CTCTokenizer
    path = tmp_path / "vocab.json"
    SHIPPED.write_json(path)
    tokenizer = tokenizer_class(str(path), unk_token="<pad>", bos_token=None, eos_token=None)
    random = np.random.default_rng(1)
    ids = random.integers(0, len(SHIPPED), (20, 50))
    for row in ids:
        ours = greedy_text(one_hot(row.tolist()), SHIPPED)
        assert ours == " ".join(tokenizer.decode(row.tolist()).split())


def test_text_is_normalised_before_encoding() -> None:
    assert normalise_text("  don\u2019t \t stop\n") == "DON'T STOP"
    assert SHIPPED.encode("  a\u2019b\u00a0 c ") == SHIPPED.encode("A'B C") == [3, 2, 4, 1, 5]
    assert SHIPPED.encode("   ") == []


def test_a_lower_case_vocabulary_takes_the_same_text() -> None:
    vocabulary = Vocabulary(("<pad>", "|", "a", "b"))
    assert vocabulary.encode("AB a") == [2, 3, 1, 2]


def test_characters_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(LpaError, match=r"'1' '3' 'Ü' in '13 Über'") as caught:
        SHIPPED.encode("13 Über")
    assert "\n" not in str(caught.value)
    with pytest.raises(LpaError, match="outside the vocabulary: '<' '>'"):
        SHIPPED.encode("<pad>")


def test_word_times_are_the_frames_of_first_and_last_letter() -> None:
    words = word_times(frames_of("__HH_I_|__YO_U|"), SHIPPED, hop_seconds=0.02)
    assert [word.text for word in words] == ["HI", "YOU"]
    times = [(word.start, word.end) for word in words]
    np.testing.assert_allclose(times, [(0.04, 0.12), (0.20, 0.28)])


@given(st.text("_|AB'", max_size=60))
def test_words_join_to_the_transcript_in_order_of_time(symbols: str) -> None:
    logits = frames_of(symbols) if symbols else np.zeros((0, len(SHIPPED)))
    words = word_times(logits, SHIPPED, hop_seconds=0.02)
    assert " ".join(word.text for word in words) == greedy_text(logits, SHIPPED)
    moments = [moment for word in words for moment in (word.start, word.end)]
    assert moments == sorted(moments)
    assert all(word.start < word.end <= len(symbols) * 0.02 + 1e-9 for word in words)


def test_logits_of_another_width_are_refused() -> None:
    for decode in (greedy_text, lambda x, v: word_times(x, v, hop_seconds=0.02)):
        with pytest.raises(LpaError, match=r"\(frames, 29\).*found \(4, 32\)"):
            decode(np.zeros((4, 32)), SHIPPED)


def test_both_file_formats_round_trip(tmp_path: Path) -> None:
    SHIPPED.write_json(tmp_path / "vocab.json")
    SHIPPED.write_lines(tmp_path / "tokens.txt")
    assert Vocabulary.from_json(tmp_path / "vocab.json") == SHIPPED
    assert Vocabulary.from_lines(tmp_path / "tokens.txt") == SHIPPED
    assert (tmp_path / "tokens.txt").read_bytes().startswith(b"<pad>\n|\n'\nA\n")


def test_a_hugging_face_vocabulary_in_any_order_is_read(tmp_path: Path) -> None:
    ids = {token: index for index, token in enumerate(HUGGING_FACE)}
    shuffled = dict(sorted(ids.items()))
    (tmp_path / "vocab.json").write_text(json.dumps(shuffled), "utf-8")
    assert Vocabulary.from_json(tmp_path / "vocab.json").tokens == tuple(HUGGING_FACE)


def test_the_blank_is_the_pad_token_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"|": 0, "A": 1, "[PAD]": 2}', "utf-8")
    vocabulary = Vocabulary.from_json(tmp_path / "vocab.json")
    assert vocabulary.blank == 2
    assert greedy_text(one_hot([2, 1, 2, 1], 3), vocabulary) == "AA"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("not json", "expected a JSON vocabulary"),
        ("[1, 2]", "object of token: id"),
        ('{"A": "0", "|": 1}', "object of token: id"),
        ('{"A": true, "|": 0}', "object of token: id"),
        ('{"A": 0, "|": 2}', "ids must be 0 to 1"),
        ('{"A": 0, "|": 0}', "ids must be 0 to 1"),
        ('{"A": 0, "B": 1}', "no word delimiter"),
    ],
)
def test_damaged_json_vocabularies_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "vocab.json").write_text(content, "utf-8")
    with pytest.raises(LpaError, match=problem) as caught:
        Vocabulary.from_json(tmp_path / "vocab.json")
    assert "vocab.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<pad>\n\n|\n", r"tokens\.txt:2: expected a token"),
        (b"<pad>\n|\nA\nA\n", "every token must be there once"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_damaged_token_files_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "tokens.txt").write_bytes(content)
    with pytest.raises(LpaError, match=problem):
        Vocabulary.from_lines(tmp_path / "tokens.txt")


def test_a_missing_vocabulary_and_a_blank_outside_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="expected a vocabulary file, found none"):
        Vocabulary.from_json(tmp_path / "vocab.json")
    with pytest.raises(LpaError, match=r"blank id must lie in 0\.\.1, found 2"):
        Vocabulary(("<pad>", "|"), blank=2)
