"""``lpa-validate`` as a user meets it: what it finds by itself, what it refuses, how it exits."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from lpa_validate.command import main
from lpa_validate.reference import open_reference
from lpa_validate.renderers import RENDERERS
from lpa_validate.report import Reference
from msgspec.structs import replace

from lpa_export.commands.transcribe import transcribe
from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.bundle import Bundle
from lpa_export.formats.manifest import Source
from lpa_export.formats.source import SHIPPED, checkpoint_sha256
from tests.manifests import edit_json, restated

from .conftest import TOKENS

Make = Callable[..., Bundle]


def damaged_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with those manifest entries replaced."""
    edit_json(bundle.path, **changes)
    return bundle


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that the command refuses with."""
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_it_finds_the_only_bundle_validates_it_and_leaves_the_report_there(
    make_bundle: Make,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = make_bundle()
    monkeypatch.chdir(bundle.path.parents[2])
    assert main(["--target", "onnx", "--data", str(speech)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "PASS: every gate that was judged holds" in captured.out
    written = json.loads((bundle.path / "report.json").read_text())
    assert written["verdict"] == "pass"
    assert written["data"]["utterances"] == 4
    assert written["reference"]["kind"] == "golden"
    assert sorted(path.name for path in bundle.path.iterdir()) == [
        "golden",
        "manifest.json",
        "model.onnx",
        "report.json",
        "tokens.json",
    ]
    # A verdict may be asked for by its own name, though another check gives it.
    assert main(["--target", "onnx", "--data", str(speech), "--checks", "wer-difference"]) == 2
    assert "not run" in capsys.readouterr().out.splitlines()[-1]
    # A second run finds the report there and still calls the bundle whole.
    assert main(["--target", "onnx", "--checks", "integrity"]) == 0


@pytest.mark.parametrize("form", RENDERERS)
def test_half_of_a_surrogate_pair_in_a_transcript_is_printed_as_an_escape(
    make_bundle: Make, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    tokens = tuple("\ud800" if token == "E" else token for token in TOKENS)
    bundle = make_bundle(tokens=tokens)
    flags = ("--bundle", str(bundle.path), "--checks", "parity", "--format", form)
    arguments = ["--target", "onnx", "--data", str(speech), *flags]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert main([*arguments, "--output", str(tmp_path / "report")]) == 1
    (verdict,) = capsys.readouterr().out.splitlines()
    assert verdict.startswith("FAIL: a gate does not hold") and verdict.endswith("/report")
    assert "\\ud800" in printed.out + (bundle.path / "report.json").read_text("utf-8")
    written = json.loads((bundle.path / "report.json").read_text("utf-8"))
    heard = written["checks"][0]["details"]["changed"][0]["artifact"]
    assert heard == "ON\ud800 TWO"


def test_tokens_that_are_a_line_feed_or_empty_are_read_as_any_other(
    make_bundle: Make, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONE TWO, of an E that is a line feed and a W that says nothing."""
    odd = {"E": "\n", "W": ""}
    bundle = make_bundle(tokens=tuple(odd.get(token, token) for token in TOKENS))
    flags = ["--target", "onnx", "--bundle", str(bundle.path)]
    assert main([*flags, "--checks", "integrity"]) == 0
    capsys.readouterr()
    audio = speech.parent / json.loads(speech.read_text().splitlines()[0])["audio_filepath"]
    assert transcribe([audio], bundle=bundle.path)[0].text == "ON\n TO"


def test_no_bundle_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run lpa-export --target onnx first" in refusal(capsys, "--target", "onnx")


