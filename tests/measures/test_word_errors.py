"""Word errors against counts made by hand."""

import pytest

from lpa_export.formats.text import Vocabulary, normalise_text
from lpa_export.measures.word_errors import count_errors

# Text, transcript, and what a person counts: substitutions, deletions, insertions.
CASES = [
    ("one two three", "one two three", (0, 0, 0)),
    ("one two three", "one too three", (1, 0, 0)),
    ("one two three", "one three", (0, 1, 0)),
    ("one two three", "one and two three", (0, 0, 1)),
    ("one two three", "", (0, 3, 0)),
    ("One  TWO don\u2019t", "one two don't", (0, 0, 0)),
    ("caf\u00e9 noir", "cafe\u0301 noir", (0, 0, 0)),
    ("caf\u00e9 noir", "cafe noir", (1, 0, 0)),
    ("", "nobody spoke", (0, 0, 2)),
    ("a b c d", "b c d e f", (0, 1, 2)),
]


@pytest.mark.parametrize(("text", "transcript", "counts"), CASES)
def test_each_kind_of_error_is_counted_as_by_hand(
    text: str, transcript: str, counts: tuple[int, int, int]
) -> None:
    found = count_errors(["yes", text], ["yes", transcript], normalise_text)
    assert (found.substitutions, found.deletions, found.insertions) == counts
    assert found.per_utterance == (0, sum(counts))


def test_the_rate_is_over_all_words_not_the_mean_of_rates() -> None:
    texts = ["one", "one two three four five six seven eight nine"]
    found = count_errors(texts, ["two", texts[1]], normalise_text)
    assert found.words == 10
    assert found.wer == pytest.approx(10.0)


def test_a_transcript_longer_than_its_text_is_not_trimmed() -> None:
    assert count_errors(["one"], ["one two three"], normalise_text).wer == pytest.approx(200.0)


def test_texts_without_a_word_have_no_rate() -> None:
    with pytest.raises(ValueError, match="at least one reference word"):
        count_errors(["", ""], ["a", "b"], normalise_text)


def test_words_that_a_vocabulary_tells_apart_are_not_the_same_word() -> None:
    """Turkish has an i with a dot, and one without."""
    normalise = Vocabulary(("<pad>", "|", *"abikl\u0131")).normalise
    said = ["bal\u0131k", "ali"]
    assert count_errors(said, ["balik", "al\u0131"], normalise).wer == pytest.approx(100.0)
    assert count_errors(said, ["BAL\u0131K", "ALi"], normalise).wer == 0.0
