"""What an examination counts, on programs small enough to count by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol
from coremltools.converters.mil.mil import types as mil
from lpa_validate.rules.neural_engine import Graph, examine, read_graph
from lpa_validate.rules.neural_engine.as_text import examination_lines
from lpa_validate.rules.neural_engine.fixed import with_shapes
from lpa_validate.rules.neural_engine.rules import label

from lpa_export.runtimes.coreml import load_package

BC1S = (1, 64, 1, 128)
ONE_BY_ONE = 64 * 64 * 128
"""Multiply-accumulates of ``dense``."""


def dense(x: Any, name: str) -> Any:
    return mb.conv(x=x, weight=np.full((64, 64, 1, 1), 0.1, np.float16), name=name)


def interrupted(x: Any) -> Any:
    """conv, relu | mod, tan | conv, sin, conv, relu: six operations stay, two are off."""
    x = mb.relu(x=dense(x, "first"))
    x = mb.tan(x=mb.mod(x=x, y=np.float16(2), name="rest"))
    x = mb.sin(x=dense(x, "second"), name="waves")
    return mb.relu(x=dense(x, "third"))


SCOPES = {"first": "layers.0", "rest": "layers.1", "waves": "layers.2.lpa"}


def test_shares_runs_and_breaks_are_those_counted_by_hand(
    graph_of: Callable[..., Graph],
) -> None:
    found = examine(graph_of(interrupted, BC1S, name="frames_128"), SCOPES)
    assert (found.ops, found.macs, found.uncounted) == (8, 3 * ONE_BY_ONE, 0)
    assert (found.free_of_fatal.ops, found.free_of_fatal.macs) == (75.0, 100.0)
    assert (found.free.ops, found.free.macs) == (62.5, 100.0)
    assert [segment.ops for segment in found.segments] == [2, 4]
    assert found.longest is not None
    assert found.longest.mac_share == pytest.approx(200 / 3)
    assert [(cut.after, cut.op, cut.module, cut.rules) for cut in found.breaks] == [
        (0, "mod", "layers.1", ("op.none",))
    ]


def test_a_finding_names_its_operations_modules_and_work(graph_of: Callable[..., Graph]) -> None:
    found = examine(graph_of(interrupted, BC1S), SCOPES)
    waves, none = found.finding("op.trig"), found.finding("op.none")
    assert waves is not None and none is not None
    assert (waves.ops, waves.macs, waves.names, waves.modules) == (
        1,
        0,
        ("waves",),
        ("layers.2.lpa",),
    )
    assert (none.ops, none.evidence) == (2, ("mod", "tan"))
    assert found.finding("state") is None


def test_work_under_a_fatal_rule_is_not_free(graph_of: Callable[..., Graph]) -> None:
    def half_wide(x: Any) -> Any:
        return mb.cast(x=dense(dense(x, "a"), "b"), dtype="int32")

    narrow = examine(graph_of(half_wide, BC1S))
    assert (narrow.free_of_fatal.macs, narrow.free_of_fatal.ops) == (100.0, pytest.approx(200 / 3))
    wide = examine(graph_of(lambda x: dense(x, "a"), (1, 64, 1, 16_385)))
    assert wide.free_of_fatal.macs == 0.0


def test_wrong_numbers_are_fatal_but_move_nothing(graph_of: Callable[..., Graph]) -> None:
    def masked(x: Any) -> Any:
        return dense(mb.add(x=dense(x, "a"), y=np.float16(-np.inf)), "b")

    found = examine(graph_of(masked, BC1S))
    assert found.free_of_fatal.ops == pytest.approx(200 / 3)
    assert [segment.ops for segment in found.segments] == [3]
    assert all(verdict.on_engine for verdict in found.verdicts)


def test_constants_and_unpacked_weights_are_no_operations(graph_of: Callable[..., Graph]) -> None:
    def unpacked(x: Any) -> Any:
        packed = mb.constexpr_blockwise_shift_scale(
            data=np.ones((64, 64, 1, 1), np.int8), scale=np.ones((64, 1, 1, 1), np.float16)
        )
        return mb.conv(x=x, weight=packed)

    found = examine(graph_of(unpacked, BC1S))
    assert (found.ops, found.macs) == (1, ONE_BY_ONE)


def test_a_range_of_shapes_is_a_risk_also_when_counted_at_one_size(
    function_of: Callable[..., Any],
) -> None:
    function = function_of(lambda x: dense(x, "a"), (1, 64, 1, get_new_symbol()))
    open_ended = examine(read_graph(function))
    fixed = with_shapes(function, {"x": BC1S})
    counted = examine(read_graph(fixed, flexible={"x": "range"}))
    assert (open_ended.macs, open_ended.uncounted) == (0, 1)
    assert (counted.macs, counted.uncounted) == (ONE_BY_ONE, 0)
    for found in (open_ended, counted):
        # Reports conflict: it is a risk, which moves nothing.
        dynamic = found.finding("shape.dynamic")
        assert dynamic is not None and dynamic.rule.severity == "risk"
        assert found.free_of_fatal.ops == 100.0
    assert None in read_graph(function).inputs[0].shape


def test_a_size_that_the_operations_do_not_take_is_refused(
    function_of: Callable[..., Any],
) -> None:
    function = function_of(lambda x: dense(x, "a"), (1, 64, 1, get_new_symbol()))
    assert with_shapes(function, {"x": (1, 63, 1, 8)}) is None


def test_operations_of_nested_blocks_count(graph_of: Callable[..., Graph]) -> None:
    def branching(x: Any) -> Any:
        holds = mb.squeeze(x=mb.greater(x=mb.reduce_sum(x=x, keep_dims=False), y=np.float16(0)))
        return mb.cond(pred=holds, _true_fn=lambda: mb.tan(x=x), _false_fn=lambda: mb.relu(x=x))

    found = examine(graph_of(branching, BC1S))
    none = found.finding("op.none")
    assert none is not None and none.evidence == ("tan",)


def test_lists_and_loops_are_examined_too(graph_of: Callable[..., Graph]) -> None:
    def looping(x: Any) -> Any:
        kept = mb.make_list(init_length=2, elem_shape=(1, 4), dtype="fp16")
        kept = mb.list_write(ls=kept, index=0, value=x)
        _, last = mb.while_loop(
            _cond=lambda i, v: mb.less(x=i, y=3),
            _body=lambda i, v: (mb.add(x=i, y=1), mb.tan(x=v)),
            loop_vars=(0, x),
        )
        return mb.add(x=mb.list_read(ls=kept, index=0), y=last)

    none = examine(graph_of(looping, (1, 4))).finding("op.none")
    assert none is not None
    assert set(none.evidence) == {"make_list", "list_write", "list_read", "tan"}


def test_a_saved_package_is_examined_with_everything_labelled_predicted(
    tmp_path: Path, function_of: Callable[..., Any]
) -> None:
    @mb.program(input_specs=[mb.TensorSpec(BC1S, mil.fp16)], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        return interrupted(x)

    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "model.mlpackage"))
    package = load_package(tmp_path / "model.mlpackage")
    found = examine(read_graph(package.functions["main"], size=package.size))
    assert (found.ops, found.macs) == (8, 3 * ONE_BY_ONE)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["label"] == label()
    text = "\n".join(examination_lines(written))
    assert "op.none" in text and "precompute it" in text
