"""The paired bootstrap against a loop that draws one utterance at a time."""

import numpy as np
import pytest

from lpa_export.measures.bootstrap import paired_difference

ERRORS = [3, 0, 2, 5, 1, 0, 0, 4]
REFERENCE = [2, 0, 2, 4, 1, 1, 0, 4]
WORDS = [9, 4, 7, 11, 3, 5, 0, 8]


def test_the_interval_is_that_of_a_slow_loop_over_the_same_draws() -> None:
    generator = np.random.default_rng(5)
    picks = generator.integers(0, len(WORDS), (300, len(WORDS)))
    differences = []
    for row in picks.tolist():
        ours = sum(ERRORS[i] for i in row)
        theirs = sum(REFERENCE[i] for i in row)
        words = sum(WORDS[i] for i in row)
        differences.append(100 * ours / words - 100 * theirs / words)
    differences.sort()
    found = paired_difference(ERRORS, REFERENCE, WORDS, resamples=300, seed=5)
    assert differences[6] <= found.low <= differences[8]
    assert differences[291] <= found.high <= differences[293]


def test_equal_systems_have_an_interval_of_zero() -> None:
    found = paired_difference(ERRORS, ERRORS, WORDS)
    assert (found.low, found.high) == (0.0, 0.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert paired_difference(ERRORS, REFERENCE, WORDS) == paired_difference(
        ERRORS, REFERENCE, WORDS
    )


def test_the_interval_covers_the_known_normal_one_for_many_utterances() -> None:
    generator = np.random.default_rng(0)
    words = np.full(4_000, 10)
    errors = generator.binomial(10, 0.2, 4_000)
    reference = generator.binomial(10, 0.1, 4_000)
    found = paired_difference(errors, reference, words)
    spread = 100 * (errors - reference).std() / 10 / np.sqrt(4_000)
    centre = 100 * (errors - reference).mean() / 10
    assert found.low == pytest.approx(centre - 1.96 * spread, abs=0.1 * spread)
    assert found.high == pytest.approx(centre + 1.96 * spread, abs=0.1 * spread)


def test_large_test_sets_are_drawn_in_blocks_of_the_same_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = paired_difference(ERRORS, REFERENCE, WORDS, resamples=50)
    monkeypatch.setattr("lpa_export.measures.bootstrap._BLOCK", 3 * len(WORDS))
    assert paired_difference(ERRORS, REFERENCE, WORDS, resamples=50) == whole


@pytest.mark.parametrize("words", [[0] * 8, [1, 2]])
def test_no_words_or_other_shapes_are_refused(words: list[int]) -> None:
    with pytest.raises(ValueError, match=r"word|shapes"):
        paired_difference(ERRORS, REFERENCE, words)
