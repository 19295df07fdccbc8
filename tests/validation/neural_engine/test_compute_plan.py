"""Plans read and graded from a recorded one; predictions in processes that end in every way."""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from lpa_validate.rules.compute_plan import adapter, grade, predict, try_prediction
from lpa_validate.rules.neural_engine import Graph, examine

# A plan as coremltools documents it (coremltools.models.compute_plan), written down by hand:
# what the operations are, the device each is meant for, those that could take it, its cost.
RECORDED = {
    "functions": {
        "frames_64": [
            ["const", "weight", None, [], None],
            ["ios18.constexpr_lut_to_dense", "unpacked", None, [], None],
            ["ios18.conv", "a", "NeuralEngine", ["CPU", "GPU", "NeuralEngine"], 0.5],
            ["ios18.cumsum", "b", "CPU", ["CPU", "GPU"], 0.25],
            ["ios17.mod", "c", "CPU", ["CPU", "GPU"], 0.125],
            ["ios18.tan", "d", "NeuralEngine", ["CPU", "NeuralEngine"], 0.125],
            ["ios18.relu", "e", None, [], None],
        ]
    }
}


class MLCPUComputeDevice:
    """Stands for coremltools' class of that name, which only macOS can make."""


class MLGPUComputeDevice:
    """Stands for coremltools' class of that name."""


class MLNeuralEngineComputeDevice:
    """Stands for coremltools' class of that name."""


DEVICES: Mapping[str, Any] = {
    "CPU": MLCPUComputeDevice(),
    "GPU": MLGPUComputeDevice(),
    "NeuralEngine": MLNeuralEngineComputeDevice(),
}


