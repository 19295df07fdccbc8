"""How many words a gate on words needs, and what so few cannot tell."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lpa_validate.checks.wer import decides, words_to_judge
from lpa_validate.report import Report

from lpa_export.formats.bundle import Bundle
from lpa_export.measures.bootstrap import Interval, paired_difference

Make = Callable[..., Bundle]
Run = Callable[..., Report]


@pytest.mark.parametrize(("gate", "words"), [(0.3, 334), (0.1, 1000), (0.5, 200), (0.0, 1)])
def test_one_word_of_so_many_keeps_to_the_gate_and_of_one_fewer_does_not(
    gate: float, words: int
) -> None:
    assert words_to_judge(gate) == words
    if gate:
        assert 100 / words <= gate < 100 / (words - 1)


@pytest.mark.parametrize(
    ("errors", "words", "gate", "decided"),
    [
        (1, 271, 0.3, False),  # int8 on the demo speech: 0.37 points, by a single word
        (0, 271, 0.3, True),
        (-1, 271, 0.3, True),
        (40, 271, 0.3, True),  # so many that chance cannot be it
        (1, 334, 0.3, True),
        (1, 271, 0.0, True),  # no word may differ
    ],
)
def test_too_few_words_leave_open_only_what_they_cannot_tell(
    errors: int, words: int, gate: float, decided: bool
) -> None:
    """Utterances of one word each; the artifact gets the first ones wrong, the reference none."""
    worse = np.zeros(words, int)
    worse[: abs(errors)] = 1
    artifact, reference = (worse, 0 * worse) if errors > 0 else (0 * worse, worse)
    interval = paired_difference(artifact, reference, np.ones(words, int))
    assert decides(100 * errors / words, interval, words, gate) is decided


def test_a_word_too_many_in_little_speech_reads_not_judged(
    make_bundle: Make, run: Run, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of ten words are lost: 20 points, but the interval begins at none."""
    bundle = make_bundle(gates={"wer_difference_points": 0.3})
    real = type(reference).text
    heard = {"ONE TWO": "ONE", "NEW YORK CITY": "NEW YORK"}
    monkeypatch.setattr(
        "lpa_validate.evaluation.transcript",
        lambda logits, vocabulary: heard.get(found := real(reference, logits), found),
    )
    check = run(bundle, "wer", reference=reference).check("wer-difference")
    assert check.status == "unjudged"
    assert "10 words are too few to judge a gate of 0.3 points" in check.reason
    assert "334 words or more" in check.reason
    assert check.figure("WER difference").ok is None
    assert check.figure("WER difference").value == pytest.approx(20)


def test_an_interval_beyond_the_gate_fails_however_few_the_words() -> None:
    assert decides(20.0, Interval(5.0, 30.0, 1, 1), 9, 0.3)
