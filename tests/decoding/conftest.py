"""Sentences of a small language, and its model as a file."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lpa_export.decoding.ngram import estimate


def sentences(seed: int, words: list[str], count: int = 300) -> list[tuple[str, ...]]:
    """Random ones whose words depend on the word before, the first of the list oftenest."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        at, said = 0, []
        for _ in range(draw.randint(1, 6)):
            at = (at + int(draw.expovariate(0.6))) % len(words)
            said.append(words[at])
        found.append(tuple(said))
    return found


@pytest.fixture
def arpa(tmp_path: Path) -> Callable[..., Path]:
    """`arpa(words, ...)`: the file of a model of random sentences of these words."""

    def make(words: list[str], *, seed: int = 0, name: str = "words.arpa", order: int = 3) -> Path:
        path = tmp_path / name
        estimate(sentences(seed, words), order=order).write(path)
        return path

    return make
