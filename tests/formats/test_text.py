"""Vocabularies, greedy CTC decoding and word times against slow independent loops."""

# Letters of other alphabets are what is tested here.
# ruff: noqa: RUF001

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpa_export.errors import LpaError
from lpa_export.formats.text import (
    NORMALISER,
    Vocabulary,
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
    return text.replace("|", " ").strip()


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("HHH_II", "HI"),
        ("L_L", "LL"),
        ("LLL", "L"),
        ("_A|_|B_", "A  B"),
        ("A||B", "A B"),
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
    expected = slow_text(ids, HUGGING_FACE, {"<pad>"})
    assert greedy_text(logits, vocabulary) == expected


def test_runs_keep_the_blanks_between_them_and_their_frames() -> None:
    best = frames_of("AA_B").argmax(axis=1)
    assert SHIPPED.merge(best) == [(3, 0, 2), (0, 2, 3), (4, 3, 4)]
    assert SHIPPED.merge(best[:0]) == []


@given(st.lists(st.text(LETTERS + "'", min_size=1, max_size=6), min_size=1, max_size=5))
def test_any_text_comes_back_from_its_own_ids(words: list[str]) -> None:
    text = " ".join(words)
    assert SHIPPED.decode(SHIPPED.encode(text)) == text


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
    assert [word.text for word in words] == greedy_text(logits, SHIPPED).split()
    moments = [moment for word in words for moment in (word.start, word.end)]
    assert moments == sorted(moments)
    assert all(word.start < word.end <= len(symbols) * 0.02 + 1e-9 for word in words)


def test_logits_of_another_width_are_refused() -> None:
    for decode in (greedy_text, lambda x, v: word_times(x, v, hop_seconds=0.02)):
        with pytest.raises(LpaError, match=r"\(frames, 29\).*found \(4, 32\)"):
            decode(np.zeros((4, 32)), SHIPPED)


def test_tokens_json_holds_any_token(tmp_path: Path) -> None:
    odd = ("\n", "", "  ", "\t", "\\n", '"', "\u2028", "\ud800", "A", "<script>")
    vocabulary = Vocabulary(("<pad>", "|", *odd))
    vocabulary.write(tmp_path / "tokens.json")
    assert Vocabulary.read(tmp_path / "tokens.json") == vocabulary
    entries = json.loads((tmp_path / "tokens.json").read_text("ascii"))["tokens"]
    assert [entry["token"] for entry in entries] == ["<pad>", "|", *odd]
    assert entries[:3] == [
        {"token": "<pad>", "text": ""},
        {"token": "|", "text": " "},
        {"token": "\n", "text": "\n"},
    ]


def test_tokens_txt_shows_each_token_on_a_line_of_its_own(tmp_path: Path) -> None:
    SHIPPED.write_lines(tmp_path / "tokens.txt")
    assert (tmp_path / "tokens.txt").read_bytes().startswith(b"<pad>\n|\n'\nA\n")
    odd = ("<pad>", "\n", "", " a", "\\", "\ud800", "\u2028")
    Vocabulary(odd, word_delimiter=None).write_lines(tmp_path / "odd.txt")
    lines = (tmp_path / "odd.txt").read_text("utf-8").splitlines()
    assert lines == ["<pad>", r"\n", '""', '" a"', r"\\", r"\ud800", r"\u2028"]


@given(st.lists(st.text(max_size=4), min_size=1, max_size=12), st.data())
def test_every_vocabulary_survives_tokens_json(texts: list[str], data: st.DataObject) -> None:
    tokens = tuple(f"{number}{text}" for number, text in enumerate(texts))
    try:
        vocabulary = Vocabulary(
            tokens,
            blank=data.draw(st.integers(0, len(tokens) - 1)),
            word_delimiter=data.draw(st.sampled_from([None, *tokens])),
            texts=tuple(texts),
            special=data.draw(st.frozensets(st.integers(0, len(tokens) - 1))),
        )
    except LpaError:  # two tokens that are the same text
        return
    content = json.loads(json.dumps(vocabulary.to_json()))
    assert Vocabulary.from_json(content, "tokens.json") == vocabulary


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tokens": None}, "expected a list of tokens"),
        ({"tokens": [{"token": "A"}]}, "expected a list of tokens"),
        ({"tokens": [{"token": "A", "text": 3}]}, "expected a list of tokens"),
        ({"blank": "0"}, "expected the blank's id"),
        ({"blank": 99}, r"blank id must lie in 0\.\.28, found 99"),
        ({"word_delimiter": 1}, "word delimiter or null"),
        ({"word_delimiter": "?"}, r"no word delimiter '\?'"),
        ({"spelling": "morse"}, "spelling must be one of characters, words, tokenizer"),
    ],
)
def test_a_damaged_tokens_json_is_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(LpaError, match=rf"^tokens\.json: .*{problem}"):
        Vocabulary.from_json(SHIPPED.to_json() | change, "tokens.json")


