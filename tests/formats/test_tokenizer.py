"""Vocabularies read from a checkpoint's tokenizer, held against transformers' own decoding."""

import json
import socket
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

from lpa_export.errors import LpaError
from lpa_export.formats.text import Vocabulary, greedy_text
from lpa_export.formats.tokenizer import read_vocabulary, tokenizer_files

Write = Callable[..., Path]
LETTERS = "ABCDEFGHIJ"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(vocab, settings, **files)`: a folder with a tokenizer, JSON files by their stem."""

    def make(vocab: Any = None, settings: Any = None, **files: Any) -> Path:
        contents = {"vocab": vocab, "tokenizer_config": settings, **files}
        for stem, content in contents.items():
            if content is not None:
                (tmp_path / f"{stem}.json").write_text(json.dumps(content), "utf-8")
        return tmp_path

    return make


def ids(*tokens: str) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def one_hot(best: Sequence[int], width: int) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[list(best)]


def drawn(width: int, number: int = 60) -> list[list[int]]:
    """Sequences of the best id of each frame, some frames alike."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 30, number)
    return [random.integers(0, width, n).repeat(random.integers(1, 3, n)).tolist() for n in lengths]


BASE = ids("<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS)
CASES: dict[str, tuple[dict[str, int], dict[str, Any] | None, int, int]] = {
    # vocab.json, tokenizer_config.json, the head's width, the blank
    "wav2vec2": (BASE, None, 15, 0),
    "blank last": (ids("|", *LETTERS, "[UNK]", "[PAD]"), {"pad_token": "[PAD]"}, 13, 12),
    "blank called epsilon": (
        ids("|", "a", "b", "c", "<epsilon>"),
        {"pad_token": "<epsilon>"},
        5,
        4,
    ),
    "blank called _": (ids("|", "a", "b", "c", "-", "_"), {"pad_token": "_"}, 6, 5),
    "delimiter is a space": (
        ids("<pad>", " ", *LETTERS),
        {"word_delimiter_token": " ", "unk_token": "<pad>"},
        12,
        0,
    ),
    "no unknown token": (ids("<pad>", "|", *LETTERS), {"unk_token": ""}, 12, 0),
    "no delimiter": (ids("<pad>", *LETTERS), {"word_delimiter_token": None}, 11, 0),
    "no delimiter, but a bar": (
        ids("<pad>", "|", *LETTERS),
        {"word_delimiter_token": None},
        12,
        0,
    ),
    "another delimiter": (ids("[PAD]", "a", "b", "*"), {"pad_token": "[PAD]",
                          "word_delimiter_token": "*"}, 4, 0),
    "delimiter spoken otherwise": (
        ids("<pad>", "|", *LETTERS),
        {"replace_word_delimiter_char": "-"},
        12,
        0,
    ),
    "digraphs": (ids("<pad>", "|", "a", "b", "ch", "sch", "s"), None, 7, 0),
    "both cases": (ids("<pad>", "|", *LETTERS, *LETTERS.lower()), None, 22, 0),
    "lower on decoding": (ids("<pad>", "|", *LETTERS), {"do_lower_case": True}, 12, 0),
    "outputs without a name": (ids("<pad>", "|", *LETTERS), None, 20, 0),
    "punctuation": (ids("<pad>", "|", "a", ".", ",", "'", "?", "s", "n", "t"),
                    {"clean_up_tokenization_spaces": True}, 10, 0),
    "white space at the ends of tokens": (ids("<pad>", "|", "a\n", "b", " c", "a\r"), None, 6, 0),
    "odd tokens": (ids("<pad>", "|", "\n", "\t", "a", "\\", '"', "\u2028", "<script>"), None, 9, 0),
    "unknown is the pad": (
        ids("<pad>", "|", *LETTERS),
        {"unk_token": "<pad>", "bos_token": None, "eos_token": None},
        14,
        0,
    ),
    "one letter": (ids("<pad>", "a"), {"word_delimiter_token": None}, 2, 0),
}  # fmt: skip


def as_stated(folder: Path, settings: dict[str, Any]) -> Any:
    """transformers' tokenizer with these settings; from_pretrained loses the word delimiter."""
    stated = {key: value for key, value in settings.items() if key != "tokenizer_class"}
    return Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **stated)


@pytest.mark.parametrize("name", CASES)
def test_decoding_is_what_transformers_tokenizer_says(write: Write, name: str) -> None:
    vocab, settings, width, blank = CASES[name]
    settings = {"tokenizer_class": "Wav2Vec2CTCTokenizer", **(settings or {})}
    folder = write(vocab, settings)
    vocabulary = read_vocabulary(folder, width=width, blank=blank)
    theirs = as_stated(folder, settings)
    assert len(vocabulary) == width
    for best in drawn(width):
        # Spaces in front of punctuation stay: decoding alters no text.
        expected = theirs.decode(best, clean_up_tokenization_spaces=False)
        assert greedy_text(one_hot(best, width), vocabulary) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wav2vec2", "BAD CAB"),
        ("delimiter is a space", "A BED"),
        ("no delimiter", "ABBA"),
        ("another delimiter", "a b"),
        ("digraphs", "schach ab sach"),
        ("both cases", "aBc De"),
    ],
)
def test_encoding_is_what_transformers_tokenizer_says(write: Write, name: str, text: str) -> None:
    vocab, settings, width, blank = CASES[name]
    folder = write(vocab, settings)
    theirs = as_stated(folder, settings or {})
    # transformers cannot encode without a delimiter; letter by letter it is.
    by_hand = [vocab[letter] for letter in text] if name == "no delimiter" else None
    found = read_vocabulary(folder, width=width, blank=blank).encode(text)
    assert found == (by_hand or theirs(text).input_ids)


def test_phonemes_are_parted_by_spaces(write: Write) -> None:
    phonemes = ["<pad>", "<s>", "</s>", "<unk>", "\u0259", "t\u0283", "a\u026a", "n", "\u02c8", "|"]
    settings = {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False}
    for delimiter in (None, "|"):
        folder = write(ids(*phonemes), settings | {"word_delimiter_token": delimiter})
        vocabulary = read_vocabulary(folder, width=10, blank=0)
        theirs = Wav2Vec2PhonemeCTCTokenizer.from_pretrained(folder, local_files_only=True)
        for best in drawn(10):
            assert greedy_text(one_hot(best, 10), vocabulary) == theirs.decode(best)
        spoken = "n a\u026a t\u0283 | \u0259"
        assert vocabulary.encode(spoken) == theirs(spoken).input_ids
        with pytest.raises(LpaError, match="outside the vocabulary: 'N'"):
            vocabulary.encode("N a\u026a")


def unigram() -> Tokenizer:
    """Word pieces with ▁ as SentencePiece has them."""
    pieces = [("<pad>", 0.0), ("<unk>", -9.0), ("\u2581", -4.0), ("\u2581the", -2.0), ("t", -5.0),
              ("h", -5.0), ("e", -5.0), ("\u2581c", -3.0), ("at", -2.0), ("s", -4.0),
              ("a", -5.0), ("\u00e9", -5.0)]  # fmt: skip
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def byte_pairs() -> Tokenizer:
    """BPE with </w> at the ends of words."""
    vocab = ids("[PAD]", "[UNK]", *"thecas", "e</w>", "s</w>", "th", "the</w>", "ca", "t</w>")
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a")]
    model = models.BPE(vocab, merges, unk_token="[UNK]", end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


@pytest.mark.parametrize("make", [unigram, byte_pairs])
def test_a_fast_tokenizer_decodes_and_encodes_as_its_own_library(
    write: Write, make: Callable[[], Tokenizer]
) -> None:
    tokenizer = make()
    pad = tokenizer.id_to_token(0)
    folder = write(settings={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad})
    tokenizer.save(str(folder / "tokenizer.json"))
    width = tokenizer.get_vocab_size()
    vocabulary = read_vocabulary(folder, width=width, blank=0)
    for best in drawn(width):
        merged = [index for index, _ in groupby(best) if index]
        expected = tokenizer.decode(merged, skip_special_tokens=False).strip()
        assert greedy_text(one_hot(best, width), vocabulary) == expected
    spelled = tokenizer.encode("the cats", add_special_tokens=False).ids
    assert vocabulary.encode(" The  CATS ") == spelled
    assert vocabulary.decode(spelled) == "the cats"
    with pytest.raises(LpaError, match="outside the vocabulary"):
        vocabulary.encode("the dog!")
    with pytest.raises(LpaError, match="outside the vocabulary: '!'"):
        vocabulary.require_sayable("the cat!")


def test_a_bundle_of_a_fast_tokenizer_can_still_say_what_it_cannot_say(write: Write) -> None:
    folder = write(settings={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    unigram().save(str(folder / "tokenizer.json"))
    vocabulary = read_vocabulary(folder, width=12, blank=0)
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())), "tokens.json")
    assert again == vocabulary
    again.require_sayable("the cats")
    with pytest.raises(LpaError, match="outside the vocabulary: 'x'"):
        again.require_sayable("the x")
    with pytest.raises(LpaError, match=r"takes the checkpoint's tokenizer\.json"):
        again.encode("the cats")


def test_special_tokens_that_a_tokenizer_would_add_are_not_in_the_labels(write: Write) -> None:
    tokenizer = unigram()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A <pad>", special_tokens=[("<pad>", 0)]
    )
    folder = write(settings={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    tokenizer.save(str(folder / "tokenizer.json"))
    assert 0 not in read_vocabulary(folder, width=12, blank=0).encode("the cats")


def test_bytes_that_are_no_letters_by_themselves_cannot_be_reproduced(write: Write) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(ids("<pad>", *alphabet), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = write(settings={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(LpaError, match=r"tokenizer\.json: .*cannot be reproduced: it decodes"):
        read_vocabulary(folder, width=257, blank=0)


def test_pieces_whose_text_depends_on_their_place_cannot_be_reproduced(write: Write) -> None:
    """WordPiece writes the ## of a piece where an utterance begins with it."""
    vocab = ids("[PAD]", "[UNK]", "the", "cat", "##s")
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    folder = write(settings={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"})
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(LpaError, match=r"tokenizer\.json: .*cannot be reproduced: it decodes"):
        read_vocabulary(folder, width=5, blank=0)


# The recipes and forms that checkpoints on the hub have.


def test_tokens_added_behind_the_vocabulary_are_the_heads_last_outputs(write: Write) -> None:
    """The common XLSR recipe: vocab_size is the tokenizer's length, <s> and </s> were added."""
    vocab = ids("|", *LETTERS, "[UNK]", "[PAD]")
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    folder = write(vocab, settings, added_tokens={"<s>": 13, "</s>": 14})
    theirs = Wav2Vec2CTCTokenizer.from_pretrained(folder, local_files_only=True)
    vocabulary = read_vocabulary(folder, width=15, blank=12)
    assert vocabulary.tokens[13:] == ("<s>", "</s>")
    for best in drawn(15):
        assert greedy_text(one_hot(best, 15), vocabulary) == theirs.decode(best)
    # A head that was not widened: what was added lies behind its outputs.
    assert read_vocabulary(folder, width=13, blank=12).tokens == tuple(vocab)


def test_nested_vocabularies_are_chosen_by_language(write: Write) -> None:
    nested = {
        "eng": ids("<pad>", "|", "a", "b", "c"),
        "deu": ids("<pad>", "|", "\u00e4", "b", "\u00df"),
    }
    folder = write(nested, {"target_lang": "eng"})
    assert read_vocabulary(folder, width=5, blank=0).tokens[2] == "a"
    german = read_vocabulary(folder, width=5, blank=0, language="deu")
    assert german.tokens[2:] == ("\u00e4", "b", "\u00df")
    theirs = Wav2Vec2CTCTokenizer.from_pretrained(folder, target_lang="deu", local_files_only=True)
    for best in drawn(5):
        assert greedy_text(one_hot(best, 5), german) == theirs.decode(best)
    with pytest.raises(LpaError, match=r"2 languages, 'fra' is not among them; .*: eng, deu"):
        read_vocabulary(folder, width=5, blank=0, language="fra")
    write(nested, {})
    with pytest.raises(LpaError, match="2 languages, none is chosen; choose with --language"):
        read_vocabulary(folder, width=5, blank=0)


def test_what_is_saved_is_read_as_the_same(write: Write, tmp_path: Path) -> None:
    nested = {"eng": ids("<pad>", "|", "a"), "deu": ids("<pad>", "|", "\u00e4")}
    folder = write(nested, {"target_lang": "eng"})
    german = read_vocabulary(folder, width=3, blank=0, language="deu")
    made = Vocabulary(("|", "x", "<unk>", "<s>", "[PAD]"), blank=4)
    for number, vocabulary in enumerate((german, made)):
        again = tmp_path / str(number)
        again.mkdir()
        for name, text in tokenizer_files(vocabulary).items():
            (again / name).write_text(text, "utf-8")
        width, blank = len(vocabulary), vocabulary.blank
        assert read_vocabulary(again, width=width, blank=blank) == vocabulary


# What is refused, in one line.


def test_a_pad_that_is_not_the_configs_blank_is_named_with_it(write: Write) -> None:
    folder = write(ids("|", "a", "b", "[PAD]"), {"pad_token": "[PAD]"})
    with pytest.raises(LpaError) as caught:
        read_vocabulary(folder, width=4, blank=1)
    message = str(caught.value)
    assert "blank is 1 ('a')" in message and "pad token is 3 ('[PAD]')" in message
    assert "\n" not in message


def test_two_tokens_that_say_the_same_are_named(write: Write) -> None:
    """Both cases, of which the tokenizer says one: no label would be the only right one."""
    folder = write(ids("<pad>", "|", "A", "a"), {"do_lower_case": True})
    assert as_stated(folder, {"do_lower_case": True}).decode([2, 0, 3]) == "aa"
    with pytest.raises(LpaError, match=r"once; 2 \('A'\) and 3 \('a'\) are the same"):
        read_vocabulary(folder, width=4, blank=0)


@pytest.mark.parametrize("blank", [None, -1, 4, True, "0"])
def test_a_blank_that_is_no_output_is_refused(write: Write, blank: object) -> None:
    with pytest.raises(LpaError, match="pad_token_id is the CTC blank and must be an output"):
        read_vocabulary(write(ids("<pad>", "|", "a", "b")), width=4, blank=blank)


@pytest.mark.parametrize(
    ("vocab", "settings", "problem"),
    [
        ([1, 2], None, r"vocab\.json: expected a JSON object"),
        ({"A": "0", "|": 1}, None, "object of token: id"),
        ({"A": True, "|": 0}, None, "object of token: id"),
        ({"A": 0, "|": 2}, None, "ids must be 0 to 1"),
        ({"A": 0, "|": 0}, None, "ids must be 0 to 1"),
        (BASE, {"tokenizer_class": "BertTokenizer"}, "'BertTokenizer' cannot be reproduced"),
        (BASE, [], r"tokenizer_config\.json: expected a JSON object"),
        (BASE, {"pad_token": 7}, "transformers cannot open this tokenizer"),
        (BASE, {"word_delimiter_token": {}}, r"word_delimiter_token is \{\}, expected text"),
        (ids("<pad>", "|", "A"), None, "3 tokens, but config.json says vocab_size 15"),
        (
            ids("<pad>", "|", *LETTERS[:7], *LETTERS[:6].lower()),
            {"do_lower_case": True},
            r"must be there once; 2 \('A'\) and 9 \('a'\) are the same",
        ),
    ],
)
def test_what_is_no_vocabulary_is_refused(
    write: Write, vocab: Any, settings: Any, problem: str
) -> None:
    with pytest.raises(LpaError, match=problem) as caught:
        read_vocabulary(write(vocab, settings), width=15, blank=0)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match=r"vocab\.json: expected a vocabulary file, found none"):
        read_vocabulary(tmp_path, width=4, blank=0)


def test_nothing_is_asked_of_the_network(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    read_vocabulary(write(BASE, {"tokenizer_class": "Wav2Vec2CTCTokenizer"}), width=15, blank=0)
