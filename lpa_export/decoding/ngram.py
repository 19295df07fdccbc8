"""An n-gram model of words from texts: interpolated modified Kneser-Ney, as a back-off table.

Chen and Goodman (1999) with three discounts an order, as lmplz has them, but for one thing: what
discounting leaves of the unigrams is the probability of an unknown word, <unk>, and is not spread
over the known ones. So for every history the probabilities of all known words, of </s> and of <unk>
sum to 1, and <unk> is as likely as a word that was not seen before is.

    p(w | h) = max(a(hw) - D(a(hw)), 0) / sum_v a(hv) + b(h) p(w | h'),    h' is h without its first

a: counts for the longest n-grams and those that begin a sentence, else in how many contexts a word
was seen. b(h) is what keeps the sum at 1. Rare n-grams are dropped by their counts; their mass goes
to b(h).
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpa_export.cli import count, describe, run_command, whole
from lpa_export.errors import LpaError
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import normalise_text

__all__ = ["BEGIN", "END", "UNKNOWN", "BackOff", "Coverage", "coverage", "estimate", "read_texts"]

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

LONGEST = 6
"""Words of the longest n-gram that KenLM takes; it takes no model of single words either."""

FALLBACK = (0.5, 1.0, 1.5)
"""The discounts where there are too few n-grams to estimate them by: those of lmplz."""

NGram = tuple[str, ...]
Counts = Mapping[NGram, int]


@dataclass(frozen=True)
class BackOff:
    """log10 probabilities by n-gram, an order each from 1 on, and log10 back-off weights.

    A weight that is not there is 0. `discounts` are those of each order for counts of 1, 2 and
    more; `sentences` were counted.
    """

    orders: tuple[Mapping[NGram, float], ...]
    weights: Mapping[NGram, float]
    discounts: tuple[tuple[float, ...], ...]
    sentences: int

    @property
    def words(self) -> frozenset[str]:
        """The known words, without the marks of a sentence and of an unknown word."""
        return frozenset(gram[0] for gram in self.orders[0]) - {BEGIN, END, UNKNOWN}

    def write(self, path: Path | str) -> None:
        """Write as an ARPA file, compressed where the name ends in .gz; the same bytes each time.

        Raises OSError.
        """
        path = Path(path)
        data = self._arpa().encode()
        path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)

    def _arpa(self) -> str:
        lines = ["\\data\\"]
        lines += [f"ngram {n}={len(grams)}" for n, grams in enumerate(self.orders, 1)]
        for n, grams in enumerate(self.orders, 1):
            lines += ["", f"\\{n}-grams:"]
            for gram in sorted(grams):
                weight = self.weights.get(gram)
                tail = "" if weight is None else f"\t{weight:.5f}"
                lines.append(f"{grams[gram]:.5f}\t{' '.join(gram)}{tail}")
        return "\n".join([*lines, "", "\\end\\", ""])


def estimate(
    texts: Iterable[Sequence[str]], *, order: int = 3, drop: Sequence[int] = ()
) -> BackOff:
    """The model of sentences, given as their words.

    `drop`: n-grams from 2 on that occur so often or less are left out, an entry an order; missing
    entries are 0. Raises LpaError for an order that KenLM does not read, no sentence, a sentence's
    mark used as a word, and where `drop` falls from one order to the next: longer n-grams would
    lose what they end in.
    """
    if not 2 <= order <= LONGEST:
        raise LpaError(f"the longest n-gram must have 2 to {LONGEST} words, found {order}")
    drop = [0, *drop, *[0] * (order - 1 - len(drop))]
    if len(drop) > order or drop != sorted(drop):
        raise LpaError(
            f"what is dropped must not fall from order to order, with {order - 1} entries at "
            f"most, found {','.join(map(str, drop[1:]))}"
        )
    sentences = [tuple(text) for text in texts]
    if not any(sentences):
        raise LpaError("a language model needs at least one sentence with a word")
    marks = {BEGIN, END, UNKNOWN} & {word for sentence in sentences for word in sentence}
    if marks:
        raise LpaError(f"{', '.join(sorted(marks))}: a mark of language models, found in a text")
    occurring = [_occurring(sentences, n) for n in range(1, order + 1)]
    orders: list[dict[NGram, float]] = []
    weights: dict[NGram, float] = {}
    discounts = []
    for n, counts in enumerate(occurring, 1):
        adjusted = counts if n == order else _adjusted(counts, occurring[n])
        adjusted = {gram: found for gram, found in adjusted.items() if gram != (BEGIN,)}
        discounts.append(_discounts(adjusted.values()))
        kept = {gram for gram, found in counts.items() if n == 1 or found > drop[n - 1]}
        shares = _discounted(adjusted, discounts[-1], kept)
        left: defaultdict[NGram, float] = defaultdict(lambda: 1.0)
        for gram, share in shares.items():
            left[gram[:-1]] -= share
        if n == 1:
            orders.append({**shares, (UNKNOWN,): left[()]})
            continue
        shorter = orders[-1]
        orders.append(
            {gram: share + left[gram[:-1]] * shorter[gram[1:]] for gram, share in shares.items()}
        )
        weights.update(left)
    logs = [{gram: math.log10(p) for gram, p in grams.items()} for grams in orders]
    logs[0][(BEGIN,)] = -99.0  # by custom: a sentence's begin is never predicted
    return BackOff(
        tuple(logs),
        {history: math.log10(weight) for history, weight in weights.items()},
        tuple(discounts),
        len(sentences),
    )


def _occurring(sentences: Iterable[NGram], n: int) -> Counter[NGram]:
    found: Counter[NGram] = Counter()
    for sentence in sentences:
        marked = (BEGIN, *sentence, END)
        found.update(marked[at : at + n] for at in range(len(marked) - n + 1))
    return found


def _adjusted(counts: Counts, longer: Counts) -> dict[NGram, int]:
    """In how many contexts each was seen; of those that begin a sentence how often."""
    contexts = Counter(gram[1:] for gram in longer)
    return {gram: counts[gram] if gram[0] == BEGIN else contexts[gram] for gram in counts}


def _discounts(counts: Iterable[int]) -> tuple[float, ...]:
    """What is taken from counts of 1, 2, and 3 or more."""
    times = Counter(counts)
    one, two, three, four = (times[k] for k in (1, 2, 3, 4))
    if not (one and two and three and four):
        return FALLBACK
    share = one / (one + 2 * two)
    found = (
        1 - 2 * share * two / one,
        2 - 3 * share * three / two,
        3 - 4 * share * four / three,
    )
    return found if all(0 < d < k for k, d in enumerate(found, 1)) else FALLBACK


def _discounted(
    adjusted: Counts, discounts: Sequence[float], kept: set[NGram]
) -> dict[NGram, float]:
    """The kept n-grams' discounted shares of all that follows their histories."""
    totals: Counter[NGram] = Counter()
    for gram, found in adjusted.items():
        totals[gram[:-1]] += found
    return {
        gram: (found - discounts[min(found, 3) - 1]) / totals[gram[:-1]]
        for gram, found in adjusted.items()
        if gram in kept
    }


