"""The placement file: which operations stayed on the Neural Engine when the recipe was settled.

Names of operations move with every conversion. Each is kept under its kind, its source module and
its place among its like, and what is compared is how many of a kind in a module are off the
Neural Engine: renumbering is no change, a further one off it is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_validate.rules.neural_engine.examine import Examination, Verdict

__all__ = ["Comparison", "Move", "compare_placement", "placement", "write_placement"]

SCHEMA_VERSION = 1
_STAYS = "ane"
_MAX_BYTES = 16 * 1024 * 1024

Kind = tuple[str, str]
Rules = tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """``count`` operations of a kind in a module that left or joined; ``rules`` say why."""

    function: str
    op: str
    module: str
    count: int
    rules: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "rules": list(self.rules)}


@dataclass(frozen=True)
class Comparison:
    """What changed since the placement file was written.

    ``unmatched`` are functions that only one side knows: nothing is said about those.
    """

    leaving: tuple[Move, ...]
    joining: tuple[Move, ...]
    unmatched: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "leaving": [move.to_json() for move in self.leaving],
            "joining": [move.to_json() for move in self.joining],
            "unmatched": list(self.unmatched),
        }


def placement(examinations: Mapping[str, Examination]) -> dict[str, Any]:
    """The content of a placement file; ``examinations`` by "package/function"."""
    functions = {name: _keyed(found.verdicts) for name, found in sorted(examinations.items())}
    return {"schema_version": SCHEMA_VERSION, "label": "predicted", "functions": functions}


def write_placement(path: Path | str, examinations: Mapping[str, Examination]) -> None:
    """Write the placement file. Raises LpaError when it cannot be written."""
    text = json.dumps(placement(examinations), ensure_ascii=False, indent=1)
    try:
        Path(path).write_text(text + "\n", "utf-8", newline="\n")
    except OSError as error:
        raise LpaError(
            f"{path}: cannot be written ({error.strerror}); give another file"
        ) from error


def compare_placement(path: Path | str, examinations: Mapping[str, Examination]) -> Comparison:
    """What left or joined the Neural Engine since ``path`` was written.

    Raises LpaError for a file that is missing or no placement file.
    """
    before, now = _read(Path(path)), placement(examinations)["functions"]
    leaving: list[Move] = []
    joining: list[Move] = []
    for name in sorted(before.keys() & now.keys()):
        old, new = _counted(before[name]), _counted(now[name])
        for kind in sorted(old.keys() | new.keys()):
            change = _off(new.get(kind, ())) - _off(old.get(kind, ()))
            if change > 0:
                leaving.append(Move(name, *kind, change, _why(new[kind])))
            elif change < 0 and kind in new:
                joining.append(Move(name, *kind, -change, _why(old[kind])))
    return Comparison(tuple(leaving), tuple(joining), tuple(sorted(before.keys() ^ now.keys())))


def _keyed(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """ "conv encoder.layers.0 #1" -> "ane", or the rules that keep it off."""
    keyed: dict[str, Any] = {}
    numbers: dict[Kind, int] = {}
    for verdict in verdicts:
        kind = (verdict.op, "".join(verdict.module.split()))
        numbers[kind] = numbers.get(kind, -1) + 1
        key = f"{' '.join(kind)} #{numbers[kind]}"
        keyed[key] = _STAYS if verdict.on_engine else list(verdict.rules)
    return keyed


def _counted(keyed: Mapping[str, Any]) -> dict[Kind, list[Rules]]:
    """(kind, module) -> the rules of each of its operations, none for one that stays."""
    found: dict[Kind, list[Rules]] = {}
    for key, verdict in keyed.items():
        op, module, _ = key.split(" ")
        rules = () if verdict == _STAYS else tuple(verdict)
        found.setdefault((op, module), []).append(rules)
    return found


def _off(rules: Iterable[Rules]) -> int:
    return sum(1 for names in rules if names)


def _why(rules: Iterable[Rules]) -> Rules:
    return tuple(sorted({name for names in rules for name in names}))


def _read(path: Path) -> dict[str, Any]:
    """The functions of a placement file, every entry of the form it was written in."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LpaError(f"{path}: too large for a placement file; write it again")
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LpaError(f"{path}: not JSON ({error}); write it again") from error
    except OSError as error:
        raise LpaError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    functions = content.get("functions") if isinstance(content, dict) else None
    if not isinstance(functions, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise LpaError(
            f"{path}: no placement file of schema version {SCHEMA_VERSION}; write it again"
        )
    for name, keyed in functions.items():
        if not isinstance(keyed, dict) or not all(map(_is_entry, keyed.items())):
            raise LpaError(f"{path}: the entries of {name!r} cannot be read; write it again")
    return functions


def _is_entry(entry: tuple[str, Any]) -> bool:
    key, verdict = entry
    if len(key.split(" ")) != 3:
        return False
    return verdict == _STAYS or (
        isinstance(verdict, list) and bool(verdict) and all(isinstance(v, str) for v in verdict)
    )
