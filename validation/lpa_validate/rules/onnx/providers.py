"""The execution providers and the ops each of them takes, with the source of every list.

Core ML and NNAPI: the lists in the installed ONNX Runtime wheel, so they are of its version.
XNNPACK and QNN: its documentation, kept beside this file with address and version.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from lpa_validate.rules.onnx.conditions import NOTES, unmet
from lpa_validate.rules.onnx.graph import Node

__all__ = ["OpRule", "Provider", "all_providers", "op_list"]

DynamicShapes = Literal["accepted", "slow", "refused"]

_DOCUMENTED = ("xnnpack.json", "qnn.json")

# A row of an op list: |ai.onnx:Conv|notes|. One row of the wheel's has a dot for the colon.
_ROW = re.compile(r"^\|(ai\.onnx|com\.microsoft)[:.](\w+)\|(.*)\|$")


@dataclass(frozen=True)
class OpRule:
    """Conditions an op must meet, and the notes on it that nothing here can check."""

    conditions: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provider:
    """One execution provider as its op list describes it; ``ops`` by lower-case "domain:type"."""

    name: str
    source: str
    ops: Mapping[str, OpRule]
    dynamic_shapes: DynamicShapes
    dynamic_shapes_note: str
    max_rank: int | None = None

    def refusal(self, node: Node) -> str:
        """Why this provider would leave ``node`` to the CPU, "" when it would take it."""
        rule = self.rule(node)
        if rule is None:
            return "not in the op list"
        rank = max(map(len, node.input_shapes), default=0)
        if self.max_rank is not None and rank > self.max_rank:
            return f"rank {rank}, at most {self.max_rank}"
        return unmet(node, rule.conditions)

    def rule(self, node: Node) -> OpRule | None:
        """What the list says about the node's op, None when it is not in there."""
        return self.ops.get(node.op.lower())


@dataclass(frozen=True)
class _Shipped:
    name: str
    file: str
    dynamic_shapes: DynamicShapes
    dynamic_shapes_note: str
    max_rank: int | None


# Dynamic shapes and ranks after the same wheel's tools/mobile_helpers/usability_checker.py.
_SHIPPED = (
    _Shipped(
        "CoreML NeuralNetwork",
        "coreml_supported_neuralnetwork_ops.md",
        "refused",
        "shapes must be fixed",
        5,
    ),
    _Shipped(
        "CoreML MLProgram",
        "coreml_supported_mlprogram_ops.md",
        "slow",
        "accepted at a cost; the Neural Engine needs fixed shapes",
        5,
    ),
    _Shipped("NNAPI", "nnapi_supported_ops.md", "refused", "shapes must be fixed", None),
)


def all_providers() -> list[Provider]:
    """Core ML (both formats), NNAPI, XNNPACK and QNN."""
    return [*map(_shipped, _SHIPPED), *map(_documented, _DOCUMENTED)]


def op_list(markdown: str) -> dict[str, OpRule]:
    """An op list of ONNX Runtime's, a two-column table in Markdown: op (lower case) -> rule."""
    rows = (_ROW.match(line.strip()) for line in markdown.splitlines())
    return {f"{row[1]}:{row[2]}".lower(): _rule(row[3]) for row in rows if row}


def _rule(notes: str) -> OpRule:
    """Each sentence block of the notes as conditions, or as a note that is not checked."""
    conditions: list[str] = []
    unchecked: list[str] = []
    for note in filter(None, map(str.strip, notes.split("<br/>"))):
        if note in NOTES:
            conditions += NOTES[note]
        else:
            unchecked.append(note)
    return OpRule(tuple(dict.fromkeys(conditions)), tuple(unchecked))


def _shipped(entry: _Shipped) -> Provider:
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers"
    return Provider(
        entry.name,
        f"onnxruntime {version('onnxruntime')}: tools/mobile_helpers/{entry.file}",
        op_list((folder / entry.file).read_text("utf-8")),
        entry.dynamic_shapes,
        entry.dynamic_shapes_note,
        entry.max_rank,
    )


def _documented(name: str) -> Provider:
    text = (resources.files("lpa_validate") / "rules" / "onnx" / name).read_text("utf-8")
    entry = json.loads(text)
    return Provider(
        entry["provider"],
        f"{entry['source']} ({entry['version']})",
        {
            op.lower(): OpRule(tuple(conditions), tuple(filter(None, [entry["notes"].get(op)])))
            for op, conditions in entry["ops"].items()
        },
        entry["dynamic_shapes"],
        entry["dynamic_shapes_note"],
        entry["max_rank"],
    )
