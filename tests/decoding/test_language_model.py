"""A language model in a process of its own, and each file that is none, in one line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lpa_export.decoding import language_model
from lpa_export.decoding.language_model import LanguageModel, open_decoder
from lpa_export.decoding.settings import Settings
from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.text import Vocabulary, greedy_path

WORDS = ["TO", "SEA", "SEE"]
ENGLISH = Vocabulary(tokens=("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
RUSSIAN = Vocabulary(tokens=("<pad>", "|", *"АБВГДЕ"))

needs_flashlight = pytest.mark.skipif(
    language_model.find_spec("flashlight") is None, reason="the extra lm is not installed"
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def cut_zipped(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:-60])


def no_text(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def zipped_nonsense(path: Path) -> None:
    path.write_bytes(gzip.compress(b"nonsense\n" * 100))


def json(path: Path) -> None:
    path.write_text('{"a": 1}\n')


def empty(path: Path) -> None:
    path.write_bytes(b"")


def count(path: Path) -> None:
    path.write_text(path.read_text().replace("ngram 1=6", "ngram 1=99999999999"))


def one_more(path: Path) -> None:
    path.write_text(path.read_text().replace("ngram 2=", "ngram 2=9"))


def not_a_number(path: Path) -> None:
    path.write_text(path.read_text().replace("\n-", "\nx-"))


def above_one(path: Path) -> None:
    path.write_text(path.read_text().replace("\n-0", "\n0"))


def latin_1(path: Path) -> None:
    path.write_bytes(path.read_text().replace("SEA", "S\xc9A").encode("latin-1"))


def kenlm_binary(path: Path) -> None:
    path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(500))


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@needs_flashlight
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "damaged, KenLM does not read it"),
        (cut_zipped, "damaged, KenLM does not read it"),
        (no_text, "expected an ARPA file"),
        (zipped_nonsense, "expected an ARPA file"),
        (json, "expected an ARPA file"),
        (empty, "expected an ARPA file"),
        (count, "damaged, KenLM does not read it"),
        (one_more, "damaged, KenLM does not read it"),
        (not_a_number, "damaged, KenLM does not read it"),
        (above_one, "damaged, KenLM does not read it"),
        (latin_1, "expected words in UTF-8"),
        (kenlm_binary, "a KenLM binary, whose words cannot be listed"),
        (gone, "cannot be read (No such file or directory)"),
        (folder, "cannot be read (Is a directory)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_is_no_language_model_is_refused_in_one_line(
    arpa: Callable[..., Path],
    damage: Callable[[Path], None],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = arpa(WORDS)
    damage(path)
    with pytest.raises(LpaError) as refused:
        LanguageModel(Settings(path), ENGLISH)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert str(refused.value).count(str(path)) == 1
    assert capfd.readouterr() == ("", "")


@needs_flashlight
def test_a_model_of_another_alphabet_is_refused(arpa: Callable[..., Path]) -> None:
    with pytest.raises(LpaError, match="none of its 3 words can be spelled with the tokens"):
        LanguageModel(Settings(arpa(WORDS)), RUSSIAN)


@needs_flashlight
def test_a_model_of_which_most_is_of_another_alphabet_is_warned_of(
    arpa: Callable[..., Path],
) -> None:
    path = arpa(["TO", "ГДЕ", "БЕГ", "ДВА"])
    with pytest.warns(LpaWarning, match="only 1 of its 4 words can be spelled"):
        LanguageModel(Settings(path), ENGLISH)


def test_words_that_are_not_apart_are_refused(arpa: Callable[..., Path]) -> None:
    phonemes = Vocabulary(tokens=("<pad>", "AA", "B"), word_delimiter=None, spelling="words")
    with pytest.raises(LpaError, match=r"no token for a space|not installed"):
        LanguageModel(Settings(arpa(WORDS)), phonemes)


def test_without_the_library_the_line_says_what_to_install(
    arpa: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "find_spec", lambda name: None)
    with pytest.raises(LpaError, match=r"pip install 'lpa-export\[lm\]'"):
        LanguageModel(Settings(arpa(WORDS)), ENGLISH)


@needs_flashlight
def test_a_process_that_dies_is_told_in_one_line(arpa: Callable[..., Path]) -> None:
    path = arpa(WORDS)
    model = LanguageModel(Settings(path), ENGLISH)
    logits = np.zeros((5, len(ENGLISH)), np.float32)
    assert model.path(logits).shape == (5,)
    model._worker._process.kill()
    with pytest.raises(LpaError, match=r"the search for words broke: its process crashed"):
        model.path(logits)


def test_without_a_model_the_path_is_the_greedy_one() -> None:
    logits = np.random.default_rng(0).standard_normal((20, len(ENGLISH)))
    decode = open_decoder(None, ENGLISH)
    assert decode(logits).tolist() == greedy_path(logits, ENGLISH).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lm_weight": -0.1}, "--lm-weight must be a number from 0 on"),
        ({"lm_weight": float("nan")}, "--lm-weight must be"),
        ({"word_score": float("inf")}, "--word-score must be a number"),
        ({"beam": 0}, "--beam must be a whole number above 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(LpaError, match=message):
        Settings.of("m.arpa", **given)


def test_settings_without_a_model_are_refused() -> None:
    assert Settings.of(None, lm_weight=None, beam=None) is None
    with pytest.raises(LpaError, match="--word-score goes with --lm"):
        Settings.of(None, word_score=1.0)