def read_texts(source: Path) -> list[NGram]:
    """The words of each text of a manifest, a LibriSpeech folder, or a .txt with one a line.

    By the rule of `normalise_text`; texts without a word are left out. Raises LpaError for a
    source that cannot be read.
    """
    if source.suffix == ".txt":
        try:
            texts = source.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LpaError(f"{source}: expected text in UTF-8, cannot read it ({error})") from error
    else:
        texts = [utterance.text for utterance in load_utterances(source)]
    return [words for text in texts if (words := tuple(normalise_text(text).split()))]


@dataclass(frozen=True)
class Coverage:
    """Of so many running words of a test set how many the model does not know."""

    words: int
    unknown: int

    @property
    def share(self) -> float:
        """Percent of the words that are unknown."""
        return 100 * self.unknown / self.words


def coverage(model: BackOff, texts: Iterable[NGram]) -> Coverage:
    """How much of some texts, one at least, the model's words are."""
    known = model.words
    words = [word for text in texts for word in text]
    return Coverage(len(words), sum(word not in known for word in words))


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags: the arguments of :func:`estimate`, what to read and where to write."""
    describe(
        parser,
        "Make a language model of words, an ARPA file, from the texts of manifests. A text that is "
        "there several times counts once: several people read it, nobody wrote it again.",
        examples=(
            "python -m lpa_export.decoding.ngram train.jsonl --out lm.arpa.gz",
            "python -m lpa_export.decoding.ngram book.txt --test dev.jsonl --out lm.arpa",
        ),
        interrupted="nothing was written",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="MANIFEST|DIR|TXT",
        help="speech whose texts are taken, or a .txt file with a sentence a line",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".arpa or .arpa.gz")
    parser.add_argument(
        "--order", type=count, default=3, metavar="N", help="words in the longest n-gram (3)"
    )
    parser.add_argument(
        "--drop",
        type=_counts,
        default=(),
        metavar="LIST",
        help="leave out n-grams that occur so often or less: for 2, 3, ... words, as 0,1",
    )
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST|DIR|TXT",
        help="count the words there that the model does not know",
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(part) for part in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command("python -m lpa_export.decoding.ngram", configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    texts = dict.fromkeys(text for source in arguments.sources for text in read_texts(source))
    tests = {source: read_texts(source) for source in arguments.test}
    for source, found in tests.items():
        if not found:
            raise LpaError(f"{source}: no words to test with")
    model = estimate(texts, order=arguments.order, drop=arguments.drop)
    model.write(arguments.out)
    grams = ", ".join(f"{len(found):,} of {n}" for n, found in enumerate(model.orders, 1))
    size = arguments.out.stat().st_size
    print(f"wrote {arguments.out}, {size / 1e6:.2f} MB")
    print(f"  texts      {model.sentences:,}, {sum(map(len, texts)):,} words")
    print(f"  n-grams    {grams}")
    for source, found in tests.items():
        seen = coverage(model, found)
        print(f"  {source.name}: {seen.unknown} of {seen.words} words unknown, {seen.share:.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
