"""Extras of pyproject.toml: where they can be installed, and what becomes of tests elsewhere."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lpa_export.targets import target_named

from .conftest import REPOSITORY

EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
LINUX, MAC = ("linux", "x86_64"), ("darwin", "arm64")
ELSEWHERE = (("linux", "aarch64"), ("darwin", "x86_64"), ("win32", "AMD64"))


def installed_on(extra: str, system: tuple[str, str]) -> list[str]:
    """Names of the packages that an extra asks for on a system (sys_platform, platform_machine)."""
    environment = dict(zip(("sys_platform", "platform_machine"), system, strict=True))
    wanted = map(Requirement, EXTRAS[extra])
    return [item.name for item in wanted if not item.marker or item.marker.evaluate(environment)]


@pytest.mark.parametrize(
    ("extra", "packages"), [("mlx", ["mlx"]), ("coreai", ["coreai-core", "coreai-torch"])]
)
def test_an_extra_asks_for_nothing_where_there_is_no_wheel(extra: str, packages: list[str]) -> None:
    assert installed_on(extra, LINUX) == installed_on(extra, MAC) == packages
    assert [installed_on(extra, system) for system in ELSEWHERE] == [[], [], []]


def test_what_tests_need_can_be_installed_everywhere() -> None:
    """No marker names a glibc, so nothing that wants a new one is among it, under any extra."""
    (ours,) = (Requirement(text) for text in EXTRAS["test"] if text.startswith("lpa-export"))
    assert not {"mlx", "coreai", "lm"} & ours.extras
    for extra in ("test", *ours.extras):
        names = {Requirement(text).name for text in EXTRAS[extra]}
        assert not {"mlx", "coreai-core", "coreai-torch", "flashlight-text"} & names


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
@pytest.mark.parametrize(("target", "package"), [("mlx", "mlx"), ("coreai", "coreai-core")])
def test_the_glibc_that_a_line_names_is_the_wheels(target: str, package: str) -> None:
    try:
        tags = distribution(package).read_text("WHEEL") or ""
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    major, minor = (tags.partition("manylinux_")[2].split("_")[i] for i in (0, 1))
    assert f"glibc {major}.{minor} or newer" in target_named(target).platforms


PIP = """#!/bin/sh
echo "$@" >>"$0.log"
case "$*" in *"[{refused}]"*) echo "ERROR: no matching distribution" >&2; exit 1;; esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("refused", "ci", "code"),
    [("none", "1", 0), ("coreai", "1", 0), ("lm", "1", 0), ("mlx", "", 0), ("mlx", "1", 2)],
)
def test_make_goes_on_without_what_has_no_wheel(
    tmp_path: Path, refused: str, ci: str, code: int
) -> None:
    """With a stub in pip's place that finds no wheel for one extra."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PIP.format(refused=refused))
    python.chmod(0o755)
    stamp = tmp_path / ".test-installed"
    done = subprocess.run(
        ["make", "-s", f"VENV={tmp_path}", str(stamp)],
        cwd=REPOSITORY,
        env={**os.environ, "CI": ci, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, stamp.exists()) == (code, code == 0)
    said = f"extra {refused} cannot be installed here: its tests will be skipped" in done.stderr
    assert said == (refused != "none")
    if code == 0:
        asked = [
            line.split()[-1] for line in (tmp_path / "bin/python.log").read_text().splitlines()
        ]
        assert asked == [".[test]", ".[mlx]", ".[coreai]", ".[lm]"]


def test_tests_of_targets_that_are_not_installed_are_skipped_by_name() -> None:
    """Their folders named alone, as someone without the extras may do."""
    targets = ("mlx", "coreai")
    folders = [f"tests/targets/{target}" for target in targets]
    code = (
        f"import sys, pytest; sys.modules.update(dict.fromkeys({targets}))\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *{folders}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    for target in targets:
        assert f"target {target}: the Python package {target!r} is missing" in done.stdout
    assert "Traceback" not in done.stdout and "passed" not in done.stdout
