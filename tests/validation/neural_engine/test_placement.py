"""The placement file: a change of names is no change, a further operation off is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from lpa_validate.rules.neural_engine import (
    Examination,
    Graph,
    compare_placement,
    examine,
    write_placement,
)

from lpa_export.errors import LpaError

NAME = "encoder.mlpackage/frames_128"
Examined = Callable[..., dict[str, Examination]]


@pytest.fixture
def examined(graph_of: Callable[..., Graph]) -> Examined:
    """A chain of named kinds of operations, each from the module it is given."""

    def made(*steps: tuple[str, str], prefix: str = "v") -> dict[str, Examination]:
        def chain(x: Any) -> Any:
            for index, (kind, _) in enumerate(steps):
                extra = {"y": np.float16(2)} if kind in ("mod", "mul") else {}
                x = getattr(mb, kind)(x=x, name=f"{prefix}{index}", **extra)
            return x

        scopes = {f"{prefix}{index}": module for index, (_, module) in enumerate(steps)}
        return {NAME: examine(graph_of(chain, (1, 8, 1, 64)), scopes)}

    return made


BEFORE = [("relu", "layers.0"), ("mod", "layers.0"), ("mul", "layers.1"), ("relu", "layers.1")]


def test_renumbered_names_and_moved_operations_are_no_change(
    tmp_path: Path, examined: Examined
) -> None:
    write_placement(tmp_path / "p.json", examined(*BEFORE))
    moved = [BEFORE[2], BEFORE[0], BEFORE[1], ("relu", "layers.0"), BEFORE[3]]
    found = compare_placement(tmp_path / "p.json", examined(*moved, prefix="op_9"))
    assert found.leaving == () and found.joining == () and found.unmatched == ()


def test_a_further_operation_off_is_named_with_its_module_and_rules(
    tmp_path: Path, examined: Examined
) -> None:
    write_placement(tmp_path / "p.json", examined(*BEFORE))
    found = compare_placement(tmp_path / "p.json", examined(*BEFORE, ("mod", "layers.1")))
    assert found.joining == ()
    assert [move.to_json() for move in found.leaving] == [
        {
            "function": NAME,
            "op": "mod",
            "module": "layers.1",
            "count": 1,
            "rules": ["op.none"],
        }
    ]


def test_an_operation_that_was_on_it_and_is_off_now_leaves(
    tmp_path: Path, examined: Examined, graph_of: Callable[..., Graph]
) -> None:
    def scaled(x: Any) -> Any:
        return mb.mul(x=mb.relu(x=x), y=np.float16(2))

    small, wide = (
        {NAME: examine(graph_of(scaled, (1, 8, 1, width)))} for width in (16_384, 16_385)
    )
    write_placement(tmp_path / "p.json", small)
    found = compare_placement(tmp_path / "p.json", wide)
    assert [(move.op, move.count, move.rules) for move in found.leaving] == [
        ("mul", 1, ("shape.extent",)),
        ("relu", 1, ("shape.extent",)),
    ]
    write_placement(tmp_path / "p.json", wide)
    back = compare_placement(tmp_path / "p.json", small)
    assert back.leaving == ()
    assert [(move.op, move.count) for move in back.joining] == [("mul", 1), ("relu", 1)]


def test_functions_of_one_side_alone_are_named(tmp_path: Path, examined: Examined) -> None:
    now = examined(*BEFORE)
    write_placement(tmp_path / "p.json", {**now, "encoder.mlpackage/frames_512": now[NAME]})
    found = compare_placement(tmp_path / "p.json", now)
    assert found.unmatched == ("encoder.mlpackage/frames_512",)


def test_the_file_holds_a_verdict_per_operation_under_a_stable_key(
    tmp_path: Path, examined: Examined
) -> None:
    write_placement(tmp_path / "p.json", examined(*BEFORE, ("mod", "layers.0")))
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["label"] == "predicted"
    assert content["functions"][NAME] == {
        "relu layers.0 #0": "ane",
        "mod layers.0 #0": ["op.none"],
        "mul layers.1 #0": "ane",
        "relu layers.1 #0": "ane",
        "mod layers.0 #1": ["op.none"],
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"schema_version": 2, "functions": {}}',
        '{"schema_version": 1, "functions": []}',
        '{"schema_version": 1, "functions": {"main": {"conv": "ane"}}}',
        '{"schema_version": 1, "functions": {"main": {"conv a #0": "gpu"}}}',
        '{"schema_version": 1, "functions": {"main": {"conv a #0": []}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    content: str, tmp_path: Path, examined: Examined
) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(LpaError, match="write it again") as caught:
        compare_placement(tmp_path / "p.json", examined(*BEFORE))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_place_that_cannot_be_written_are_named(
    tmp_path: Path, examined: Examined
) -> None:
    with pytest.raises(LpaError, match=r"none\.json: cannot be read"):
        compare_placement(tmp_path / "none.json", examined(*BEFORE))
    with pytest.raises(LpaError, match="cannot be written"):
        write_placement(tmp_path / "none" / "p.json", examined(*BEFORE))
