"""The table of targets."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.errors import LpaError
from lpa_export.targets import known_targets, target_named, targets_named


def test_every_known_target_loads_and_has_a_default_scheme() -> None:
    for name in known_targets():
        spec = target_named(name)
        spec.load()
        assert spec.missing() or callable(spec.runner_class())
        assert spec.settings_class()().scheme == spec.schemes[0].name


def test_an_unknown_target_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(LpaError, match="unknown target 'onxx'; known targets: onnx"):
        target_named("onxx")
    with pytest.raises(LpaError, match=r"known targets: onnx, .*, or all of them$"):
        targets_named("onxx")


def test_the_table_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, lpa_export.targets; assert not {'torch', 'onnx', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def one_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two targets, of which `absent` needs a package that nobody has."""
    onnx = target_named("onnx")
    absent = replace(
        onnx, name="absent", needs=("no_such_package",), extra="absent", platforms="Mars only"
    )
    monkeypatch.setattr("lpa_export.targets._TARGETS", {"onnx": onnx, "absent": absent})


MISSING = (
    "target absent: the Python package 'no_such_package' is missing; "
    "pip install 'lpa-export[absent]' (Mars only)"
)


def test_all_are_those_that_are_installed(one_is_absent: None) -> None:
    assert targets_named("all") == ("onnx",)
    assert targets_named("all", required=("onnx",)) == ("onnx",)
    assert targets_named("absent") == ("absent",)


@pytest.mark.parametrize("main", [export_main, validate_main])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--target", "all", "--require", "onnx,absent"], MISSING),
        (["--target", "all", "--require", "onxx"], "unknown target 'onxx'"),
        (["--target", "onnx", "--require", "onnx"], "--require goes with --target all"),
    ],
)
def test_a_required_target_that_is_missing_is_one_line(
    one_is_absent: None, capsys: pytest.CaptureFixture[str], main: Any, flags: list[str], said: str
) -> None:
    assert main(flags) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_an_export_to_all_lists_what_was_not_run(
    one_is_absent: None,
    tiny_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--checkpoint", str(tiny_checkpoint()), "--out", str(tmp_path / "out"), "--dry-run"]
    assert export_main(["--target", "all", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"not run    {MISSING}"
    assert export_main(["--target", "absent", *flags]) == 2
    assert MISSING in capsys.readouterr().err
