"""The table of targets."""

import subprocess
import sys

import pytest

from lpa_export.errors import LpaError
from lpa_export.targets import known_targets, target_named


def test_every_known_target_loads_and_has_a_default_scheme() -> None:
    for name in known_targets():
        spec = target_named(name)
        spec.load()
        assert callable(spec.runner_class())
        assert spec.settings_class()().scheme == spec.schemes[0].name


def test_an_unknown_target_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(LpaError, match="unknown target 'onxx'; known targets: onnx"):
        target_named("onxx")


def test_the_table_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, lpa_export.targets; assert not {'torch', 'onnx', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
