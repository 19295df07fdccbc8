"""What an operation in float16 computes with is float16: float32 constants are rounded first.

From iOS17 on the parameters of an operation may be float32 where it works on float16. Each row has
a number that float16 holds badly, NumPy in float64 says what half arithmetic makes of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package
from lpa_export.runtimes.coreml.monitor import Monitor

INFINITE, NOTHING, ALMOST_ONE = 70_000.0, 1e-9, 1.0004
"""Beyond the range, below the smallest, and less than half a step above 1, in float16."""

Reference = Callable[..., Any]


def _norm(x: Any, mean: Any, variance: Any, epsilon: Any) -> Any:
    return (x - mean) / np.sqrt(variance + epsilon)


def _over(x: Any, axes: tuple[int, ...], epsilon: Any) -> Any:
    return _norm(x, x.mean(axes, keepdims=True), x.var(axes, keepdims=True), epsilon)


def _batch(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    parts = (part[:, None] for part in (mean, variance, gamma, beta))
    mean, variance, gamma, beta = parts
    return _norm(x, mean, variance, epsilon) * gamma + beta


ROW = np.array([[0, 2, 4]])
NEGATIVE = np.array([[-0.5, 0.25, 1]])
FLAT = np.zeros((1, 2, 3)) + np.array([0, 1, 3]) * 2e-3
CUBE = np.arange(6).reshape(1, 2, 3) / 4
PAIR = np.array([1.0, 2.0])

ROWS: list[tuple[str, str, Any, Any, dict[str, Any], Reference]] = [
    ("log", "epsilon", NOTHING, ROW, {}, lambda x, c: np.log(x + c)),
    ("rsqrt", "epsilon", NOTHING, ROW, {}, lambda x, c: 1 / np.sqrt(x + c)),
    ("inverse", "epsilon", 2.9e-8, ROW * 0 + 2e-5, {}, lambda x, c: 1 / (x + c)),
    ("elu", "alpha", INFINITE, NEGATIVE, {}, lambda x, c: np.where(x > 0, x, c * np.expm1(x))),
    ("leaky_relu", "alpha", INFINITE, NEGATIVE, {}, lambda x, c: np.where(x > 0, x, c * x)),
    ("thresholded_relu", "alpha", ALMOST_ONE, NEGATIVE, {}, lambda x, c: np.where(x >= c, x, 0)),
    (
        "clamped_relu",
        "alpha",
        INFINITE,
        NEGATIVE,
        {"beta": 6.0},
        lambda x, c: np.minimum(np.where(x >= 0, x, c * x), 6),
    ),
    ("linear_activation", "alpha", INFINITE, NEGATIVE, {"beta": 1.0}, lambda x, c: c * x + 1),
    ("linear_activation", "beta", INFINITE, ROW * 0 - 1, {"alpha": 1e4}, lambda x, c: 1e4 * x + c),
    ("scaled_tanh", "alpha", INFINITE, NEGATIVE, {"beta": 1.0}, lambda x, c: c * np.tanh(x)),
    (
        "scaled_tanh",
        "beta",
        INFINITE,
        ROW * 5e-6 + 1e-6,
        {"alpha": 1.0},
        lambda x, c: np.tanh(c * x),
    ),
    (
        "sigmoid_hard",
        "alpha",
        INFINITE,
        ROW * 3e-6 + 1e-6,
        {"beta": 0.0},
        lambda x, c: np.clip(c * x, 0, 1),
    ),
    ("layer_norm", "epsilon", NOTHING, FLAT / 40, {"axes": [-1]}, lambda x, c: _over(x, (-1,), c)),
    ("instance_norm", "epsilon", NOTHING, FLAT / 40, {}, lambda x, c: _over(x, (-1,), c)),
    (
        "l2_norm",
        "epsilon",
        NOTHING,
        np.full((1, 1, 2), 2e-5),
        {},
        lambda x, c: x / np.sqrt((x**2).sum() + c),
    ),
    (
        "batch_norm",
        "epsilon",
        2.9e-8,
        CUBE,
        {"mean": PAIR * 0, "variance": PAIR * 2**-24, "gamma": PAIR, "beta": PAIR},
        lambda x, c: _batch(x, PAIR * 0, PAIR * 2**-24, PAIR, PAIR, c),
    ),
    (
        "local_response_norm",
        "alpha",
        INFINITE,
        CUBE,
        {"size": 1, "beta": 0.5, "k": 1.0},
        lambda x, c: x / np.sqrt(1 + c * x**2),
    ),
    (
        "local_response_norm",
        "k",
        INFINITE,
        CUBE,
        {"size": 1, "beta": 0.5, "alpha": 1.0},
        lambda x, c: x / np.sqrt(c + x**2),
    ),
    (
        "local_response_norm",
        "beta",
        ALMOST_ONE,
        CUBE * 0 + 100,
        {"size": 1, "alpha": 1.0, "k": 1.0},
        lambda x, c: x / (1 + x**2) ** c,
    ),
]


def _run(package: Callable[..., Package], op: str, x: Any, constants: dict[str, Any]) -> Any:
    """The program's value, without the cast that would follow a float16 output."""
    given = {
        name: value if name in ("axes", "size") else np.float32(value)
        for name, value in constants.items()
    }
    loaded = package(
        lambda mb, x: getattr(mb, op)(x=x, name="y", **given), {"x": (x.shape, "fp16")}
    )
    evaluator = Evaluator(loaded, arithmetic=Arithmetic.FP16)
    monitor = Monitor()
    (found,) = evaluator.run({"x": x.astype(np.float16)}, monitor=monitor).values()
    return found, monitor.records


