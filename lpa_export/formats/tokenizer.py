"""A checkpoint's tokenizer as a `Vocabulary`: what each output says and how a text is spelled.

transformers' own tokenizer is asked, token by token; then whole random sequences are decoded both
ways, and a tokenizer for which the two differ is refused. So what is exported is what the
checkpoint's own tokenizer says, whatever files it says it in.
"""

from __future__ import annotations

import inspect
import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.json_files import read_json, read_json_if_there
from lpa_export.formats.text import SPECIAL_TOKENS, TOKENIZER, Spelling, Vocabulary

__all__ = [
    "SETTINGS",
    "TOKENIZER_FILES",
    "VOCABULARY",
    "languages_of",
    "read_vocabulary",
    "tokenizer_files",
]

VOCABULARY, SETTINGS = "vocab.json", "tokenizer_config.json"
TOKENIZER_FILES = (
    VOCABULARY,
    SETTINGS,
    TOKENIZER,
    "added_tokens.json",
    "special_tokens_map.json",
)
"""Every file that a tokenizer of these families is read from."""

# The classes whose tokens are written in vocab.json; others need a tokenizer.json.
_SPELLINGS: Mapping[str, Spelling] = {
    "Wav2Vec2CTCTokenizer": "characters",
    "Wav2Vec2PhonemeCTCTokenizer": "words",
}
_DEFAULT_CLASS = "Wav2Vec2CTCTokenizer"
_DELIMITER = "word_delimiter_token"
_SEQUENCES, _LONGEST = 200, 24


def read_vocabulary(
    folder: Path, *, width: int, blank: object, language: str | None = None
) -> Vocabulary:
    """The vocabulary of the checkpoint in `folder`, whose head has `width` outputs.

    `blank` is the config's `pad_token_id`. `language` chooses among nested vocabularies.
    Raises LpaError for a file that is missing or no tokenizer's, a blank that is none, a pad token
    that is another, and a tokenizer that cannot be reproduced: which file, and why.
    """
    file = _main_file(folder)
    named = _named(folder, language) if file.name == VOCABULARY else None
    tokenizer = _open(folder, language)
    _require_names(file, tokenizer, named, width)
    blank_id = _blank(folder, tokenizer, width, blank)
    spelling = _SPELLINGS.get(type(tokenizer).__name__, "tokenizer")
    tokens = _tokens(tokenizer, width)
    delimiter = getattr(tokenizer, "_word_delimiter_token", None)
    # A special token that is not in the vocabulary has no id.
    ids = (i for i in tokenizer.all_special_ids if isinstance(i, int) and i < width)
    special = {i for i in ids if tokens[i] != delimiter}
    try:
        vocabulary = Vocabulary(
            tokens=tokens,
            blank=blank_id,
            word_delimiter=delimiter if delimiter in tokens else None,
            texts=_texts(tokenizer, width, blank_id),
            special=frozenset(special | _unnamed(tokenizer, width)),
            spelling=spelling,
            files=_own_files(folder, language),
        )
    except LpaError as error:
        raise LpaError(f"{file}: {error}") from error
    _require_reproduced(file, tokenizer, vocabulary)
    return vocabulary


def _open(folder: Path, language: str | None = None) -> Any:
    """transformers' own tokenizer of the folder, no remote code and nothing from the network.

    `language` chooses among nested vocabularies. Raises LpaError when it cannot be opened.
    """
    from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

    file = _main_file(folder)
    settings = read_json_if_there(folder / SETTINGS)
    stated = settings.get("tokenizer_class")
    if file.name == VOCABULARY and stated not in (None, *_SPELLINGS):
        raise LpaError(
            f"{folder / SETTINGS}: tokenizer_class {stated!r} cannot be reproduced; known: "
            f"{', '.join(_SPELLINGS)}, or any that has a {TOKENIZER}"
        )
    # Not every family has an entry in transformers' table; theirs is wav2vec2's.
    unnamed = stated is None and file.name == VOCABULARY
    opens: Any = Wav2Vec2CTCTokenizer if unnamed else AutoTokenizer
    chosen = _chosen_language(folder, settings, language)
    try:
        with _quiet():
            tokenizer = opens.from_pretrained(
                str(folder),
                local_files_only=True,
                **({} if chosen is None else {"target_lang": chosen}),
            )
    except Exception as error:  # transformers raises whatever its readers do
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LpaError(f"{file}: transformers cannot open this tokenizer ({reason})") from error
    try:
        _restore_delimiter(tokenizer, settings)
    except LpaError as error:
        raise LpaError(f"{folder / SETTINGS}: {error}") from error
    return tokenizer


