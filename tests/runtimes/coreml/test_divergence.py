"""Finding the operation to blame: an error planted in the middle, and one that builds up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.coreml import Arithmetic, Evaluator, InputError, Package
from lpa_export.runtimes.coreml.divergence import (
    agreement_db,
    first_divergence,
    first_stage_divergence,
    save_case,
)

Saved = Callable[..., Package]
SPECS = {"x": ((4, 64), "fp16")}
X = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float16)
OFFSET = np.float16(20_000)


def planted(mb: Any, x: Any) -> Any:
    """Adding 20 000 and taking it away again leaves nothing of a float16."""
    first = mb.tanh(x=x, name="first")
    second = mb.mul(x=first, y=np.float16(1.25), name="second")
    lost = mb.sub(x=mb.add(x=second, y=OFFSET, name="raised"), y=OFFSET, name="lost")
    return mb.relu(x=mb.mul(x=lost, y=np.float16(0.5), name="after"), name="y")


def pair(package: Package) -> tuple[Evaluator, Evaluator]:
    return Evaluator(package, arithmetic=Arithmetic.FP32), Evaluator(package)


def test_the_planted_operation_is_found(package: Saved) -> None:
    scopes = {"second": "encoder.0", "lost": "encoder.1.normalise"}
    found = first_divergence(*pair(package(planted, SPECS)), {"x": X}, gate_db=40, scopes=scopes)
    assert found is not None
    assert (found.op_type, found.output, found.place) == ("sub", "lost", 3)
    assert found.module == "encoder.1.normalise"
    assert found.db < 20
    assert (found.case.output, found.case.op_type) == ("lost", "sub")
    assert not found.accumulated


def test_the_case_can_be_replayed_from_its_file(package: Saved, tmp_path: Path) -> None:
    found = first_divergence(*pair(package(planted, SPECS)), {"x": X}, gate_db=40)
    assert found is not None
    save_case(found.case, tmp_path / "case.npz")
    with np.load(tmp_path / "case.npz", allow_pickle=False) as saved:
        x, y = (saved[f"input.{name}"].astype(np.float16) for name in "xy")
        np.testing.assert_array_equal(x - y, saved["found"])
        expected = 1.25 * np.tanh(X.astype(np.float64))
        np.testing.assert_allclose(saved["expected"], expected, atol=2e-3)
        assert psnr(saved["expected"], saved["found"]) == pytest.approx(found.case.alone_db)


def test_an_overflow_is_found_where_it_happens(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        wide = mb.square(x=mb.mul(x=x, y=np.float16(300), name="scaled"), name="wide")
        return mb.sqrt(x=wide, name="y")

    found = first_divergence(*pair(package(body, SPECS)), {"x": X}, gate_db=40)
    assert found is not None
    assert found.output == found.case.output == "wide"
    assert np.isnan(found.db)
    assert np.isinf(found.case.found).any()
    assert np.isfinite(found.case.expected).all()


def test_a_damaged_weight_is_found_where_it_is_used(
    package: Saved, save: Any, tmp_path: Path
) -> None:
    from lpa_export.runtimes.coreml import load_package

    weight = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float16)

    def body(second: Any) -> Any:
        def build(mb: Any, x: Any) -> Any:
            once = mb.linear(x=mb.tanh(x=x, name="first"), weight=weight, name="once")
            return mb.relu(x=mb.linear(x=once, weight=second, name="twice"), name="y")

        return build

    damaged = weight.copy()
    damaged[3] *= -4
    whole = Evaluator(package(body(weight), SPECS), arithmetic=Arithmetic.FP32)
    other = load_package(save(tmp_path / "damaged.mlpackage", body(damaged), SPECS))
    found = first_divergence(
        whole, Evaluator(other, arithmetic=Arithmetic.FP32), {"x": X}, gate_db=40
    )
    assert found is not None
    assert found.output == found.case.output == "twice"
    # Replayed alone it gives what the damaged program gives, from what the whole one was given.
    np.testing.assert_array_equal(found.case.inputs["weight"], damaged)
    replayed = found.case.inputs["x"].astype(np.float64) @ damaged.astype(np.float64).T
    np.testing.assert_allclose(found.case.found, replayed, rtol=1e-3, atol=1e-2)


def test_an_error_that_builds_up_is_told_from_one_that_is_planted(package: Saved) -> None:
    def body(mb: Any, x: Any) -> Any:
        for place in range(40):
            x = mb.mul(x=x, y=np.float16(1.0 + 2**-7), name=f"up{place}")
            x = mb.mul(x=x, y=np.float16(1 / 1.0078125), name=f"down{place}")
        return x

    found = first_divergence(*pair(package(body, SPECS)), {"x": X}, gate_db=70)
    assert found is not None
    assert found.accumulated
    assert found.place > 2
    assert found.case.alone_db > 70 > found.db


def test_runs_that_agree_have_no_divergence(package: Saved) -> None:
    loaded = package(planted, SPECS)
    twin = Evaluator(loaded, arithmetic=Arithmetic.FP32)
    assert first_divergence(*pair(loaded), {"x": X}, gate_db=-100) is None
    same = Evaluator(loaded, arithmetic=Arithmetic.FP32)
    assert first_divergence(twin, same, {"x": X}, gate_db=200) is None


def test_other_programs_are_not_compared(package: Saved, save: Any, tmp_path: Path) -> None:
    from lpa_export.runtimes.coreml import load_package

    other = save(tmp_path / "other.mlpackage", lambda mb, x: mb.relu(x=x, name="only"), SPECS)
    reference, candidate = Evaluator(package(planted, SPECS)), Evaluator(load_package(other))
    with pytest.raises(InputError, match="different ways at operation 0"):
        first_divergence(reference, candidate, {"x": X}, gate_db=40)


def test_the_first_stage_that_is_missed(package: Saved) -> None:
    first = np.tanh(X.astype(np.float64))
    lost = 1.25 * first
    expected = {"y": np.maximum(lost / 2, 0), "lost": lost, "first": first}
    evaluator = Evaluator(package(planted, SPECS))
    found = first_stage_divergence(
        evaluator, {"x": X}, expected, gate_db=40, scopes={"raised": "encoder.1"}
    )
    assert found is not None
    assert (found.output, found.last_good) == ("lost", "first")
    assert found.between == (
        ("mul", "second", None),
        ("add", "raised", "encoder.1"),
        ("sub", "lost", None),
    )
    good = {"first": first, "second": lost}
    assert first_stage_divergence(evaluator, {"x": X}, good, gate_db=40) is None


def test_agreement_of_special_values() -> None:
    masked = np.array([1.0, -np.inf, 2.0])
    assert agreement_db(masked, masked.copy()) == float("inf")
    assert agreement_db(masked, np.array([1.0, -np.inf, 2.02])) == pytest.approx(
        psnr([1, 2], [1, 2.02])
    )
    assert np.isnan(agreement_db(masked, np.array([1.0, np.inf, 2.0])))
    assert np.isnan(agreement_db(masked, np.array([1.0, 5.0, 2.0])))
    assert np.isnan(agreement_db(masked, masked[:2]))
