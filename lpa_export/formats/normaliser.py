"""Bringing texts to the letters of a vocabulary: a rule with a name, a version and parameters.

A word error rate means something only where both texts went through one stated rule, and labels
are right only where no two tokens fall together under it. So each step is taken only where it is
one to one on the vocabulary at hand; where it is not, the text stays as it was written.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

__all__ = ["NORMALISER", "TextRule", "normalise_text"]

NORMALISER = "lpa-text/2"
"""Name and version of :class:`TextRule`; WERs of different normalisers are not compared."""

# Typists, phones and e-books write the apostrophe of "don't" in all of these ways.
APOSTROPHES = "'\u2019\u2018\u02bc\u2032\u00b4`\uff07"


@dataclass(frozen=True)
class TextRule:
    """What is done to a text: Unicode form, apostrophes, case, single spaces, none at the ends.

    ``unicode``: the normal form, None to leave it. ``apostrophes``: the vocabulary's own; every
    other one becomes the first of them, none changes where this is empty. ``case``: that of the
    vocabulary's letters, None where it has both or none. ``ambiguous``: letters, in lower case,
    whose case is left alone, because the vocabulary tells apart what changing it would merge.
    """

    unicode: Literal["NFC"] | None = "NFC"
    apostrophes: str = "'"
    case: Literal["upper", "lower"] | None = "upper"
    ambiguous: tuple[str, ...] = ()

    @classmethod
    def of(cls, spellings: Iterable[str]) -> TextRule:
        """The rule for tokens spelled like this, each step as far as it is one to one on them."""
        spelled = set(spellings)
        composed = {unicodedata.normalize("NFC", spelling) for spelling in spelled}
        one_to_one = len(composed) == len(spelled)
        letters = set("".join(composed if one_to_one else spelled))
        own = "".join(mark for mark in APOSTROPHES if mark in letters)
        upper = any(letter != letter.lower() for letter in letters)
        lower = any(letter != letter.upper() for letter in letters)
        alike = defaultdict(set)
        for letter in letters:
            alike[_letter(letter)].add(letter)
        return cls(
            unicode="NFC" if one_to_one else None,
            # Of several, which one a foreign apostrophe stands for is known only for the plain one.
            apostrophes=own if len(own) < 2 or own[0] == "'" else "",
            case=None if upper == lower else "upper" if upper else "lower",
            ambiguous=tuple(sorted(key for key, found in alike.items() if len(found) > 1)),
        )

    def __call__(self, text: str) -> str:
        """The text under this rule."""
        return " ".join(self.characters(text).split())

    def characters(self, text: str) -> str:
        """The same with white space as it is."""
        if self.unicode:
            text = unicodedata.normalize(self.unicode, text)
        if self.apostrophes:
            text = text.translate(self._marks)
        if self.case:
            text = "".join(map(self._cased, text))
        return text

    def to_json(self) -> dict[str, Any]:
        """Name, version and parameters, as a manifest states them."""
        name, version = NORMALISER.split("/")
        parameters = asdict(self) | {"ambiguous": list(self.ambiguous)}
        return {"name": name, "version": version, "parameters": parameters}

    @cached_property
    def _marks(self) -> dict[int, str]:
        own = self.apostrophes
        return {ord(mark): own[0] for mark in APOSTROPHES if mark not in own}

    def _cased(self, letter: str) -> str:
        changed = letter.upper() if self.case == "upper" else letter.lower()
        if changed == letter or len(changed) > 1 or _letter(letter) in self.ambiguous:
            return letter
        back = changed.lower() if self.case == "upper" else changed.upper()
        # One to one, but for the sigma at the end of a word, which is the same letter.
        return changed if back == letter or letter == "\u03c2" else letter


def _letter(letter: str) -> str:
    """What a letter of either case is, in lower case; the dotted capital I counts as an i."""
    return letter.upper().lower().replace("\u0307", "") if letter != "\u0307" else letter


_PLAIN = TextRule()


def normalise_text(text: str) -> str:
    """The text under the rule for plain upper-case letters and the plain apostrophe."""
    return _PLAIN(text)