def _restore_delimiter(tokenizer: Any, settings: dict[str, Any]) -> None:
    """Give a character tokenizer the word delimiter that its settings state.

    transformers 5 loses it on the way (5.23: it comes back as '|', whatever was saved): settings
    whose names end in _token are taken for special tokens and no longer reach the class.
    """
    if type(tokenizer).__name__ == _DEFAULT_CLASS and _DELIMITER in settings:
        stated = settings[_DELIMITER]
        text = stated.get("content") if isinstance(stated, dict) else stated
        if not isinstance(text, str) and (text is not None or isinstance(stated, dict)):
            raise LpaError(f"{_DELIMITER} is {stated!r}, expected text")
        tokenizer._word_delimiter_token = text


def _decoded(tokenizer: Any, ids: Sequence[int], blank: int) -> str:
    """What transformers' tokenizer makes of the best ids of each frame, repeats and blanks too.

    A CTC tokenizer merges and drops by itself; for any other that is done first. White space at
    the ends is dropped, as CTC tokenizers do.
    """
    if not _merges(tokenizer):
        ids = [index for index, _ in groupby(ids) if index != blank]
    return _decode(tokenizer, ids).strip()


def _decode(tokenizer: Any, ids: Sequence[int], **kept: Any) -> str:
    """Its own decoding, without the step that takes spaces out in front of punctuation."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False, **kept))


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, str]:
    """File name -> content: the checkpoint's own files, or for a vocabulary made here new ones."""
    if vocabulary.files:
        return dict(vocabulary.files)
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    return {
        VOCABULARY: json.dumps(ids, ensure_ascii=False, indent=1) + "\n",
        SETTINGS: json.dumps(_settings(vocabulary), indent=1, sort_keys=True) + "\n",
    }


def languages_of(folder: Path) -> tuple[str, ...]:
    """The languages of a nested vocab.json, in its order; none where it holds one vocabulary."""
    path = folder / VOCABULARY
    content = read_json_if_there(path)
    nested = content and all(isinstance(entry, dict) for entry in content.values())
    return tuple(content) if nested else ()


def _settings(vocabulary: Vocabulary) -> dict[str, Any]:
    blank = vocabulary.tokens[vocabulary.blank]

    def there(*names: str) -> str | None:
        return next((name for name in names if name in vocabulary.tokens), None)

    return {
        "tokenizer_class": _DEFAULT_CLASS,
        "pad_token": blank,
        "unk_token": there("<unk>", "[UNK]") or blank,
        "bos_token": there("<s>"),
        "eos_token": there("</s>"),
        _DELIMITER: vocabulary.word_delimiter,
        "do_lower_case": False,
    }


def _main_file(folder: Path) -> Path:
    for name in (TOKENIZER, VOCABULARY):
        if (folder / name).is_file():
            return folder / name
    raise LpaError(f"{folder / VOCABULARY}: expected a vocabulary file, found none")


def _named(folder: Path, language: str | None) -> dict[str, int]:
    """Token -> id of vocab.json, of one language where it is nested; the ids are 0 to n - 1."""
    path = folder / VOCABULARY
    content = read_json(path)
    if languages_of(folder):
        settings = read_json_if_there(folder / SETTINGS)
        chosen = _chosen_language(folder, settings, language)
        assert chosen is not None
        content = content[chosen]
    if not all(type(value) is int for value in content.values()):
        raise LpaError(f"{path}: expected one JSON object of token: id (a whole number)")
    if sorted(content.values()) != list(range(len(content))):
        raise LpaError(f"{path}: ids must be 0 to {len(content) - 1}, each once")
    return content


def _chosen_language(folder: Path, settings: dict[str, Any], language: str | None) -> str | None:
    """Which of the nested vocabularies; None where there is one. LpaError for one not there."""
    known = languages_of(folder)
    if not known:
        return None
    chosen = language or settings.get("target_lang")
    if chosen not in known:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        said = "none is chosen" if chosen is None else f"{chosen!r} is not among them"
        raise LpaError(
            f"{folder / VOCABULARY}: vocabularies of {len(known)} languages, {said}; choose with "
            f"--language: {shown}"
        )
    return str(chosen)


def _require_names(file: Path, tokenizer: Any, named: dict[str, int] | None, width: int) -> None:
    """Outputs without a name are a few at most: else it is another model's vocabulary."""
    known = len(tokenizer.get_vocab() if named is None else named)
    unnamed = len(_unnamed(tokenizer, width))
    if unnamed > width - unnamed:
        raise LpaError(
            f"{file}: {known} tokens, but config.json says vocab_size {width}: "
            f"{unnamed} outputs have no name"
        )


