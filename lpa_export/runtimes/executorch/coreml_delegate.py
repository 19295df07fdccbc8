"""The Core ML program inside a delegate, laid out again as the package it was.

The backend is given a folder in one piece (``inmemoryfs`` of ExecuTorch's Core ML runtime): the
files one after another, and behind them a JSON tree of names and places, written backwards. Where
several methods are lowered together, that folder is named data of the program, with a function per
method, and each delegate holds a reference to it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.formats.paths import names_a_file_inside
from lpa_export.runtimes import ArtifactError

__all__ = ["BACKEND", "PACKAGE", "CoremlModel", "Names", "Reference", "reference", "unpack"]

BACKEND = "CoreMLBackend"
PACKAGE = "model.mlpackage"

_REFERENCE = b"CMJR"
_METADATA = "metadata.json"
_FOLDER = 1
_MAX_NODES = 10_000
_MAX_TREE_BYTES = 16 * 1024 * 1024
_DAMAGE = (AttributeError, KeyError, TypeError, ValueError, IndexError, OSError, RecursionError)
"""What reading a text or tree that is not what it should be raises."""


@dataclass(frozen=True)
class Reference:
    """Where a delegate's model is: the name of the data, and the function in its package."""

    key: str
    function: str


@dataclass(frozen=True)
class Names:
    """Inputs and outputs in the order in which the delegate call passes them."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class CoremlModel:
    """An unpacked package, and the names of each function; None is the only one there is."""

    package: Path
    functions: Mapping[str | None, Names]

    def names(self, function: str | None) -> Names:
        """Those of one function. Raises ArtifactError when there is none of that name."""
        if function not in self.functions:
            raise ArtifactError(f"its Core ML program has no function {function!r}")
        return self.functions[function]


def reference(data: bytes) -> Reference | None:
    """What ``data`` (a delegate's) refers to, None where it is the model itself.

    Raises ArtifactError for a damaged reference.
    """
    if not data.startswith(_REFERENCE):
        return None
    try:
        stated = json.loads(data[len(_REFERENCE) :])
        return Reference(str(stated["key"]), str(stated["functionName"]))
    except _DAMAGE as error:
        raise ArtifactError(f"its Core ML delegate is damaged ({type(error).__name__})") from error


def unpack(data: bytes, folder: Path) -> CoremlModel:
    """Write the files in ``data`` below ``folder``, which exists and is empty.

    Raises ArtifactError for damaged data, a model compiled for one system only, and names that
    lead out of the folder.
    """
    try:
        nodes = _tree(data)
        _write(nodes, len(nodes) - 1, data, folder, set())
        stated = json.loads((folder / _METADATA).read_text("utf-8"))
        functions = {name: _names(entry) for name, entry in _functions(stated).items()}
    except _DAMAGE as error:
        raise ArtifactError(f"its Core ML delegate is damaged ({type(error).__name__})") from error
    package = folder / PACKAGE
    if not package.is_dir():
        raise ArtifactError(f"its Core ML delegate holds no {PACKAGE}: compiled models do not run")
    return CoremlModel(package, functions)


def _functions(stated: Mapping[str, Any]) -> Mapping[str | None, Any]:
    methods: Mapping[str | None, Any] = stated.get("methods") or {None: stated}
    return methods


def _names(entry: Mapping[str, Any]) -> Names:
    return Names(tuple(entry["inputNames"]), tuple(entry["outputNames"]))


def _tree(data: bytes) -> list[Mapping[str, Any]]:
    """The list of nodes at the end of ``data``; the last one is the root folder."""
    size = 4096
    while True:
        text = data[: -size - 1 : -1].decode("utf-8", "replace")
        try:
            nodes: list[Mapping[str, Any]] = json.JSONDecoder().raw_decode(text)[0]["nodes"]
        except json.JSONDecodeError:
            if size >= min(len(data), _MAX_TREE_BYTES):
                raise
            size *= 8
            continue
        if not isinstance(nodes, list) or not 0 < len(nodes) <= _MAX_NODES:
            raise ValueError("no tree")
        return nodes


def _write(
    nodes: list[Mapping[str, Any]], index: int, data: bytes, place: Path, seen: set[int]
) -> None:
    """Write the node at ``index`` as ``place``, and what is below it."""
    if index in seen or index < 0:
        raise ValueError("a node has two parents")
    seen.add(index)
    node = nodes[index]
    if node["kind"] != _FOLDER:
        start, size = node["dataRegion"]["offset"], node["dataRegion"]["size"]
        if start < 0 or size < 0 or start + size > len(data):
            raise ValueError("a file leads out of the data")
        place.write_bytes(data[start : start + size])
        return
    place.mkdir(exist_ok=True)
    for name, child in node["children"].items():
        if "/" in name or not names_a_file_inside(name):
            raise ValueError("a name leads out of the folder")
        _write(nodes, child, data, place / name, seen)
