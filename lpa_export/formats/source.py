"""Where a checkpoint lies: a folder, or a hub id of which the files that are read are fetched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.json_files import read_json
from lpa_export.formats.preprocessing import PREPROCESSOR, PROCESSOR
from lpa_export.formats.tokenizer import SETTINGS, TOKENIZER_FILES, VOCABULARY
from lpa_export.formats.weights import INDEX, WEIGHTS, find_weights

__all__ = [
    "CONFIG",
    "SHIPPED",
    "architecture",
    "checkpoint_folder",
    "checkpoint_name",
    "checkpoint_sha256",
    "language_adapter",
]

CONFIG = "config.json"
SHIPPED = Path(__file__).parent.parent / "assets" / "model"

_SHARDS = "model-*.safetensors"
_LORA = "adapter_config.json"
_ADAPTER = "adapter.{}.safetensors"


def architecture(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder as that of the untouched model: without our section.

    Raises LpaError for a file that is no JSON object.
    """
    content = read_json(folder / CONFIG)
    content.pop("lpa", None)
    return content


def checkpoint_folder(source: str | Path | None, language: str | None = None) -> Path:
    """The folder of a source: itself, or where the hub client put the files of an id.

    None is the model that ships with the package. Raises LpaError when there is no such thing.
    """
    if source is None:
        return SHIPPED
    folder = Path(source)
    if folder.is_dir():
        return folder
    parts = str(source).split("/")
    local = Path(parts[0]).is_dir()  # a mistyped folder, not somebody's hub repository
    if folder.exists() or local or len(parts) != 2 or not all(parts) or str(source).startswith("."):
        raise LpaError(f"{source}: no such checkpoint folder, and no hub id (owner/name) either")
    return _download(str(source), language)


def checkpoint_name(source: str | Path | None, folder: Path, language: str | None = None) -> str:
    """What a checkpoint without a name of its own is called; bundles of its languages differ."""
    from_hub = source and not Path(source).is_dir()
    name = str(source).replace("/", "--") if from_hub else folder.resolve().name
    return name if language is None else f"{name}-{language}"


def language_adapter(folder: Path, language: str | None) -> Path | None:
    """The weights of a language (MMS), None where none is asked for or the folder has none.

    Raises LpaError for a language that is not among the folder's adapters.
    """
    known = sorted(
        path.name.removeprefix("adapter.").removesuffix(".safetensors")
        for path in folder.glob(_ADAPTER.format("*"))
    )
    if language is None or not known:
        return None
    if language not in known:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise LpaError(f"{folder}: no adapter for language {language!r}; there are: {shown}")
    return folder / _ADAPTER.format(language)


def checkpoint_sha256(folder: Path, language: str | None = None) -> str:
    """Digest over every file that a checkpoint is read from, by name and content."""
    digest = hashlib.sha256()
    for name in _read_files(folder, language):
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    if language is not None:
        digest.update(f"language {language}\n".encode())
    return digest.hexdigest()


def _read_files(folder: Path, language: str | None) -> Iterator[str]:
    """Names in an order that stays: first the four that a checkpoint has always had."""
    first = (CONFIG, WEIGHTS, VOCABULARY, PREPROCESSOR)
    adapter = language_adapter(folder, language)
    weights = find_weights(folder, adapter)
    shards = () if weights.first.name == WEIGHTS else (INDEX, *(p.name for p in weights.files))
    also = (*shards, *TOKENIZER_FILES, PROCESSOR, *([adapter.name] if adapter else ()))
    for name in (*first, *also):
        repeated = name in also and name in first
        says_nothing = name == SETTINGS and _says_nothing(folder)
        if (folder / name).is_file() and not repeated and not says_nothing:
            yield name


def _says_nothing(folder: Path) -> bool:
    """Whether tokenizer_config.json holds what vocab.json and config.json say without it.

    So it is in the checkpoints that this tool writes, whose digest never had that file.
    """
    if not (folder / SETTINGS).is_file() or not (folder / VOCABULARY).is_file():
        return False
    blank = read_json(folder / CONFIG).get("pad_token_id", 0)
    named = read_json(folder / VOCABULARY)
    token = next((token for token, index in named.items() if index == blank), None)
    return read_json(folder / SETTINGS) == {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": token,
        "unk_token": token,
        "bos_token": None,
        "eos_token": None,
        "word_delimiter_token": "|",
        "do_lower_case": False,
    }


def _download(hub_id: str, language: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, WEIGHTS, INDEX, _SHARDS, *TOKENIZER_FILES, PREPROCESSOR, PROCESSOR, _LORA]
    if language is not None:
        if not re.fullmatch(r"[\w-]+", language):
            raise LpaError(f"language {language!r}: expected a code such as 'eng'")
        wanted.append(_ADAPTER.format(language))
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=wanted))
    except Exception as error:  # the hub client raises many unrelated types
        raise LpaError(
            f"{hub_id}: no such folder, and the Hugging Face hub did not give it ({_line(error)})"
        ) from error
    if not any((folder / name).is_file() for name in (WEIGHTS, INDEX, _LORA)):
        _require_no_pickle(hub_id)
    return folder


def _require_no_pickle(hub_id: str) -> None:
    """Say so when a repository without safetensors has pickled weights, which are not fetched."""
    from huggingface_hub import list_repo_files

    try:
        names = list_repo_files(hub_id)
    except Exception:  # the message about missing weights is as good
        return
    pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles:
        raise LpaError(
            f"{hub_id}: only pickled weights ({pickles[0]}), which are never opened; where you "
            "trust it, convert it: AutoModelForCTC.from_pretrained(it).save_pretrained(a new "
            "folder), which writes safetensors"
        )


def _line(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__
