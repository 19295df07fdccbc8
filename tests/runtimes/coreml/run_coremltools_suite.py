"""coremltools' own tests of its operations, executed by the evaluator instead of by Core ML.

Their expected values were written for Apple's implementation, by Apple. Off macOS they only
build their programs; here every program is computed too, so they judge the evaluator.

    python tests/runtimes/coreml/run_coremltools_suite.py SOURCE [--every N] [-k EXPRESSION]

SOURCE is a folder with coremltools' source (of the installed version), or the installed package
itself, which has the same tests. Printed are, by opset, the tests that executed a program, those
that passed, and those that failed by cause. Nothing is downloaded. The whole suite takes more than
an hour on one core; ``--every N`` runs every Nth case of each test only.
"""

import argparse
import gc
import importlib
import json
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.environment import quiet
from lpa_export.runtimes.coreml import Evaluator, PackageError, UnsupportedOp, load_package
from lpa_export.runtimes.coreml.features import Feature
from lpa_export.runtimes.coreml.program import operations

TESTS = "coremltools.converters.mil.mil.ops.tests"
OPSETS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18"}
"""Specification version of a model -> the opset of its program."""

MACOS = (15, 5)
"""The system whose Core ML the tests expect."""

VALUE, REFUSED, CRASH, UNSUPPORTED = "wrong value", "refused", "crash", "unsupported"
ROUNDING = "float16 rounding, held to a tolerance for float32"

HALF_TOLERANCE = 4e-3
"""A few steps of float16: by how much a program that holds such values may be off."""


EXPLAINED = {
    "TestCropResize::test_builder_to_backend_ios": "expected value is stated as 7.899 for 7.9",
    "test_ios17_invalid_indices": "what the documentation calls undefined",
    "test_efficient_type_inference": "a limit on time",
}
"""Part of a test's name -> why a value that is not as expected says nothing about the evaluator."""


class RoundingOnly(AssertionError):
    """Values that are within float16 rounding of what was expected, in a program with float16."""


@dataclass
class Case:
    """One test: the newest program it executed, and how it ended."""

    name: str
    opset: str = ""
    outcome: str = "passed"
    cause: str = ""
    message: str = ""


@dataclass
class Watcher:
    """A pytest plugin: notes which tests executed a program, and why those that failed did."""

    every: int = 1
    cases: list[Case] = field(default_factory=list)
    holds_half: bool = False

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        tests: dict[str, list[pytest.Item]] = {}
        for item in items:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
        items[:] = [item for group in tests.values() for item in group[:: self.every]]

    def executed(self, opset: str, *, holds_half: bool) -> None:
        self.holds_half = holds_half
        if self.cases:
            self.cases[-1].opset = max(self.cases[-1].opset, opset)

    @pytest.hookimpl
    def pytest_collection_finish(self) -> None:
        # Every conversion collects garbage; among tens of thousands of tests that takes a second.
        gc.freeze()

    @pytest.hookimpl
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.cases.append(Case(item.nodeid))

    @pytest.hookimpl
    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        if not self.cases or call.excinfo is None:
            return
        error, case = call.excinfo.value, self.cases[-1]
        case.outcome = "failed"
        known = (why for name, why in EXPLAINED.items() if name in case.name)
        case.cause = next(known, cause(error))
        case.message = " ".join(f"{type(error).__name__}: {error}".split())[:500]


def cause(error: BaseException) -> str:
    """Why a test failed. A value that is not as expected shows as a failed assertion."""
    if isinstance(error, UnsupportedOp):
        found = re.search(r": (\w+) \(", str(error))
        return f"{UNSUPPORTED}: {found[1] if found else '?'}"
    if isinstance(error, PackageError):
        return REFUSED
    if isinstance(error, RoundingOnly):
        return ROUNDING
    return VALUE if isinstance(error, AssertionError) else CRASH


