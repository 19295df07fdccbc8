"""The road of the shipped model to Core ML and ExecuTorch, and all targets in one go."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.commands.transcribe import transcribe
from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.bundle import damaged_files, open_bundle
from lpa_export.formats.speech import load_utterances
from lpa_export.targets import known_targets, targets_named

Capture = pytest.CaptureFixture[str]
DEMO = load_utterances(None, limit=1)[0].audio


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle per target, as `lpa-export --target all` writes them."""
    folder = tmp_path_factory.mktemp("shipped")
    assert export_main(["--target", "all", "--buckets", "6", "--out", str(folder)]) == 0
    return folder


def validate(bundle: Path, target: str, *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report.json."""
    code = validate_main(["--target", target, "--bundle", str(bundle), *flags])
    return code, json.loads((bundle / "report.json").read_text())


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in report["checks"]}


def figure(report: dict[str, Any], check: str, name: str) -> Any:
    found = next(item for item in report["checks"] if item["name"] == check)
    return next(item["value"] for item in found["figures"] if item["name"] == name)


def test_core_ml_passes_every_gate_on_the_demo_set(bundles: Path) -> None:
    code, report = validate(bundles / "coreml", "coreml", "--limit", "4")
    found = statuses(report)
    # Only macOS can ask Core ML where it would place the operations.
    assert found.pop("compute-plan") in ("pass", "not_run")
    assert set(found) == {
        *("integrity", "ops", "parity", "wer", "wer-difference", "precision", "range"),
        *("silence", "padding", "determinism"),
    }
    assert set(found.values()) == {"pass"}
    assert code == 0
    assert figure(report, "ops", "encoders: MACs free of fatal") == 100.0
    assert damaged_files(open_bundle(bundles / "coreml")) == []


@pytest.mark.skipif("mlx" not in targets_named("all"), reason="MLX has no wheel here")
def test_mlx_passes_every_gate_and_reads_an4_as_torch_does(bundles: Path, an4_dev: Path) -> None:
    code, report = validate(bundles / "mlx", "mlx", "--data", str(an4_dev), "--limit", "12")
    assert set(statuses(report).values()) == {"pass"}
    assert code == 0
    assert figure(report, "wer-difference", "WER difference") == 0


@pytest.mark.slow
@pytest.mark.skipif("coreai" not in targets_named("all"), reason="Core AI has no wheel here")
def test_core_ai_passes_every_gate_and_reads_an4_as_torch_does(
    bundles: Path, an4_dev: Path
) -> None:
    code, report = validate(bundles / "coreai", "coreai", "--data", str(an4_dev))
    assert set(statuses(report).values()) == {"pass"}
    assert code == 0
    assert figure(report, "wer-difference", "WER difference") == 0


@pytest.mark.slow
def test_core_ml_reads_an4_dev_as_torch_does(bundles: Path, an4_dev: Path) -> None:
    code, report = validate(
        bundles / "coreml", "coreml", "--data", str(an4_dev), "--checks", "parity,wer"
    )
    assert code == 0
    assert figure(report, "parity", "PSNR, all logits") > 50
    assert figure(report, "wer-difference", "WER difference") <= 0.1


def test_executorch_passes_every_gate_on_the_demo_set(bundles: Path) -> None:
    code, report = validate(bundles / "executorch", "executorch", "--limit", "12")
    assert set(statuses(report).values()) == {"pass"}
    assert code == 0
    assert damaged_files(open_bundle(bundles / "executorch")) == []


@pytest.mark.slow
def test_executorch_reads_an4_dev_as_torch_does(bundles: Path, an4_dev: Path) -> None:
    code, report = validate(
        bundles / "executorch", "executorch", "--data", str(an4_dev), "--checks", "parity,wer"
    )
    assert code == 0
    assert figure(report, "wer-difference", "WER difference") == 0
    assert figure(report, "parity", "argmax agreement") >= 0.999


def test_all_targets_are_validated_in_one_go_with_one_table(bundles: Path, capsys: Capture) -> None:
    flags = ("--limit", "2", "--checks", "integrity,parity,wer")
    assert validate_main(["--target", "all", "--bundle", str(bundles), *flags]) == 0
    targets = targets_named("all")
    table = capsys.readouterr().out.splitlines()[-1 - len(targets) :]
    assert [row.split()[0] for row in table] == ["target", *targets]
    labels = {row.split()[0]: row.split()[-2:] for row in table[1:]}
    assert labels.pop("coreml") == ["emulated", "pass"]
    assert set(map(tuple, labels.values())) == {("measured", "pass")}


def test_a_target_that_cannot_be_validated_does_not_hide_the_others(
    bundles: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(bundles / "onnx", tmp_path / "onnx")
    page = tmp_path / "report.txt"
    flags = ("--limit", "1", "--checks", "parity", "--output", str(page))
    assert validate_main(["--target", "all", "--bundle", str(tmp_path), *flags]) == 2
    captured = capsys.readouterr()
    (said,) = captured.out.splitlines()
    assert said.startswith("onnx: PASS") and said.endswith(f"; see {page}")
    assert page.read_text().splitlines()[-1].startswith("onnx ")
    errors = captured.err.splitlines()
    # Those without a bundle here, and those that are not installed.
    others = [f"target {target}" for target in known_targets() if target != "onnx"]
    assert [line.split(": ")[2] for line in errors] == others


@pytest.mark.parametrize("target", ["coreml", "executorch"])
def test_the_text_is_the_reference_models(bundles: Path, target: str) -> None:
    heard = transcribe([DEMO], target=target, bundle=bundles / target)[0]
    reference = transcribe([DEMO], target="torch")[0]
    assert (heard.text, heard.duration) == (reference.text, reference.duration)


def test_audio_longer_than_the_largest_bucket_is_one_line(
    bundles: Path, tmp_path: Path, capsys: Capture
) -> None:
    speech = load_audio(DEMO)
    write_flac(tmp_path / "long.flac", np.tile(speech, 1 + 7 * 16_000 // len(speech)))
    line = json.dumps({"audio_filepath": "long.flac", "text": "GO"})
    (tmp_path / "long.jsonl").write_text(line + "\n")
    arguments = ["--target", "coreml", "--bundle", str(bundles / "coreml")]
    assert validate_main([*arguments, "--data", str(tmp_path / "long.jsonl")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "s of audio, this bundle takes 6." in captured.err


def _weights(bundle: Path) -> Path:
    return bundle / "encoder.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def _truncate_weights(bundle: Path) -> None:
    path = _weights(bundle)
    path.write_bytes(path.read_bytes()[:5000])


def _truncate_program(bundle: Path) -> None:
    path = bundle / "model.pte"
    path.write_bytes(path.read_bytes()[:5000])


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "Core ML weights": ("coreml", _truncate_weights),
    "ExecuTorch program": ("executorch", _truncate_program),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_truncated_artifact_fails_integrity_and_nothing_else_runs(
    bundles: Path, tmp_path: Path, damage: str
) -> None:
    target, cut = DAMAGES[damage]
    shutil.copytree(bundles / target, tmp_path / "bundle")
    cut(tmp_path / "bundle")
    code, report = validate(tmp_path / "bundle", target, "--limit", "1")
    found = statuses(report)
    assert code == 1
    assert found["integrity"] == "fail"
    assert found["parity"] == found["padding"] == found["determinism"] == "not_run"


@pytest.mark.slow
def test_int8_of_executorch_is_small_and_keeps_the_words(
    bundles: Path, tmp_path: Path, an4_dev: Path
) -> None:
    bundle = tmp_path / "int8"
    assert export_main(["--target", "executorch", "--quantize", "int8", "--out", str(bundle)]) == 0
    size = (bundle / "model.pte").stat().st_size
    assert size <= 0.3 * (bundles / "executorch" / "model.pte").stat().st_size
    code, report = validate(bundle, "executorch", "--data", str(an4_dev), "--checks", "parity,wer")
    assert code == 0
    assert figure(report, "wer-difference", "WER difference") <= 0.3