class Bag:
    """Attributes by keyword."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class RecordedPlan:
    """The documented interface of MLComputePlan over a recording."""

    def __init__(self, recording: dict[str, Any]) -> None:
        functions = {
            name: Bag(block=Bag(operations=[self._operation(row) for row in rows]))
            for name, rows in recording["functions"].items()
        }
        self.model_structure = Bag(program=Bag(functions=functions))

    @staticmethod
    def _operation(row: list[Any]) -> Bag:
        kind, output, preferred, supported, cost = row
        return Bag(
            operator_name=kind,
            outputs=[Bag(name=output)],
            blocks=[],
            recorded=(preferred, supported, cost),
        )

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Bag) -> Bag | None:
        preferred, supported, _ = operation.recorded  # type: ignore[attr-defined]
        if preferred is None:
            return None
        return Bag(
            preferred_compute_device=DEVICES[preferred],
            supported_compute_devices=[DEVICES[name] for name in supported],
        )

    def get_estimated_cost_for_mlprogram_operation(self, operation: Bag) -> Bag | None:
        cost = operation.recorded[2]  # type: ignore[attr-defined]
        return None if cost is None else Bag(weight=cost)


def test_a_plan_is_read_without_constants_and_with_device_and_cost() -> None:
    plan = adapter.read_plan(RecordedPlan(RECORDED), "frames_64", "CPU_AND_NE")
    assert [(op.op, op.output, op.device, op.cost) for op in plan.ops] == [
        ("conv", "a", "neural engine", 0.5),
        ("cumsum", "b", "cpu", 0.25),
        ("mod", "c", "cpu", 0.125),
        ("tan", "d", "neural engine", 0.125),
        ("relu", "e", "undetermined", None),
    ]
    assert plan.ops[0].supported == ("cpu", "gpu", "neural engine")
    assert plan.devices == {
        "neural engine": {"ops": 2, "cost": 0.625},
        "cpu": {"ops": 2, "cost": 0.375},
        "undetermined": {"ops": 1, "cost": 0.0},
    }


def test_a_function_that_the_plan_does_not_have_is_named() -> None:
    with pytest.raises(adapter.PlanUnavailable, match="'main'"):
        adapter.read_plan(RecordedPlan(RECORDED), "main", "ALL")
    no_program = Bag(model_structure=Bag(program=None))
    with pytest.raises(adapter.PlanUnavailable):
        adapter.read_plan(no_program, "main", "ALL")


def test_rules_are_graded_by_where_the_plan_places_their_operations(
    graph_of: Callable[..., Graph],
) -> None:
    def program(x: Any) -> Any:
        x = mb.conv(x=x, weight=np.ones((8, 8, 1, 1), np.float16), name="a")
        x = mb.sin(x=x, name="b")
        x = mb.mod(x=x, y=np.float16(2), name="c")
        x = mb.tan(x=x, name="d")
        return mb.relu(x=mb.relu(x=x, name="e"), name="not_in_the_plan")

    examined = examine(graph_of(program, (1, 8, 1, 64)))
    plan = adapter.read_plan(RecordedPlan(RECORDED), "frames_64", "CPU_AND_NE")
    found = grade(examined, plan)
    # a stays in both; b stays by the rules alone; c is off in both; d is off by the rules alone.
    assert (found.stays_on_engine, found.stays_elsewhere) == (1, 1)
    assert (found.fatal_elsewhere, found.fatal_on_engine) == (1, 1)
    assert found.unmatched == 2
    assert (found.rules["op.none"].ops, found.rules["op.none"].elsewhere) == (2, 1)
    assert found.surprises == ("sin b: cpu",)
    json.dumps(found.to_json())


@pytest.mark.skipif(platform.system() == "Darwin", reason="there is a plan on macOS")
def test_off_macos_the_reason_names_what_is_needed() -> None:
    assert "needs macOS 14.4" in adapter.unavailable()


def test_an_old_macos_is_told_from_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    for found, fits in (("14.3.1", False), ("14.4", True), ("15.0", True), ("13", False)):
        monkeypatch.setattr(platform, "mac_ver", lambda found=found: (found, ("", "", ""), ""))
        assert (adapter.unavailable() == "") is fits


INPUTS = {"x": np.array([1.0, 2.0], np.float32)}


def trial(script: str, tmp_path: Path, timeout: float = 60.0) -> Any:
    """A prediction by a Python script in place of Core ML; argv as the real one gets it."""
    command = (sys.executable, "-c", script)
    return try_prediction(
        tmp_path / "m.mlmodelc", "main", "CPU_AND_NE", INPUTS, timeout=timeout, command=command
    )


def doubling(factor: str) -> str:
    return (
        "import sys, numpy as np\n"
        "model, function, units, given, found = sys.argv[1:]\n"
        "assert (function, units) == ('main', 'CPU_AND_NE') and model.endswith('m.mlmodelc')\n"
        f"np.savez(found, y=np.load(given)['x'] * {factor})"
    )


def test_outputs_of_a_prediction_come_back(tmp_path: Path) -> None:
    found = trial(doubling("2"), tmp_path)
    assert (found.outcome, found.fault) == ("ok", "")
    np.testing.assert_array_equal(found.outputs["y"], [2.0, 4.0])


def test_a_prediction_of_nan_is_a_finding(tmp_path: Path) -> None:
    assert trial(doubling("float('nan')"), tmp_path).fault == "NaN or infinity in y"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_prediction_is_a_finding_and_not_our_end(tmp_path: Path) -> None:
    found = trial("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert (found.outcome, found.message) == ("killed", "ended by SIGKILL")
    assert found.fault == "killed: ended by SIGKILL"


def test_a_failing_prediction_gives_its_last_words(tmp_path: Path) -> None:
    found = trial("raise RuntimeError('no engine')", tmp_path)
    assert (found.outcome, found.message) == ("failed", "RuntimeError: no engine")


def test_a_prediction_without_outputs_and_one_that_hangs_are_findings(tmp_path: Path) -> None:
    assert trial("pass", tmp_path).outcome == "failed"
    hanging = trial("import time; time.sleep(60)", tmp_path, timeout=0.5)
    assert (hanging.outcome, hanging.message) == ("timed out", "no result in 0.5 s")


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML may run it there")
def test_the_real_process_says_why_it_cannot_predict_here(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=INPUTS["x"])
    files = (str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    with pytest.raises(Exception, match="macOS"):
        predict.main(str(tmp_path / "m.mlmodelc"), "main", "CPU_AND_NE", *files)