def test_files_that_are_no_tokens_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with pytest.raises(LpaError, match="expected a vocabulary file, found none"):
        Vocabulary.read(path)
    for content, problem in ((b"\xff\xfe", "UTF-8"), (b"{", "expected JSON"), (b"[]", "a list of")):
        path.write_bytes(content)
        with pytest.raises(LpaError, match=problem):
            Vocabulary.read(path)


def test_a_blank_or_delimiter_that_is_not_there_is_refused() -> None:
    with pytest.raises(LpaError, match=r"blank id must lie in 0\.\.1, found 2"):
        Vocabulary(("<pad>", "|"), blank=2)
    with pytest.raises(LpaError, match="no word delimiter"):
        Vocabulary(("<pad>", "A"))
    with pytest.raises(LpaError, match="every token must be there once"):
        Vocabulary(("<pad>", "|", "A", "A"))


def test_pieces_of_words_have_their_words_and_times() -> None:
    tokens = ("<pad>", "\u2581the", "\u2581c", "at", "s")
    vocabulary = Vocabulary(tokens, word_delimiter=None, texts=("", " the", " c", "at", "s"))
    logits = one_hot([0, 1, 1, 0, 2, 3, 3, 0, 3, 4, 0], 5)
    assert greedy_text(logits, vocabulary) == "the catats"
    words = word_times(logits, vocabulary, hop_seconds=1.0)
    assert [(word.text, word.start, word.end) for word in words] == [
        ("the", 1.0, 3.0),
        ("catats", 4.0, 10.0),
    ]


def test_outputs_without_a_name_merge_with_the_unknown_token_they_stand_for() -> None:
    tokens = ("<pad>", "|", "a", "<unk>", "<unk>", "<unk>")
    vocabulary = Vocabulary(tokens, special=frozenset({3, 4, 5}))
    assert greedy_text(one_hot([2, 4, 3, 5, 0, 4, 2], 6), vocabulary) == "a<unk><unk>a"


# Texts brought to the vocabulary's letters.

LOWER = LETTERS.lower()
VOCABULARIES = {
    "English upper": LETTERS + "'",
    "English lower": LOWER + "'",
    "both cases": LETTERS + LOWER,
    "some letters in both cases": "ABabcdEF",
    "Turkish lower": "abcçdefgğhıijklmnoöprsştuüvyz",
    "Turkish upper": "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ",
    "Greek": "αβγδεζηθικλμνξοπρςστυφχψω",
    "German": LOWER + "äöüß",
    "right quote": LETTERS + "\u2019",
    "modifier letter": LOWER + "\u02bc",
    "several apostrophes": LETTERS + "\u2019\u02bc'",
    "two odd apostrophes": LETTERS + "\u2019\u02bc",
    "accents composed": LOWER + "\u00e9\u00e0",
    "accents apart": LOWER + "\u0301\u0300",
    "Arabic": "ابتث",
}


