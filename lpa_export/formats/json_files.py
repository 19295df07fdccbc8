"""JSON files that a checkpoint consists of: read as objects, or refused in one line."""

import json
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError

__all__ = ["read_json", "read_json_if_there"]


def read_json(path: Path, missing: str = "") -> dict[str, Any]:
    """The object in a file; LpaError for anything else, ``missing`` says what a lack means."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LpaError(f"{path}: missing{missing}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LpaError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise LpaError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_json_if_there(path: Path) -> dict[str, Any]:
    """The same, and an empty object where there is no such file."""
    return read_json(path) if path.is_file() else {}