def test_several_bundles_are_named(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle()
    model = bundle.path.parent
    shutil.copytree(model, model.with_name("other"))
    monkeypatch.chdir(model.parents[1])
    message = refusal(capsys, "--target", "onnx")
    assert "build/other/onnx, build/whistle/onnx" in message
    assert "--bundle" in message


def test_an_unknown_target_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "--target", "abacus")
    assert "unknown target 'abacus'; known targets: onnx, coreml, executorch" in message


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--checks", "parity,smell"), "unknown check 'smell'; known checks: integrity, ops"),
        (("--checks", ","), "unknown check"),
        (("--bundle", "nowhere"), "no such bundle folder"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--limit", "0"), "limit"),
        (("--format", "braille"), "invalid choice"),
    ],
)
def test_bad_arguments_are_one_line(
    make_bundle: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: tuple[str, ...],
    words: str,
) -> None:
    bundle = make_bundle()
    monkeypatch.chdir(bundle.path.parents[2])
    assert words in refusal(capsys, "--target", "onnx", *extra)
    assert not (bundle.path / "report.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "coreml"}, "a bundle for target 'coreml', asked for 'onnx'"),
        ({"frames": {"hop": "160"}}, "Expected `int`, got `str` - at `$.frames.hop`"),
        ({"gates": {"psnr_db": "high"}}, "got `str` - at `$.gates.psnr_db`"),
        ({"gates": {"smell": 1.0, "wer_difference_points": 0.0}}, "unknown field `smell`"),
        ({"taps": [{"name": "features"}]}, "missing required field `kind` - at `$.taps[0]`"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(
    make_bundle: Make, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    bundle = damaged_manifest(make_bundle(), **changes)
    message = refusal(capsys, "--target", "onnx", "--bundle", str(bundle.path))
    assert words in message


def test_what_an_artifact_takes_at_least_is_said_in_the_same_words_by_every_command(
    make_bundle: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program of any length may need more than a frame, as those of ExecuTorch do."""
    write_flac(tmp_path / "click.flac", np.linspace(-0.1, 0.1, 559, dtype=np.float32))
    (tmp_path / "clicks.jsonl").write_text('{"audio_filepath": "click.flac", "text": "A"}\n')
    bundle = make_bundle()
    monkeypatch.setattr("lpa_export.runtimes.onnx.OnnxRunner.min_samples", 560)
    flags = ("--target", "onnx", "--bundle", str(bundle.path))
    said = refusal(capsys, *flags, "--data", str(tmp_path / "clicks.jsonl"))
    with pytest.raises(LpaError) as caught:
        transcribe([tmp_path / "click.flac"], bundle=bundle.path)
    assert said == f"lpa-validate: error: {caught.value}\n"
    assert "559 samples of 16 kHz audio, the model takes 560 (0.035 s) at least" in said


def test_audio_shorter_than_a_frame_is_one_line(
    make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_flac(tmp_path / "click.flac", np.linspace(-0.1, 0.1, 399, dtype=np.float32))
    (tmp_path / "clicks.jsonl").write_text('{"audio_filepath": "click.flac", "text": "A"}\n')
    bundle = make_bundle()
    message = refusal(
        capsys,
        "--target",
        "onnx",
        "--bundle",
        str(bundle.path),
        "--data",
        str(tmp_path / "clicks.jsonl"),
    )
    assert "click.flac" in message and "399" in message


def test_a_failed_gate_is_exit_code_one(
    make_bundle: Make, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(window_pads=(3, 1))
    argv = ["--target", "onnx", "--bundle", str(bundle.path), "--data", str(speech)]
    assert main([*argv, "--format", "json"]) == 1
    printed = capsys.readouterr().out
    assert json.loads(printed)["verdict"] == "fail"
    assert (bundle.path / "report.json").read_text() == printed


def test_the_printed_report_can_go_to_a_file(
    make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--target", "onnx", "--bundle", str(make_bundle().path), "--checks", "integrity"]
    assert main([*argv, "--output", str(tmp_path / "out.txt")]) == 0
    assert capsys.readouterr().out.startswith("PASS: every gate that was judged holds (1 passed")
    assert "PASS" in (tmp_path / "out.txt").read_text()


def test_a_bundle_that_cannot_be_written_is_said_and_is_no_failure(
    make_bundle: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    bundle = make_bundle()
    monkeypatch.setattr(Path, "write_text", refuse)
    argv = ["--target", "onnx", "--bundle", str(bundle.path), "--checks", "integrity"]
    assert main(argv) == 0
    assert "report.json not written: Permission denied" in capsys.readouterr().out


def test_checks_that_need_no_speech_read_none(
    make_bundle: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("speech was loaded")

    monkeypatch.setattr("lpa_validate.run.load_utterances", never)
    argv = ["--target", "onnx", "--bundle", str(make_bundle().path), "--checks", "integrity,ops"]
    assert main([*argv, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] is None


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from lpa_validate.command import main; main(['--help']); "
        "print([m for m in ('numpy', 'onnx', 'onnxruntime', 'torch', 'jiwer') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert time.monotonic() - started < 3
    assert done.stdout.splitlines()[-1] == "[]"


def opened(folder: Path, made_from: Source) -> Any:
    """What `open_reference` opens in place of torch."""
    identity = Reference("torch", made_from.name, made_from.sha256)
    return SimpleNamespace(folder=folder, identity=identity)


def made_from(make_bundle: Make, *, shipped: bool, sha256: str) -> Bundle:
    bundle = make_bundle()
    source = replace(bundle.manifest.checkpoint, shipped=shipped, sha256=sha256)
    return restated(bundle, checkpoint=source)


def test_the_shipped_model_is_the_reference_of_a_bundle_made_from_it(make_bundle: Make) -> None:
    bundle = made_from(make_bundle, shipped=True, sha256=checkpoint_sha256(SHIPPED))
    model, problem = open_reference(bundle, None, load=opened)
    assert isinstance(model, SimpleNamespace) and not problem
    assert model.folder == SHIPPED


def test_another_shipped_model_is_no_reference_and_no_error(make_bundle: Make) -> None:
    bundle = made_from(make_bundle, shipped=True, sha256="ab" * 32)
    model, problem = open_reference(bundle, None, load=opened)
    assert model is None
    assert f"abababababab, found {checkpoint_sha256(SHIPPED)[:12]}" in problem


def test_without_a_shipped_model_the_flag_is_named(make_bundle: Make) -> None:
    bundle = made_from(make_bundle, shipped=False, sha256="ab" * 32)
    model, problem = open_reference(bundle, None, load=opened)
    assert model is None
    assert "--checkpoint" in problem


def test_a_named_checkpoint_must_be_the_one_the_bundle_was_made_from(make_bundle: Make) -> None:
    bundle = made_from(make_bundle, shipped=False, sha256=checkpoint_sha256(SHIPPED))
    model, _ = open_reference(bundle, SHIPPED, load=opened)
    assert model is not None
    source = replace(bundle.manifest.checkpoint, sha256="cd" * 32)
    bundle = restated(bundle, checkpoint=source)
    with pytest.raises(LpaError, match="give the checkpoint the bundle was made from"):
        open_reference(bundle, SHIPPED, load=opened)


def test_a_checkpoint_that_does_not_load_is_an_error_only_when_it_was_named(
    make_bundle: Make,
) -> None:
    def fails(folder: Path, made_from: Source) -> Any:
        raise LpaError("weights hold NaN")

    bundle = made_from(make_bundle, shipped=True, sha256=checkpoint_sha256(SHIPPED))
    assert open_reference(bundle, None, load=fails) == (
        None,
        "no torch reference: weights hold NaN",
    )
    with pytest.raises(LpaError, match="weights hold NaN"):
        open_reference(bundle, SHIPPED, load=fails)


def test_a_recording_that_was_cut_off_stands_in_the_report(
    make_bundle: Make, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads(speech.read_text().splitlines()[0])
    waveform = load_audio(speech.parent / row["audio_filepath"])
    soundfile.write(tmp_path / "cut.wav", np.concatenate([waveform, np.zeros(8_000)]), 16_000)
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-16_000])
    (tmp_path / "data.jsonl").write_text(
        json.dumps({"audio_filepath": "cut.wav", "text": row["text"]}) + "\n"
    )
    bundle = make_bundle()
    flags = ("--bundle", str(bundle.path), "--data", str(tmp_path / "data.jsonl"))
    main(["--target", "onnx", *flags, "--checks", "wer", "--allow-unjudged"])
    captured = capsys.readouterr()
    assert captured.err.startswith("lpa-validate: warning: ")
    assert "cut off     0.5 s are missing: cut" in captured.out
    written = json.loads((bundle.path / "report.json").read_text("utf-8"))
    assert written["data"]["missing_seconds"] == {"cut": pytest.approx(0.5, abs=0.01)}