def install(watcher: Watcher) -> None:
    """Put the evaluator in Core ML's place: ``MLModel.predict`` and ``make_state``."""
    with quiet():
        from coremltools.converters.mil import testing_utils
        from coremltools.models import utils
        from coremltools.models.model import MLModel

    def predict(model: Any, data: Any, state: Any = None) -> dict[str, Any]:
        if not model.is_package:
            pytest.skip("a neural network, not a program")
        opset = OPSETS[model._spec.specificationVersion]
        watcher.executed(opset, holds_half=holds_half(model._spec))
        evaluator = Evaluator(load_package(Path(model.package_path)))
        given = {name: as_declared(value, evaluator.features[name]) for name, value in data.items()}
        try:
            found = evaluator.run(given, state=state)
        except PackageError as error:
            if not isinstance(error.__cause__, IndexError):
                raise
            # As Core ML says it of indices that are to be validated.
            raise RuntimeError(f"Error computing NN outputs: {error}") from error
        # Core ML has no output of rank 0.
        return {name: np.atleast_1d(found[name]) for name in evaluator.outputs}

    def make_state(model: Any) -> Any:
        return Evaluator(load_package(Path(model.package_path))).state()

    exactly = np.testing.assert_allclose

    def assert_allclose(actual: Any, desired: Any, *args: Any, **options: Any) -> None:
        try:
            exactly(actual, desired, *args, **options)
        except AssertionError as error:
            if watcher.holds_half:
                exactly(actual, desired, rtol=HALF_TOLERANCE, atol=HALF_TOLERANCE)
                raise RoundingOnly(str(error)) from error
            raise

    np.testing.assert_allclose = assert_allclose
    MLModel.predict = predict
    MLModel.make_state = make_state
    # The guards in front of every prediction; there is nothing of macOS behind them any more.
    testing_utils._IS_MACOS = True
    utils._macos_version = lambda: MACOS


def holds_half(model: Any) -> bool:
    """Whether a program has a value in float16."""
    return any(
        output.type.tensorType.dataType
        == output.type.tensorType.DESCRIPTOR.fields_by_name["dataType"]
        .enum_type.values_by_name["FLOAT16"]
        .number
        for function in model.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in operations(block)
        for output in operation.outputs
    )


def as_declared(value: Any, feature: Feature) -> Any:
    """An input in the type that the program declares, as Core ML converts it; images as planes."""
    array = np.asarray(value)
    if type(value).__module__.startswith("PIL."):
        planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        array = planes[None]
    if feature.dtype.startswith("fp"):
        return array.astype(np.float32)
    return array.astype(np.bool_ if feature.dtype == "bool" else np.int32)


def tests_of(source: Path) -> Path:
    """The folder of the tests, which from now on is what their imports find.

    Raises SystemExit when it is not there.
    """
    places = [source / "converters/mil/mil/ops/tests"]
    places.append(source / "coremltools/converters/mil/mil/ops/tests")
    found = next((place for place in places if (place / "testing_utils.py").is_file()), None)
    if found is None:
        raise SystemExit(f"{source}: no coremltools source, {places[-1]} is missing")
    with quiet():
        package = importlib.import_module(TESTS)
    package.__path__[:] = [str(found)]
    return found


def run(source: Path, every: int, options: list[str]) -> list[Case]:
    """The suite under ``source``, one case in ``every``; ``options`` go to pytest."""
    os.environ.setdefault("PYMIL_TEST_TARGETS", "mlprogram")
    os.environ.setdefault("INCLUDE_MIL_FP32_UNIT_TESTS", "1")
    watcher = Watcher(every)
    folder = tests_of(source.resolve())
    install(watcher)
    terse = ["-q", "--no-header", "--no-summary", "--tb=no", "-p", "no:cacheprovider"]
    terse += [
        "-p",
        "no:warnings",
        "-c",
        os.devnull,
        f"--rootdir={folder}",
        f"--confcutdir={folder}",
    ]
    pytest.main([str(folder), "--import-mode=importlib", *terse, *options], plugins=[watcher])
    return watcher.cases


def table(cases: list[Case]) -> str:
    """Executed, passed and failed by opset, and what failed by cause."""
    executed = [case for case in cases if case.opset]
    lines = [f"{'opset':<8}{'executed':>10}{'passed':>10}{'failed':>10}"]
    for opset in [*sorted(set(OPSETS.values())), "all"]:
        part = [case for case in executed if opset in (case.opset, "all")]
        passed = sum(case.outcome == "passed" for case in part)
        lines.append(f"{opset:<8}{len(part):>10}{passed:>10}{len(part) - passed:>10}")
    causes = Counter(case.cause for case in executed if case.outcome == "failed")
    lines += [f"{count:>6}  {what}" for what, count in causes.most_common()]
    others = Counter(case.cause for case in cases if not case.opset and case.outcome == "failed")
    lines += [f"{count:>6}  before any program was executed: {w}" for w, count in others.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("source", type=Path, help="a folder with coremltools' source")
    parser.add_argument("--every", type=int, default=1, help="one case in so many of each test")
    parser.add_argument("--json", type=Path, help="write every test that failed to this file")
    arguments, options = parser.parse_known_args()
    cases = run(arguments.source, arguments.every, options)
    if arguments.json:
        failed = [vars(case) for case in cases if case.outcome == "failed"]
        arguments.json.write_text(json.dumps(failed, indent=1))
    print(table(cases))
    sys.exit(any(case.outcome == "failed" and case.cause == VALUE for case in cases))


if __name__ == "__main__":
    main()