@pytest.mark.parametrize(
    ("op", "name", "value", "x", "others", "reference"),
    ROWS,
    ids=[f"{op}-{name}" for op, name, *_ in ROWS],
)
def test_a_constant_is_rounded_before_it_is_used(
    package: Callable[..., Package],
    op: str,
    name: str,
    value: float,
    x: Any,
    others: dict[str, Any],
    reference: Reference,
) -> None:
    found, _ = _run(package, op, x, {name: value, **others})
    with np.errstate(all="ignore"):
        given = x.astype(np.float16).astype(np.float64)
        halved = reference(given, np.float64(np.float16(value)))
        wide = reference(given, np.float64(np.float32(value)))
        in_half, unrounded = halved.astype(np.float16), wide.astype(np.float16)
    # The row would prove nothing if half arithmetic made no difference to it.
    assert not np.array_equal(in_half, unrounded, equal_nan=True)
    np.testing.assert_allclose(found, in_half.astype(np.float64), rtol=2e-3)


def test_the_range_check_sees_what_a_lost_epsilon_does(package: Callable[..., Package]) -> None:
    found, records = _run(package, "log", np.zeros((1, 2)), {})
    assert np.isneginf(found).all()
    assert max(record.infinite for record in records) == 1.0


def test_every_parameter_of_its_own_type_has_a_row_or_is_a_weight() -> None:
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.input_type import TensorInputType
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    # Rounded like the rest, but one number among many makes no visible difference; a bound is
    # rounded by the result anyway.
    weights = {"mean", "variance", "gamma", "beta", "weight", "bias", "y", "coordinates"}
    elementwise = {("prelu", "alpha"), ("softplus_parametric", "alpha")}
    rows = {(op, name) for op, name, *_ in ROWS}
    missing = set()
    for op, versions in SSAOpRegistry.core_ops.items():
        for version in versions.values():
            domains = version.type_domains if hasattr(version, "type_domains") else {}
            own = {
                name
                for name, kind in version.input_spec.input_types.items()
                if isinstance(kind, TensorInputType)
                and kind.type_domain_id == "U"
                and types.fp32 in domains["U"]
                and types.fp16 in domains["U"]
            }
            missing |= {(op, name) for name in own - weights} - rows - elementwise
    assert missing <= {("matmul", "y"), ("fill_like", "value")}
