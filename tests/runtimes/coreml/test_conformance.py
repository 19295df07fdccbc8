"""Every operation in every opset against a source outside this code; see ``conformance.py``."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _beside(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


conformance = _beside("conformance")


@pytest.mark.parametrize("opset", conformance.OPSETS)
def test_every_operation_gives_what_its_source_gives(opset: str) -> None:
    wrong = []
    for case in conformance.cases():
        if case.since <= conformance.OPSETS[opset]:
            try:
                conformance.check(case, opset)
            except Exception as error:
                wrong.append(f"{case.op}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def test_no_operation_is_held_against_our_own_code_alone() -> None:
    known = conformance.sources()
    for opset, ops in conformance.claimed().items():
        assert not [op for op in ops if op not in known], opset


@pytest.mark.parametrize("file", conformance.ELSEWHERE)
def test_operations_that_are_said_to_be_tested_elsewhere_are(file: str) -> None:
    text = (Path(__file__).parent / file).read_text()
    _, ops = conformance.ELSEWHERE[file]
    missing = [op for op in ops.split() if op not in text]
    assert not missing