def of(letters: str) -> Vocabulary:
    """A vocabulary of these letters, named or given."""
    return Vocabulary(("[PAD]", "|", "[UNK]", *VOCABULARIES.get(letters, letters)))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_each_token_is_spelled_with_itself(name: str) -> None:
    vocabulary = of(name)
    for index in range(3, len(vocabulary)):
        assert vocabulary.encode(vocabulary.decode([index])) == [index]


# Letters that Unicode, or a change of case, brings together with another one.
ALIKE = "aAiI\u0131\u0130kK\u212a\u03c3\u03c2\u03a3s\u00df\u1e9e\u00e5\u00c5\u212b'\u2019\u02bc"
LETTER = st.sampled_from(ALIKE) | st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])


@given(st.lists(LETTER, unique=True))
def test_each_token_of_any_vocabulary_is_spelled_with_itself(letters: list[str]) -> None:
    vocabulary = of("".join(letter for letter in letters if letter != "|"))
    for index in range(3, len(vocabulary)):
        assert vocabulary.encode(vocabulary.texts[index]) == [index]


def says(name: str, text: str) -> str:
    """The text as a vocabulary spells it."""
    return of(name).decode(of(name).encode(text))


def test_case_changes_only_where_it_merges_no_two_letters() -> None:
    assert says("English upper", "don't") == "DON'T"
    assert says("English lower", "DON'T") == "don't"
    assert says("both cases", "aBc") == "aBc"
    assert says("Turkish lower", "ıi ÇAY") == "ıi çay"
    assert says("Turkish upper", "Iİ çay") == "Iİ ÇAY"
    assert says("German", "STRASSE straße") == "strasse straße"
    assert says("Greek", "ας Ας") == "ας ας"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Turkish lower", "I"),
        ("Turkish lower", "İ"),
        ("Turkish upper", "i"),
        ("Turkish upper", "ı"),
        ("Greek", "Σ"),
        ("English upper", "ı"),
        ("English upper", "ß"),
        ("both cases", "É"),
        ("some letters in both cases", "C"),
    ],
)
def test_a_letter_that_could_be_two_is_refused_not_guessed(name: str, text: str) -> None:
    with pytest.raises(LpaError, match="outside the vocabulary"):
        of(name).encode(text)


def test_every_apostrophe_becomes_the_one_that_the_vocabulary_has() -> None:
    for mark in "'\u2019\u2018\u02bc\u2032\u00b4`\uff07":
        assert says("English upper", f"it{mark}s") == "IT'S"
        assert says("right quote", f"it{mark}s") == "IT\u2019S"
        assert says("modifier letter", f"it{mark}s") == "it\u02bcs"
    assert says("several apostrophes", "\u2019\u02bc'`") == "\u2019\u02bc''"
    assert says("two odd apostrophes", "\u2019\u02bc") == "\u2019\u02bc"
    with pytest.raises(LpaError, match="outside the vocabulary"):
        says("two odd apostrophes", "'")


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert says("accents composed", "cafe\u0301") == "caf\u00e9"
    apart = of("accents apart")
    assert apart.encode("caf\u00e9") == apart.encode("cafe\u0301")
    assert apart.normalise(says("accents apart", "caf\u00e9")) == apart.normalise("caf\u00e9")
    decomposed = Vocabulary(("<pad>", "|", "e\u0301"))
    assert decomposed.encode("\u00e9") == decomposed.encode("e\u0301") == [2]


def test_two_tokens_that_are_one_in_nfc_keep_their_forms_apart() -> None:
    vocabulary = Vocabulary(("<pad>", "|", "\u00e9", "e\u0301", "e"))
    assert vocabulary.encode("\u00e9") == [2]
    assert vocabulary.encode("e\u0301") == [3]
    assert vocabulary.rule.unicode is None


def test_the_rule_is_named_with_its_parameters() -> None:
    assert SHIPPED.rule.to_json() == {
        "name": "lpa-text",
        "version": "2",
        "parameters": {"unicode": "NFC", "apostrophes": "'", "case": "upper", "ambiguous": []},
    }
    assert of("Turkish lower").rule.ambiguous == ("i",)
    assert NORMALISER == "lpa-text/2"
