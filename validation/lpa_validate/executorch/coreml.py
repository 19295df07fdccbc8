"""The Core ML program inside a delegate, laid out again as the package it was.

The backend is given a folder in one piece (``inmemoryfs`` of ExecuTorch's Core ML runtime): the
files one after another, and behind them a JSON tree of names and places, written backwards.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_validate.runners import ArtifactError

__all__ = ["BACKEND", "PACKAGE", "CoremlModel", "unpack"]

BACKEND = "CoreMLBackend"
PACKAGE = "model.mlpackage"

_METADATA = "metadata.json"
_FOLDER = 1
_MAX_NODES = 10_000
_MAX_TREE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class CoremlModel:
    """An unpacked package; names in the order in which the delegate call passes them."""

    package: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def unpack(data: bytes, folder: Path) -> CoremlModel:
    """Write the files in ``data`` (a delegate's) below ``folder``, which exists and is empty.

    Raises ArtifactError for damaged data, a model compiled for one system only, and names that
    lead out of the folder.
    """
    try:
        nodes = _tree(data)
        _write(nodes, len(nodes) - 1, data, folder, set())
        stated = json.loads((folder / _METADATA).read_text("utf-8"))
        inputs, outputs = tuple(stated["inputNames"]), tuple(stated["outputNames"])
    except (KeyError, TypeError, ValueError, IndexError, OSError, RecursionError) as error:
        raise ArtifactError(f"its Core ML delegate is damaged ({type(error).__name__})") from error
    package = folder / PACKAGE
    if not package.is_dir():
        raise ArtifactError(f"its Core ML delegate holds no {PACKAGE}: compiled models do not run")
    return CoremlModel(package, inputs, outputs)


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
        if name in ("", ".", "..") or set(name) & set("/\\:\0"):
            raise ValueError("a name leads out of the folder")
        _write(nodes, child, data, place / name, seen)
