"""The bootstrap: paired, against a loop that draws one utterance at a time, and of times."""

import numpy as np
import pytest

from lpa_export.measures.bootstrap import mean_difference, paired_difference, ratio_of_medians

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


def test_a_ratio_of_steady_times_has_no_width_and_one_of_unsteady_times_has() -> None:
    steady = ratio_of_medians([[3.0, 3.0], [3.0]], [[2.0], [2.0, 2.0]])
    assert (steady.low, steady.high) == (1.5, 1.5)
    generator = np.random.default_rng(1)
    theirs, ours = (mean + 0.1 * generator.standard_normal((5, 9)) for mean in (4.0, 2.0))
    wide = ratio_of_medians(theirs.tolist(), ours.tolist())
    assert 1.8 < wide.low < float(np.median(theirs) / np.median(ours)) < wide.high < 2.2


def test_processes_that_differ_widen_the_ratio_more_than_runs_that_do() -> None:
    """The same times, those of a process alike or not: the draw is of three processes."""
    by_process = [[1.0] * 31, [2.0] * 31, [3.0] * 31]
    by_run = [np.linspace(1.0, 3.0, 31).tolist()] * 3
    wide, narrow = (ratio_of_medians(times, [[1.0]]) for times in (by_process, by_run))
    assert narrow.high - narrow.low < 1.0
    assert (wide.low, wide.high) == (1.0, 3.0)


def test_a_ratio_needs_times_on_both_sides() -> None:
    for times, reference in (([], [[1.0]]), ([[1.0]], [[]])):
        with pytest.raises(ValueError, match="both sides"):
            ratio_of_medians(times, reference)


def test_the_interval_of_a_difference_of_means_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    reference = rng.normal(5.0, 3.0, 80)
    values = reference + rng.normal(0.4, 1.0, 80)
    found = mean_difference(values, reference)
    expected = stats.bootstrap(
        (values - reference,), np.mean, method="percentile", n_resamples=9999, rng=rng
    ).confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.03)
    assert found.high == pytest.approx(expected.high, abs=0.03)