def _unnamed(tokenizer: Any, width: int) -> set[int]:
    return set(range(width)) - set(tokenizer.get_vocab().values())


def _blank(folder: Path, tokenizer: Any, width: int, blank: object) -> int:
    """The config's pad_token_id; LpaError when it is no output, or not the tokenizer's pad."""
    config = folder / "config.json"
    if type(blank) is not int or not 0 <= blank < width:
        raise LpaError(
            f"{config}: pad_token_id is the CTC blank and must be an output, 0 to {width - 1}; "
            f"found {blank!r}"
        )
    pad = tokenizer.pad_token_id
    if pad is not None and pad != blank:
        raise LpaError(
            f"{config}: pad_token_id says that the blank is {blank} "
            f"({tokenizer.convert_ids_to_tokens(blank)!r}), the tokenizer's pad token is {pad} "
            f"({tokenizer.pad_token!r}); set pad_token in {SETTINGS} or pad_token_id so that both "
            "name the one that the model was trained with"
        )
    return blank


def _tokens(tokenizer: Any, width: int) -> tuple[str, ...]:
    found = tokenizer.convert_ids_to_tokens(list(range(width)))
    return tuple("" if token is None else str(token) for token in found)


def _merges(tokenizer: Any) -> bool:
    """Whether decoding merges repeats and drops the blank, as CTC tokenizers do."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return _groups(tokenizer) or type(decoder).__name__ == "CTC"


def _groups(tokenizer: Any) -> bool:
    return "group_tokens" in inspect.signature(type(tokenizer)._decode).parameters


def _texts(tokenizer: Any, width: int, blank: int) -> tuple[str, ...]:
    """What each id adds to a transcript: the difference it makes between two others."""

    def decode(*ids: int) -> str:
        kept = {"group_tokens": False} if _groups(tokenizer) else {}
        return _decode(tokenizer, ids, **kept)

    plain = _plain_ids(tokenizer, width, blank)
    texts = []
    for index in range(width):
        before = next((other for other in plain if other != index), None)
        after = next((other for other in reversed(plain) if other != index), None)
        if index == blank:
            texts.append("")
        elif before is None or after is None:
            texts.append(decode(index))
        else:
            start, end = decode(before), decode(before, after)
            behind = len(end) - len(start)
            with_it = decode(before, index, after)
            texts.append(with_it[len(start) : len(with_it) - behind])
    return tuple(texts)


def _plain_ids(tokenizer: Any, width: int, blank: int) -> list[int]:
    """A few ids, in order, that say something without white space: to set others between."""
    special = {*tokenizer.all_special_ids, blank}
    plain: list[int] = []
    for index, token in enumerate(_tokens(tokenizer, width)):
        text = "" if index in special else _decode(tokenizer, [index])
        # What CTC tokenizers drop at the ends would be missing from the difference.
        if text and not any(letter.isspace() for letter in text + token):
            plain.append(index)
        if len(plain) == 4:
            break
    return plain


def _require_reproduced(file: Path, tokenizer: Any, vocabulary: Vocabulary) -> None:
    """Random sequences must decode here as they do in transformers."""
    draw = random.Random(0)
    common = [i for i, token in enumerate(vocabulary.tokens) if token not in SPECIAL_TOKENS]
    for number in range(_SEQUENCES):
        pool: Sequence[int] = common if number % 2 and common else range(len(vocabulary))
        drawn = [draw.choice(pool) for _ in range(draw.randint(1, _LONGEST))]
        ids = [index for index in drawn for _ in range(draw.choice((1, 1, 2)))]
        theirs = _decoded(tokenizer, ids, vocabulary.blank)
        ours = vocabulary.decode(index for index, _, _ in vocabulary.merge(np.array(ids)))
        if ours != theirs:
            raise LpaError(
                f"{file}: this tokenizer ({type(tokenizer).__name__}) cannot be reproduced: it "
                f"decodes {ids} as {theirs!r}, its tokens one by one give {ours!r}"
            )


def _own_files(folder: Path, language: str | None) -> dict[str, str]:
    """The tokenizer's files, the chosen language written into its settings."""
    files = {name: _text(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    if language is not None and languages_of(folder):
        settings = json.loads(files.get(SETTINGS, "{}")) | {"target_lang": language}
        files[SETTINGS] = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    return files


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LpaError(f"{path}: expected text in UTF-8, cannot read it ({error})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers says on stderr what is no news here."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
