"""What a user can get wrong with a program: one line on stderr, exit code 2, no traceback."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.commands.transcribe import main as transcribe_main
from lpa_export.formats.audio import write_flac
from lpa_export.formats.bundle import Bundle

from .conftest import MOST, Programs, noise, runtime

Make = Callable[..., Bundle]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def heard(tmp_path: Path, capsys: Capture) -> Callable[..., tuple[int, str]]:
    """``heard(bundle, samples)``: exit code of lpa-transcribe on noise, and what stands on
    stderr."""

    def hear(bundle: Bundle, samples: int = 4_000) -> tuple[int, str]:
        sound = tmp_path / "sound.flac"
        write_flac(sound, noise(samples))
        arguments = ["--target", "executorch", "--bundle", str(bundle.path), str(sound)]
        arguments += ["--cut", "never"]
        code = transcribe_main(arguments)
        return code, capsys.readouterr().err

    return hear


def test_a_sound_bundle_is_heard(
    programs: Programs, make_bundle: Make, heard: Callable[..., tuple[int, str]]
) -> None:
    assert heard(make_bundle(programs.dynamic)) == (0, "")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data.replace(b"ET12", b"ET13", 1), "schema is 'ET13', this reads 'ET12'"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:100], "model.pte"),
        (lambda data: b"", "no ExecuTorch program"),
        (
            lambda data: data.replace(b"XnnpackBackend", b"XyzpackBackend"),
            "cannot run XyzpackBackend",
        ),
    ],
    ids=["newer schema", "half", "beginning", "empty", "backend not in the wheel"],
)
def test_a_program_that_does_not_open_is_one_line(
    programs: Programs,
    make_bundle: Make,
    heard: Callable[..., tuple[int, str]],
    damage: Callable[[bytes], bytes],
    said: str,
) -> None:
    code, message = heard(make_bundle(damage(programs.dynamic)))
    assert code == 2
    assert message.count("\n") == 1
    assert said in message


@pytest.mark.parametrize("samples", [401, MOST + 1])
def test_audio_beyond_the_limits_is_one_line(
    programs: Programs,
    make_bundle: Make,
    heard: Callable[..., tuple[int, str]],
    samples: int,
) -> None:
    code, message = heard(make_bundle(programs.dynamic, runtime(min_samples=720)), samples)
    assert code == 2
    assert message.count("\n") == 1
    assert f"{samples / 16_000:.1f}" in message


def _without_executorch(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    def find(name: str, package: str | None = None) -> Any:
        return None if name == "executorch" else importlib.util.find_spec(name, package)

    for place in places:
        monkeypatch.setattr(f"{place}.find_spec", find)


def test_without_executorch_transcribing_gives_the_line_to_install_it(
    programs: Programs,
    make_bundle: Make,
    heard: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _without_executorch(monkeypatch, "lpa_export.runtimes.executorch.process")
    code, message = heard(make_bundle(programs.dynamic))
    assert (code, message.count("\n")) == (2, 1)
    assert "pip install 'lpa-export[executorch]'" in message


def test_without_executorch_validating_gives_the_line_to_install_it(
    programs: Programs, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    _without_executorch(monkeypatch, "lpa_export.runtimes.executorch.process")
    bundle = make_bundle(programs.dynamic)
    arguments = ["--target", "executorch", "--bundle", str(bundle.path), "--checks", "parity"]
    assert validate_main(arguments) == 2
    captured = capsys.readouterr()
    assert "pip install 'lpa-export[executorch]'" in captured.out + captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--backend", "ethos"), "unknown ExecuTorch backend 'ethos'"),
        (("--backend", "mlx"), "build executorch 1.4.1 from source"),
        (("--quantize", "int8-weights"), "has no such scheme; known: fp32, int8"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    capsys: Capture, tmp_path: Path, flags: tuple[str, str], said: str
) -> None:
    out = tmp_path / "bundle"
    assert export_main(["--target", "executorch", *flags, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert not out.exists()


def test_without_executorch_exporting_gives_the_line_to_install_it(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_executorch(monkeypatch, "lpa_export.targets")
    assert export_main(["--target", "executorch", "--out", str(tmp_path / "bundle")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "pip install 'lpa-export[executorch]'" in message
