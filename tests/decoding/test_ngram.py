"""N-gram models: against a slow computation of the formula, and as KenLM reads the file."""

import gzip
import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lpa_export.decoding.ngram import BEGIN, END, FALLBACK, UNKNOWN, coverage, estimate, main
from lpa_export.errors import LpaError

from ..conftest import REPOSITORY
from .conftest import sentences

Gram = tuple[str, ...]
WORDS = [f"W{index}" for index in range(20)]
SHIPPED = REPOSITORY / "recipes" / "librispeech-small" / "words.arpa.gz"


class Slow:
    """p(w | h) by the formula, counting anew for each; unknown words have what is left at last."""

    def __init__(self, texts: Sequence[Gram], order: int, drop: Sequence[int]) -> None:
        self.texts = [(BEGIN, *text, END) for text in texts]
        self.order, self.drop = order, (0, *drop)
        self.grams = {n: self._all(n) for n in range(1, order + 1)}
        self.counted: dict[Gram, int] = {}
        self.d = {n: self._d(n) for n in range(1, order + 1)}

    def _all(self, n: int) -> list[Gram]:
        return [text[i : i + n] for text in self.texts for i in range(len(text) - n + 1)]

    def a(self, gram: Gram) -> int:
        if gram not in self.counted:
            n = len(gram)
            raw = n == self.order or gram[0] == BEGIN
            before = () if raw else {long[0] for long in self.grams[n + 1] if long[1:] == gram}
            self.counted[gram] = self.grams[n].count(gram) if raw else len(before)
        return self.counted[gram]

    def _d(self, n: int) -> tuple[float, ...]:
        kinds = [self.a(gram) for gram in set(self.grams[n]) if gram != (BEGIN,)]
        t = [kinds.count(k) for k in range(5)]
        if 0 in t[1:]:
            return FALLBACK
        y = t[1] / (t[1] + 2 * t[2])
        found = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
        return found if all(0 < x < k for k, x in enumerate(found, 1)) else FALLBACK

    def p(self, word: str, history: Gram) -> float:
        n = len(history) + 1
        behind = {gram[-1]: self.a(gram) for gram in self.grams[n] if gram[:-1] == history}
        behind.pop(BEGIN, None)
        if not behind:
            return self.p(word, history[1:])
        total = sum(behind.values())
        shares = {
            w: (count - self.d[n][min(count, 3) - 1]) / total
            for w, count in behind.items()
            if n == 1 or self.grams[n].count((*history, w)) > self.drop[n - 1]
        }
        left = 1 - sum(shares.values())
        if n == 1:
            return left if word == UNKNOWN else shares[word]
        return shares.get(word, 0.0) + left * self.p(word, history[1:])


def kenlm(path: Path, words: list[str]) -> Any:
    """A function of a history and a word: the probability that KenLM reads out of the file."""
    reason = "the extra lm is not installed"
    model_of = pytest.importorskip("flashlight.lib.text.decoder.kenlm", reason=reason).KenLM
    entries = pytest.importorskip("flashlight.lib.text.dictionary").Dictionary()
    for word in words:
        entries.add_entry(word)
    model = model_of(str(path), entries)

    def p(word: str, history: Iterable[str]) -> float:
        state = model.start(True)
        for said in history:
            state = (
                model.start(False) if said == BEGIN else model.score(state, words.index(said))[0]
            )
        _, found = model.finish(state) if word == END else model.score(state, words.index(word))
        return float(10**found)

    return p


@pytest.mark.parametrize(
    ("count", "drop"), [(4, (0, 0)), (100, (0, 0)), (100, (0, 1)), (100, (1, 2))]
)
def test_kenlm_reads_the_formulas_probabilities_out_of_the_file(
    tmp_path: Path, count: int, drop: tuple[int, ...]
) -> None:
    """Four sentences are too few to estimate discounts by."""
    texts = sentences(1, WORDS[:12], count)
    model = estimate(texts, order=3, drop=drop)
    model.write(tmp_path / "m.arpa.gz")
    slow = Slow(texts, 3, drop)
    assert (set(model.discounts) == {FALLBACK}) == (count == 4)
    known = sorted(model.words)
    words = [*known, UNKNOWN]
    p = kenlm(tmp_path / "m.arpa.gz", words)
    histories: list[Gram] = [(BEGIN,), *((word,) for word in known[:2])]
    histories += [(BEGIN, word) for word in known[:2]]
    histories += product(known[:2], known[1:3])
    for history in histories:
        for word in (*words, END):
            assert p(word, history) == pytest.approx(slow.p(word, history), rel=1e-4), (
                word,
                history,
            )


