"""The whole road of a small model through Apple's interpreter, and damaged programs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.commands.transcribe import main as transcribe_main
from lpa_export.commands.transcribe import transcribe
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.runtimes.coreai.runner import CoreaiRunner

Capture = pytest.CaptureFixture[str]


def test_every_check_passes_and_the_text_is_the_references(
    coreai_bundle: Path, coreai_checkpoint: Path
) -> None:
    given = ["--bundle", str(coreai_bundle), "--checkpoint", str(coreai_checkpoint)]
    checks = "integrity,parity,padding,determinism"
    flags = ["--target", "coreai", *given, "--checks", checks, "--limit", "2"]
    assert validate_main(flags) == 0
    report = json.loads((coreai_bundle / "report.json").read_text())
    assert {check["name"] for check in report["checks"]} == set(checks.split(","))
    assert {check["status"] for check in report["checks"]} == {"pass"}
    assert report["environment"]["measured by"] == "Apple's own interpreter, on a CPU"
    clip = next(coreai_bundle.glob("golden/*.flac"))
    (found,) = transcribe([clip], target="coreai", bundle=coreai_bundle)
    (expected,) = transcribe([clip], target="torch", checkpoint=coreai_checkpoint)
    assert found.text == expected.text


def test_the_program_says_what_it_is_and_takes_no_more_than_its_largest_bucket(
    coreai_bundle: Path,
) -> None:
    bundle = open_bundle(coreai_bundle)
    runner = CoreaiRunner(bundle)
    assert runner.metadata["precision"] == "fp32"
    assert runner.buckets == tuple(bucket.frames for bucket in bundle.manifest.buckets or ())
    noise = np.zeros((1, 5 * 16_000), np.float32)
    with pytest.raises(LpaError, match=r"5\.0 s of audio, this bundle takes 4\.0 s"):
        runner.run(noise, [noise.shape[1]])


def _inverted(data: bytes) -> bytes:
    """Bytes in the middle of the first tenth changed."""
    made, start = bytearray(data), len(data) // 20
    made[start : start + 400] = bytes(255 - value for value in made[start : start + 400])
    return bytes(made)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "another file": lambda data: b"PK" * 4000,
    "newer": lambda data: data[:4] + b"\x7f" + data[5:],
    "mutated": _inverted,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_program_is_one_line(
    coreai_bundle: Path, tmp_path: Path, capsys: Capture, damage: str
) -> None:
    """With right hashes, so that nothing but the program itself can tell."""
    shutil.copytree(coreai_bundle, tmp_path / "bundle")
    program = tmp_path / "bundle" / "model.aimodel" / "main.mlirb"
    program.write_bytes(DAMAGES[damage](program.read_bytes()))
    write_manifest(tmp_path / "bundle", open_bundle(tmp_path / "bundle").manifest)
    clip = next(coreai_bundle.glob("golden/*.flac"))
    flags = ["--target", "coreai", "--bundle", str(tmp_path / "bundle")]
    assert transcribe_main([*flags, str(clip)]) == 2
    captured = capsys.readouterr()
    assert "model.aimodel" in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize("program", ["../model.aimodel", "other.aimodel"])
def test_a_program_that_is_no_artifact_is_refused(
    coreai_bundle: Path, tmp_path: Path, program: str
) -> None:
    shutil.copytree(coreai_bundle, tmp_path / "bundle")
    place = tmp_path / "bundle" / "manifest.json"
    content = json.loads(place.read_text("utf-8"))
    content["runtime"]["program"] = program
    place.write_text(json.dumps(content), "utf-8")
    with pytest.raises(LpaError, match=f"'runtime' names '{program}', which is no artifact"):
        CoreaiRunner(open_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--buckets", "0.01"), "shorter than one frame"),
        (("--buckets", "5.001,5.002"), "buckets 5.001 and 5.002 s are both"),
        (("--buckets", "5,4000"), "buckets are seconds, above 0 and at most 3600"),
        (("--precision", "fp16"), "has no such scheme; known: fp32"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    coreai_checkpoint: Path, tmp_path: Path, capsys: Capture, flags: tuple[str, ...], said: str
) -> None:
    given = ["--checkpoint", str(coreai_checkpoint), *flags, "--out", str(tmp_path / "bundle")]
    assert export_main(["--target", "coreai", *given]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and said in message
    assert not (tmp_path / "bundle").exists()
