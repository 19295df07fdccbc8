"""Running whole functions: values, inputs that do not fit, blocks, state, memory."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, InputError, Package, PackageError
from lpa_export.runtimes.coreml.plan import Step

Saved = Callable[..., Package]


def test_values_can_be_tapped(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        doubled = mb.mul(x=x, y=np.float32(2), name="doubled")
        return mb.add(x=doubled, y=np.float32(1), name="y")

    evaluator = Evaluator(package(body, {"x": ((2, 2), "fp32")}))
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    found = evaluator.run({"x": x}, taps=("doubled", "x"))
    assert evaluator.values == {"x", "doubled", "y"}
    assert evaluator.outputs == ("y",)
    assert list(found) == ["y", "doubled", "x"]
    np.testing.assert_array_equal(found["doubled"], 2 * x)
    np.testing.assert_array_equal(found["y"], 2 * x + 1)
    with pytest.raises(InputError, match="has no value halved"):
        evaluator.run({"x": x}, taps=("halved",))


def test_what_comes_out_is_the_callers_own(package: Saved) -> None:
    evaluator = Evaluator(package(lambda mb, x: mb.identity(x=x, name="y"), {"x": ((3,), "fp32")}))
    x = np.ones(3, np.float32)
    found = evaluator.run({"x": x})["y"]
    found[:] = 5
    np.testing.assert_array_equal(x, 1)
    x.flags.writeable = False
    np.testing.assert_array_equal(evaluator.run({"x": x})["y"], 1)


def test_integers_and_truth_values(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        return [mb.greater(x=x, y=np.int32(1), name="more"), mb.mul(x=x, y=x, name="square")]

    evaluator = Evaluator(package(body, {"x": ((3,), "int32")}))
    # A truth value is no type of an output: the converter puts a cast behind it.
    truth = evaluator.steps[0].output
    found = evaluator.run({"x": np.array([0, 2, -3])}, taps=(truth,))
    assert (found[truth].dtype, found["more"].dtype) == (np.bool_, np.float32)
    assert found["square"].dtype == np.int32
    assert found[truth].tolist() == [False, True, False]
    assert found["square"].tolist() == [0, 4, 9]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "function main takes x; found none"),
        ({"z": np.zeros((2, 3), np.float32)}, "function main takes x; found z"),
        ({"x": np.zeros((3, 2), np.float32)}, r"expected shape \(2, 3\), found \(3, 2\)"),
        ({"x": np.zeros((2, 3), np.int64)}, r"expected floating point \(fp32\), found int64"),
        ({"x": [[1.0, 2.0, 3.0]] * 2}, r"input x .*expected a NumPy array .*found list"),
        ({"x": 1.0}, "input x .*expected a NumPy array .*found float"),
        ({"x": np.zeros((1, 2, 3), np.float32)}, r"input x .*expected shape \(2, 3\)"),
        ({"x": np.zeros((2, 3), complex)}, "input x .*expected floating point"),
        ({"x": np.zeros((2, 3), object)}, "input x .*expected floating point"),
        ([np.zeros((2, 3), np.float32)], "main takes its inputs by name; found list"),
    ],
)
def test_inputs_that_do_not_fit(package: Saved, inputs: Any, message: str) -> None:
    evaluator = Evaluator(package(lambda mb, x: mb.relu(x=x), {"x": ((2, 3), "fp32")}))
    with pytest.raises(InputError, match=message) as caught:
        evaluator.run(inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("listed", [False, True])
def test_flexible_inputs_have_bounds(tmp_path: Any, listed: bool) -> None:
    import coremltools

    from lpa_export.runtimes.coreml import load_package

    sizes: Any = coremltools.RangeDim(2, 5, default=3)
    shape: Any = coremltools.Shape((1, sizes))
    if listed:
        shape = coremltools.EnumeratedShapes([(1, 3), (1, 5)], default=(1, 3))
    traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 3))
    model = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType("x", shape, np.float32)],
        outputs=[coremltools.TensorType("y", dtype=np.float32)],
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "flexible.mlpackage"))
    evaluator = Evaluator(load_package(tmp_path / "flexible.mlpackage"))
    assert not evaluator.features["x"].fixed
    for size in (3, 5):
        assert evaluator.run({"x": np.ones((1, size), np.float32)})["y"].shape == (1, size)
    expected = r"\(1, 3\) or \(1, 5\)" if listed else r"\(1, 2\.\.5\)"
    for size in (1, 6) if not listed else (4, 6):
        with pytest.raises(InputError, match=f"expected shape {expected}"):
            evaluator.run({"x": np.ones((1, size), np.float32)})


def test_an_operation_that_breaks_is_named(package: Saved) -> None:
    def body(mb: Any, x: Any, places: Any) -> Any:
        return mb.gather(x=x, indices=places, axis=0, validate_indices=False, name="picked")

    evaluator = Evaluator(package(body, {"x": ((3,), "fp32"), "places": ((2,), "int32")}))
    inputs = {"x": np.ones(3, np.float32), "places": np.array([0, 99], np.int32)}
    with pytest.raises(PackageError, match=r"gather \(operation picked, output picked\)") as caught:
        evaluator.run(inputs)
    assert "\n" not in str(caught.value)


def test_branches(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, keep_dims=False), y=np.float32(0))
        doubled = mb.mul(x=x, y=np.float32(2), name="doubled")
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.add(x=doubled, y=np.float32(1)),
            _false_fn=lambda: mb.sub(x=x, y=doubled),
            name="y",
        )

    evaluator = Evaluator(package(body, {"x": ((2,), "fp32")}))
    assert evaluator.run({"x": np.array([1, 2], np.float32)})["y"].tolist() == [3, 5]
    assert evaluator.run({"x": np.array([-1, -2], np.float32)})["y"].tolist() == [1, 2]


def test_loops(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda total, count: mb.less(x=count, y=np.float32(5)),
            _body=lambda total, count: (
                mb.add(x=total, y=mb.mul(x=x, y=count)),
                mb.add(x=count, y=np.float32(1)),
            ),
            loop_vars=(x, np.float32(0)),
            name="y",
        )

    found = Evaluator(package(body, {"x": ((2,), "fp32")})).run({"x": np.array([1, 3], np.float32)})
    assert [values.tolist() for values in found.values()] == [[11, 33], 5]


def test_a_state_lasts_from_run_to_run(tmp_path: Any) -> None:
    import coremltools

    from lpa_export.runtimes.coreml import load_package

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total: torch.Tensor
            self.register_buffer("total", torch.zeros(1, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total * 2

    traced = torch.jit.trace(Sum(), torch.ones(1, 3), check_trace=False)
    model = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType("x", (1, 3))],
        outputs=[coremltools.TensorType("y")],
        states=[coremltools.StateType(coremltools.TensorType(shape=(1, 3)), "total")],
        minimum_deployment_target=coremltools.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "sum.mlpackage"))
    evaluator = Evaluator(load_package(tmp_path / "sum.mlpackage"))
    x, state = np.ones((1, 3), np.float16), evaluator.state()
    found = [evaluator.run({"x": x}, state=state)["y"][0, 0] for _ in range(3)]
    assert found == [2, 4, 6]
    assert evaluator.run({"x": x})["y"][0, 0] == 2
    assert list(state) == ["total"]
    for wrong in ({}, {"total": torch.zeros(3)}):
        with pytest.raises(InputError, match=r"state total of main: expected a tensor \(1, 3\)"):
            evaluator.run({"x": x}, state=wrong)


def test_sparse_palettised_weights_come_through_two_steps(package: Saved) -> None:
    from coremltools.converters.mil.mil import types

    bit = types.nptype_from_builtin(types.string_to_builtin("uint1"))
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    indices = np.array([0, 1, 1, 0])
    lut = np.array([2.5, -3], np.float16).reshape(1, 1, 2, 1)

    def body(mb: Any, x: Any) -> Any:
        parts = mb.constexpr_lut_to_sparse(
            indices_mask=mask.astype(bit), indices_nonzero_data=indices.astype(bit), lut=lut
        )
        weight = mb.constexpr_sparse_to_dense(mask=parts[0], nonzero_data=parts[1])
        return mb.linear(x=x, weight=weight, name="y")

    evaluator = Evaluator(package(body, {"x": ((1, 3), "fp16")}, target="iOS18"))
    x = np.array([[1, 10, 100]], np.float16)
    assert evaluator.run({"x": x})["y"].tolist() == [[2.5 - 300, -30 + 250]]


def test_values_are_freed_after_their_last_use(package: Saved) -> None:
    count, size = 12, 64 * 1024

    def body(mb: Any, x: Any) -> Any:
        for place in range(count):
            x = mb.mul(x=x, y=np.float32(1 + place), name=f"v{place}")
        return x

    evaluator = Evaluator(package(body, {"x": ((size,), "fp32")}))
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    for executed in evaluator.trace({"x": np.ones(size, np.float32)}):
        alive.append(weakref.ref(executed.outputs[0]))
        del executed
        most = max(most, sum(reference() is not None for reference in alive))
    assert len(alive) == count
    assert most <= 2


def test_weights_go_with_the_last_evaluator(package: Saved) -> None:
    weight = np.ones((64, 64), np.float16)
    loaded = package(lambda mb, x: mb.linear(x=x, weight=weight), {"x": ((1, 64), "fp16")})
    evaluator = Evaluator(loaded)
    (executed,) = evaluator.trace({"x": np.ones((1, 64), np.float16)})
    kept = weakref.ref(executed.inputs["weight"])
    del executed
    gc.collect()
    assert kept() is not None
    del evaluator
    gc.collect()
    assert kept() is None


def test_steps_come_in_the_order_of_the_program(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.relu(x=mb.square(x=x, name="a"), name="b")

    evaluator = Evaluator(package(body, {"x": ((2,), "fp32")}), arithmetic=Arithmetic.FP32)
    assert all(isinstance(step, Step) for step in evaluator.steps)
    assert [(step.op_type, step.output) for step in evaluator.steps] == [
        ("square", "a"),
        ("relu", "b"),
    ]


def test_whole_numbers_must_fit(package: Saved) -> None:
    evaluator = Evaluator(package(lambda mb, x: mb.add(x=x, y=1, name="y"), {"x": ((1,), "int32")}))
    with pytest.raises(InputError, match="x of main: expected int32, found larger"):
        evaluator.run({"x": np.array([1 << 40])})