@pytest.mark.parametrize("drop", [(), (0, 1), (2, 2)])
def test_for_every_history_the_probabilities_sum_to_one(
    tmp_path: Path, drop: tuple[int, ...]
) -> None:
    """Of those never seen too, and behind unknown words."""
    model = estimate(sentences(2, WORDS), order=3, drop=drop)
    model.write(tmp_path / "m.arpa")
    words = [*sorted(model.words), UNKNOWN]
    p = kenlm(tmp_path / "m.arpa", words)
    for history in [(BEGIN,), *product(words, words[::3]), *((BEGIN, word) for word in words)]:
        assert sum(p(word, history) for word in (*words, END)) == pytest.approx(1, abs=1e-4)


def test_what_was_never_seen_is_as_likely_as_discounts_leave() -> None:
    """A is behind <s> alone, B behind <s> and A, C behind A, </s> behind B and C."""
    model = estimate([("A", "B"), ("A", "C"), ("B",)], order=2)
    one, two, _ = model.discounts[0]
    seen = 2 * (1 - one) + 2 * (2 - two)
    assert 10 ** model.orders[0][(UNKNOWN,)] == pytest.approx(1 - seen / 6)


@pytest.mark.parametrize("order", [1, 7])
def test_an_order_that_kenlm_does_not_read_is_refused(order: int) -> None:
    with pytest.raises(LpaError, match="2 to 6 words"):
        estimate([("A", "B")], order=order)


@pytest.mark.parametrize("order", [2, 6])
def test_kenlm_reads_the_shortest_and_the_longest(tmp_path: Path, order: int) -> None:
    estimate(sentences(1, WORDS), order=order).write(tmp_path / "m.arpa")
    assert 0 < kenlm(tmp_path / "m.arpa", WORDS)("W0", ()) < 1


@pytest.mark.parametrize(
    ("texts", "drop", "message"),
    [
        ([], (), "at least one sentence with a word"),
        ([()], (), "at least one sentence with a word"),
        ([("A", "<s>")], (), "<s>: a mark of language models"),
        ([("A",)], (2, 1), "must not fall"),
        ([("A",)], (0, 1, 1), "with 2 entries at most"),
    ],
)
def test_what_no_model_can_be_made_of(
    texts: list[Gram], drop: tuple[int, ...], message: str
) -> None:
    with pytest.raises(LpaError, match=message):
        estimate(texts, drop=drop)


def test_the_command_counts_a_text_once_and_says_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\nthe cat sat\n\nA dog\u2019s bone\n")
    (tmp_path / "b.txt").write_text("THE CAT BARKED\nA BIRD\n")
    outs = [tmp_path / name for name in ("one.arpa.gz", "two.arpa.gz", "plain.arpa")]
    for out in outs:
        code = main([str(tmp_path / "a.txt"), "--test", str(tmp_path / "b.txt"), "--out", str(out)])
        assert code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    said = capsys.readouterr().out
    assert "texts      2, 6 words" in said
    assert "b.txt: 2 of 5 words unknown, 40.00 %" in said
    assert "\tDOG'S\t" in outs[2].read_text()


def test_a_source_without_a_word_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    assert main([str(tmp_path / "a.txt"), "--out", str(tmp_path / "m.arpa")]) == 2
    assert main([str(tmp_path / "none.txt"), "--out", str(tmp_path / "m.arpa")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "m.arpa").exists()


def test_the_model_that_ships_is_made_by_the_command_on_its_page(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (SHIPPED.parent / "words.md").read_text("utf-8")
    command = page.partition("```\n")[2].partition("```")[0].replace("\\\n", " ").split()
    assert command[:3] == ["python", "-m", "lpa_export.decoding.ngram"]
    out = tmp_path / "words.arpa.gz"
    arguments = [
        str(shared_data / word) if word.endswith(".jsonl") else word for word in command[3:-1]
    ]
    assert main([*arguments, str(out)]) == 0
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(SHIPPED.read_bytes())
    assert SHIPPED.stat().st_size < 1_500_000
    numbers = re.findall(r"\d[\d,.]*\d", capsys.readouterr().out.partition("\n")[2])
    stated = page.replace(" %", "").replace("4,479", "4479")
    assert len(numbers) == 8 and [item for item in numbers if item not in stated] == []


def test_unknown_words_are_counted_where_they_run() -> None:
    found = coverage(estimate([("A", "B")]), [("A", "X", "X"), ("B",)])
    assert (found.words, found.unknown, found.share) == (4, 2, 50.0)
