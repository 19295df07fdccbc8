"""What the monitor counts against numpy, on values chosen to overflow and to vanish."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package
from lpa_export.runtimes.coreml.monitor import Monitor, OpRecord, beyond, slowest, worst_ranges

Saved = Callable[..., Package]

X = np.array([[300, -1.5, 2e-3, 0, 256, 7]], np.float16)


def body(mb: Any, x: Any) -> Any:
    square = mb.square(x=x, name="square")
    product = mb.matmul(x=x, y=np.full((6, 2), 70, np.float16), name="product")
    small = mb.mul(x=x, y=np.float16(1e-3), name="small")
    difference = mb.sub(x=square, y=square, name="difference")
    return [product, small, difference]


@pytest.fixture
def records(package: Saved) -> dict[str, OpRecord]:
    monitor = Monitor()
    evaluator = Evaluator(package(body, {"x": (X.shape, "fp16")}))
    evaluator.run({"x": X}, monitor=monitor)
    assert [record.output for record in monitor.records] == [
        "square", "product", "small", "difference",
    ]  # fmt: skip
    return {record.output: record for record in monitor.records}


def test_ranges_are_those_before_rounding(records: dict[str, OpRecord]) -> None:
    wide = X.astype(np.float32) ** 2
    square = records["square"]
    assert (square.minimum, square.maximum) == (wide.min(), wide.max())
    assert square.largest == 90000
    assert (square.op_type, square.shape, square.dtype, square.elements) == (
        "square", (1, 6), "float16", 6,
    )  # fmt: skip


def test_overflow_is_counted(records: dict[str, OpRecord]) -> None:
    square = records["square"]
    assert square.saturated == pytest.approx(2 / 6)
    assert square.infinite == pytest.approx(2 / 6)
    assert square.beyond_accumulator == 0
    product = records["product"]
    assert product.largest == pytest.approx(float(X.astype(float).sum() * 70), rel=1e-3)
    assert (product.saturated, product.infinite, product.beyond_accumulator) == (0, 0, 1)


def test_nan_is_counted(records: dict[str, OpRecord]) -> None:
    difference = records["difference"]
    assert difference.nan == pytest.approx(2 / 6)
    assert (difference.minimum, difference.maximum) == (0, 0)


def test_underflow_is_counted(records: dict[str, OpRecord]) -> None:
    products = X.astype(np.float32) * np.float32(np.float16(1e-3))
    tiny = (products != 0) & (np.abs(products) < np.finfo(np.float16).tiny)
    assert records["small"].underflow == pytest.approx(tiny.mean())
    assert tiny.sum() == 1


def test_runs_add_up(package: Saved) -> None:
    monitor = Monitor()
    evaluator = Evaluator(package(body, {"x": (X.shape, "fp16")}))
    evaluator.run({"x": X}, monitor=monitor)
    evaluator.run({"x": np.zeros_like(X)}, monitor=monitor)
    square = monitor.records[0]
    assert (square.runs, square.elements, square.minimum) == (2, 12, 0)
    assert square.saturated == pytest.approx(2 / 12)
    assert square.seconds > 0


def test_values_are_the_same_with_and_without_it(package: Saved) -> None:
    loaded = package(body, {"x": (X.shape, "fp16")})
    for arithmetic in (Arithmetic.FP32, Arithmetic.FP16):
        evaluator = Evaluator(loaded, arithmetic=arithmetic)
        alone, watched = evaluator.run({"x": X}), evaluator.run({"x": X}, monitor=Monitor())
        for name, values in alone.items():
            np.testing.assert_array_equal(values, watched[name])


def test_without_rounding_the_risk_still_shows(package: Saved) -> None:
    monitor = Monitor()
    loaded = package(body, {"x": (X.shape, "fp16")})
    Evaluator(loaded, arithmetic=Arithmetic.FP32).run({"x": X}, monitor=monitor)
    square = monitor.records[0]
    assert square.saturated == pytest.approx(2 / 6)
    assert square.infinite == 0


def test_summaries(records: dict[str, OpRecord]) -> None:
    listed = list(records.values())
    assert [record.output for record in worst_ranges(listed, 2)] == ["square", "difference"]
    assert [record.output for record in beyond(listed, 32752)] == ["square", "product"]
    times = [record.seconds for record in slowest(listed, 4)]
    assert times == sorted(times, reverse=True)


def test_records_are_json(records: dict[str, OpRecord]) -> None:
    text = json.dumps([record.to_json() for record in records.values()], allow_nan=False)
    assert json.loads(text)[0]["output"] == "square"
