"""What all commands share: exit codes, one line per error, a fast --help."""

import argparse
import errno
import importlib
import os
import resource
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lpa_export.cli import run_command
from lpa_export.commands.train import OTHERS, STAGES
from lpa_export.environment import quiet_libraries
from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.bundle import new_folder

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = {
    "lpa-bench": "lpa_export.commands.bench",
    "lpa-bundle": "lpa_export.commands.bundle",
    "lpa-enhance": "lpa_export.commands.enhance",
    "lpa-export": "lpa_export.commands.export",
    "lpa-train": "lpa_export.commands.train",
    "lpa-transcribe": "lpa_export.commands.transcribe",
    "lpa-validate": "lpa_validate.command",
}
HEAVY = ("torch", "onnx", "onnxruntime", "transformers", "numpy", "coremltools", "executorch")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", choices=["onnx", "torch"])


def failing(error: BaseException) -> int:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run_command("lpa-x", configure, run, [])


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_what_the_command_returns(code: int) -> None:
    assert run_command("lpa-x", configure, lambda arguments: code, []) == code


def test_arguments_reach_the_command() -> None:
    seen: list[argparse.Namespace] = []

    def run(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return 0

    run_command("lpa-x", configure, run, ["--target", "onnx"])
    assert seen[0].target == "onnx"


ERRORS = {
    "ours": (LpaError("a.wav: silent;\ncheck it"), "a.wav: silent; check it"),
    "missing_package": (ModuleNotFoundError("no", name="jiwer"), "package 'jiwer' is missing"),
    "permission": (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
    "memory": (MemoryError(), "not enough memory"),
    "bug": (KeyError("logits\nx"), "unexpected KeyError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_exit_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, message = ERRORS[name]
    assert failing(error) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("lpa-x: error: ") and message in output.err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: argparse.Namespace) -> int:
        raise LpaError("a problem")

    assert run_command("lpa-x", configure, run, ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--taget", "onnx"], "unrecognized arguments: --taget; did you mean --target?"),
        (["--taget=onnx"], "--taget; did you mean --target?"),
        (["--xyz"], "unrecognized arguments: --xyz; see lpa-x --help"),
    ],
)
def test_a_flag_written_wrong_is_named_with_the_one_it_is_like(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Not the required flag that is missing because of it."""

    def strict(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--target", required=True)

    assert run_command("lpa-x", strict, lambda a: 0, arguments) == 2
    assert message in capsys.readouterr().err


def test_our_warnings_are_one_line_each_time_something_else_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(arguments: argparse.Namespace) -> int:
        for text in ("a.wav: cut\noff", "a.wav: cut\noff", "b.wav: cut off"):
            warnings.warn(text, LpaWarning, stacklevel=1)
            warnings.warn("a library's", stacklevel=1)
        return 0

    with warnings.catch_warnings():
        assert run_command("lpa-x", configure, run, []) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["lpa-x: warning: a.wav: cut off", "lpa-x: warning: b.wav: cut off"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_that(capsys: pytest.CaptureFixture[str], code: int) -> None:
    assert failing(OSError(code, os.strerror(code), "/x")) == 2
    assert "/x: the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("lpa-bench", ["--target", "onnx"], "nothing was kept"),
        ("lpa-bundle", ["--target", "coreml", "--app", "x"], "the app's bundle is as it was"),
        ("lpa-export", ["--target", "onnx"], "the bundle in work was not written"),
        ("lpa-enhance", ["a.wav"], "files that were not cleaned yet have no output"),
        ("lpa-transcribe", ["a.wav"], "files that were not transcribed yet have no text"),
        ("lpa-validate", ["--target", "onnx"], "no report of the bundle in work"),
        ("lpa-train", ["teacher", "--recipe", "x"], "give the same command again"),
        ("lpa-train", ["study", "--recipe", "x", "--study", "x", "--out", "x"], "what has run"),
        ("lpa-train", ["windows", "--out", "x"], "pictures that were not drawn yet"),
        (
            "lpa-train",
            ["measure", "--recipe", "x", "--checkpoint", "x"],
            "nothing was written; give the same command again",
        ),
    ],
)
def test_an_interrupt_speaks_of_the_command(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    arguments: list[str],
    message: str,
) -> None:
    module = importlib.import_module(COMMANDS[command])

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run" if command == "lpa-train" else "_run", interrupted)
    assert module.main(arguments) == 130
    assert f"{command}: error: interrupted; " in (line := capsys.readouterr().err)
    assert message in line and line.count("\n") == 1


HELPS = [
    *((name,) for name in COMMANDS),
    *(("lpa-train", stage) for stage in (*STAGES, *OTHERS)),
]


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_every_help_ends_with_two_examples_that_parse(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is a command; its flags are tried on the command's own parser."""
    module = importlib.import_module(COMMANDS[command[0]])
    assert module.main([*command[1:], "--help"]) == 0
    examples = capsys.readouterr().out.rstrip().split("examples:\n")[1].splitlines()
    assert len(examples) == 2
    monkeypatch.setattr(module, "run" if command[0] == "lpa-train" else "_run", lambda a: 0)
    for line in examples:
        words = shlex.split(line.rpartition("| ")[2])
        assert tuple(words[: len(command)]) == command
        assert module.main(words[1:]) == 0, capsys.readouterr().err


def test_an_interrupt_gives_130_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_termination_leaves_no_half_written_folder(tmp_path: Path) -> None:
    def run(arguments: argparse.Namespace) -> int:
        with new_folder(tmp_path / "bundle", overwrite=False) as folder:
            (folder / "model.onnx").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            run_command("lpa-x", configure, run, [])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--target", "oynx"], ["--unknown"], ["--tar", "onnx"]])
def test_a_wrong_argument_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("lpa-x", configure, lambda a: 0, arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("lpa-x: error: ")


def test_an_unknown_choice_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    run_command("lpa-x", configure, lambda a: 0, ["--target", "oynx"])
    error = capsys.readouterr().err
    assert "oynx" in error and "onnx" in error and "torch" in error


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_exit_0(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("lpa-x", configure, lambda a: 1, [flag]) == 0
    assert "lpa-x" in capsys.readouterr().out


def test_library_warnings_and_log_lines_are_silenced() -> None:
    script = (
        "from lpa_export.environment import quiet_libraries; quiet_libraries();"
        "import logging, warnings; logging.basicConfig();"
        "warnings.warn('noise'); logging.getLogger('torch.onnx').warning('noise');"
        "logging.getLogger('transformers').info('noise'); logging.getLogger('torch').error('kept')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True)
    assert b"noise" not in done.stderr and b"kept" in done.stderr


def test_a_command_looks_for_garbage_rarely() -> None:
    script = (
        "import gc; from lpa_export.cli import run_command;"
        "run_command('lpa-x', lambda p: None, lambda a: print(gc.get_threshold()) or 0, [])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True)
    assert done.stdout == b"(50000, 10, 10)\n"


def test_a_users_own_verbosity_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    quiet_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    script = (
        "import sys; from lpa_export.cli import run_command;"
        "sys.exit(run_command('lpa-x', lambda p: None,"
        " lambda a: [print('line' * 100) for _ in range(10_000)] and 0, []))"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy_and_answers_fast(name: str) -> None:
    script = (
        f"import sys; from {COMMANDS[name]} import main; code = main(['--help']);"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules]); sys.exit(code)"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "validation")])
    command = [sys.executable, "-c", script]
    seconds = []
    for _ in range(3):
        # Its processor time: the clock runs on while other tests have their turn.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("HEAVY []\n")
        assert f"usage: {name}" in done.stdout
    assert min(seconds) < 0.5
