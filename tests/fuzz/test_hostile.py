"""Some damage to every format that needs no long export, and proof that each fault is seen."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from lpa_export.errors import LpaError
from tests.fuzz import hostile
from tests.fuzz.hostile import FORMATS, Format, bases, tried
from tests.fuzz.mutations import any_bytes

SEEDS = range(8)
HERE = ("config.json", "tokenizer", "safetensors", "recipe", "audio", "manifest", "bundle", "onnx")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    hostile.prepare()
    bases(folder, {FORMATS[form].base for form in HERE})
    return folder


@pytest.mark.parametrize("form", HERE)
def test_damage_ends_well_or_in_one_line(form: str, base: Path, tmp_path: Path) -> None:
    cases = [tried(seed, form, base, tmp_path / "one") for seed in SEEDS]
    assert [case for case in cases if case.verdict not in ("fine", "refused")] == []
    assert any(case.verdict == "refused" for case in cases), "no damage was noticed"


def test_what_is_not_damaged_is_read(base: Path, tmp_path: Path) -> None:
    for form in HERE:
        known = FORMATS[form]
        whole = Format(known.base, {name: _unchanged for name in known.files}, known.use)
        assert _tried_as(whole, base, tmp_path) == ("fine", ""), form


def _unchanged(content: bytes, _random: object) -> bytes:
    return content


def _tried_as(form: Format, base: Path, tmp_path: Path) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hostile, "FORMATS", {"planted": form})
        case = tried(0, "planted", base, tmp_path / "one")
    return case.verdict, case.said


def _loops(_folder: Path) -> None:
    while True:
        pass


def _sleeps(_folder: Path) -> None:
    time.sleep(600)


def _allocates(_folder: Path) -> None:
    np.ones(3 << 30, np.uint8)


def _allocates_and_says_so(_folder: Path) -> None:
    try:
        np.ones(3 << 30, np.uint8)
    except MemoryError as error:
        raise LpaError(f"cannot open it ({type(error).__name__})") from error


def _writes_here(_folder: Path) -> None:
    os.system("echo outside > left-behind")  # not by Python's own calls


def _writes_elsewhere(folder: Path) -> None:
    (folder.parents[2] / "elsewhere").write_text("outside")


def _raises(_folder: Path) -> None:
    raise KeyError("lm_head")


def _crashes(_folder: Path) -> None:
    os.abort()


def _leaves(_folder: Path) -> None:
    os._exit(0)


PLANTED: dict[Callable[[Path], None], str] = {
    _loops: "hangs: 1 s of CPU time",
    _sleeps: "hangs: not done in 5 s",
    _allocates: "MemoryError",
    _allocates_and_says_so: "wants more than 2 GiB",
    _writes_here: "left-behind",
    _writes_elsewhere: "wrote outside: ['open ",
    _raises: "KeyError: 'lm_head'",
    _crashes: "takes the process down with SIGABRT",
    _leaves: "ended the process",
}


@pytest.mark.parametrize("use", PLANTED, ids=lambda use: use.__name__.strip("_"))
def test_a_planted_fault_is_seen(
    use: Callable[[Path], None], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile, "CPU_SECONDS", 1)
    monkeypatch.setattr(hostile, "WALL_SECONDS", 5 if use is _sleeps else 60)
    planted = Format("recipe", {"recipe.yaml": any_bytes}, use)
    verdict, said = _tried_as(planted, base, tmp_path)
    assert verdict == "wrong" and PLANTED[use] in said


def test_the_same_seed_does_the_same_damage(base: Path) -> None:
    for form in HERE:
        known = FORMATS[form]
        for name, damage in known.files.items():
            whole = (base / known.base / name).read_bytes()
            first, second = ([damage(whole, Random(seed)) for seed in range(60)] for _ in "ab")
            assert first == second, f"{form}: what was damaged before changes the damage"
            assert sum(content != whole for content in first) >= 50
