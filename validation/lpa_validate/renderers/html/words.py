"""Transcripts one below the other, word under word."""

from collections.abc import Sequence
from itertools import zip_longest
from xml.etree.ElementTree import Element

import jiwer

from lpa_validate.renderers.html.elements import element

__all__ = ["aligned", "words_table"]

Row = tuple[str, ...]


def words_table(said: str, reference: str | None, artifact: str) -> Element:
    """What was said, what both models heard: a column per word, differences marked."""
    heard = (
        {"artifact": artifact}
        if reference is None
        else {
            "reference": reference,
            "artifact": artifact,
        }
    )
    rows = aligned(said, tuple(heard.values()))
    truth, others = rows[0], rows[1:]
    return element(
        "table",
        element("tr", element("th", "said"), *(element("td", word) for word in truth)),
        *(
            element("tr", element("th", name), *map(_cell, row, truth))
            for name, row in zip(heard, others, strict=True)
        ),
        class_="words",
    )


def aligned(said: str, heard: Sequence[str]) -> tuple[Row, ...]:
    """``said`` and each of ``heard`` as rows of as many cells, "" where a row has no word.

    Each is aligned with ``said`` alone, by the fewest word errors; case and punctuation at the
    ends of words do not part them.
    """
    truth = said.split()
    places = [_placed(truth, text.split()) for text in heard]
    columns: list[Row] = []
    for index in range(len(truth) + 1):
        more = [added.get(index, []) for _, added in places]
        columns += [("", *cells) for cells in zip_longest(*more, fillvalue="")]
        if index < len(truth):
            columns.append((truth[index], *(under.get(index, "") for under, _ in places)))
    return tuple(zip(*columns, strict=True)) or ((),) * (1 + len(heard))


def _placed(
    truth: Sequence[str], words: Sequence[str]
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Which words of one transcript stand under each word of the truth, and which before it."""
    under: dict[int, str] = {}
    added: dict[int, list[str]] = {}
    if not truth:
        return under, {0: list(words)}
    result = jiwer.process_words([" ".join(map(_key, truth))], [" ".join(map(_key, words))])
    for chunk in result.alignments[0]:
        found = words[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "insert":
            added.setdefault(chunk.ref_start_idx, []).extend(found)
        elif chunk.type != "delete":
            under |= dict(zip(range(chunk.ref_start_idx, chunk.ref_end_idx), found, strict=True))
    return under, added


def _key(word: str) -> str:
    return word.strip(".,;:!?\"'").casefold() or word


def _cell(word: str, truth: str) -> Element:
    same = _key(word) == _key(truth)
    return element("td", word or "·", **({} if same else {"class_": "changed"}))
