"""The whole road of a small model, and what becomes of it where something is wrong."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main
from lpa_export.commands.transcribe import main as transcribe_main
from lpa_export.commands.transcribe import transcribe
from lpa_export.formats.audio import write_flac
from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.formats.golden import read_golden
from lpa_export.runtimes.mlx.file import CPU, GPU, placed, primitives, read_header
from lpa_export.runtimes.mlx.runner import MlxRunner
from lpa_export.targets.mlx.model import load

Capture = pytest.CaptureFixture[str]


def test_every_check_passes_and_the_text_is_the_references(
    mlx_bundle: Path, mlx_checkpoint: Path, capsys: Capture
) -> None:
    flags = ["--target", "mlx", "--bundle", str(mlx_bundle), "--checkpoint", str(mlx_checkpoint)]
    checks = "integrity,ops,parity,padding,determinism"
    assert validate_main([*flags, "--checks", checks, "--limit", "2"]) == 0
    report = json.loads((mlx_bundle / "report.json").read_text())
    assert {check["name"] for check in report["checks"]} == set(checks.split(","))
    assert {check["status"] for check in report["checks"]} == {"pass"}
    labels = {
        item["name"]: item["label"] for check in report["checks"] for item in check["figures"]
    }
    assert labels["PSNR, all logits"] == "measured"
    assert labels["without a kernel in metal"] == "predicted"
    clip = next(mlx_bundle.glob("golden/*.flac"))
    (found,) = transcribe([clip], target="mlx", bundle=mlx_bundle)
    (expected,) = transcribe([clip], target="torch", checkpoint=mlx_checkpoint)
    assert found.text == expected.text


def test_the_program_gives_what_the_model_gives(mlx_bundle: Path) -> None:
    import mlx.core as mx

    bundle = open_bundle(mlx_bundle)
    runner, model = MlxRunner(bundle), load(mlx_bundle)
    for clip in read_golden(bundle):
        found = runner.taps(clip.waveform)
        for name, expected in model.taps(mx.array(clip.waveform[None])).items():
            np.testing.assert_allclose(
                found[name], np.array(expected[0]), atol=1e-4 * float(mx.abs(expected).max())
            )


def test_a_program_for_the_cpu_runs_as_the_page_says(mlx_checkpoint: Path, tmp_path: Path) -> None:
    """By MLX alone, without this package's runner; one for the GPU does not open without a GPU."""
    import mlx.core as mx

    flags = ["--checkpoint", str(mlx_checkpoint), "--buckets", "2", "--out", str(tmp_path / "mlx")]
    assert export_main(["--target", "mlx", "--device", "cpu", *flags]) == 0
    read: Any = mx.import_function(str(tmp_path / "mlx" / "model.mlxfn"))
    program = mx.compile(read)
    waveform = mx.array(np.random.default_rng(0).normal(size=(1, 20_000)).astype(np.float32))
    (logits,) = program(mx.pad(waveform, [(0, 0), (0, 12_000)]), mx.array([20_000]))
    expected = np.array(load(tmp_path / "mlx")(waveform))
    np.testing.assert_allclose(np.array(logits)[:, : expected.shape[1]], expected, atol=1e-3)


def test_primitives_in_the_file_are_those_that_mlx_exports(mlx_bundle: Path) -> None:
    """Found by their form in the bytes; MLX itself tells a callback of each."""
    import mlx.core as mx

    model = load(mlx_bundle)
    seen: list[dict[str, Any]] = []
    manifest = open_bundle(mlx_bundle).manifest
    names = [tap.name for tap in manifest.taps]

    def every_tap(waveform: Any, lengths: Any) -> list[Any]:
        found = model.taps(waveform, lengths)
        return [found[name] for name in names]

    for bucket in manifest.buckets or ():
        for function in (every_tap, model.logits):
            given = (mx.zeros((1, bucket.samples)), mx.array([bucket.samples]))
            mx.export_function(seen.append, function, *given)
    said = [entry["name"] for entry in seen if entry["type"] == "primitive"]
    data = (mlx_bundle / "model.mlxfn").read_bytes()
    assert dict(primitives(data)) == {name: said.count(name) for name in said}
    assert placed(data, GPU) == data != placed(data, CPU)
    assert placed(placed(data, CPU), GPU) == data
    assert read_header(data).functions == 4


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _newer(data: bytes) -> bytes:
    version = read_header(data).version
    return data.replace(version.encode(), b"9" + version.encode()[1:], 1)


def _renamed(data: bytes) -> bytes:
    return data.replace(b"Softmax", b"Hardmax")


def _huge(data: bytes) -> bytes:
    """The length of the second text: more than there is in the file."""
    at = 8 + len(read_header(data).version) + 5
    return data[:at] + struct.pack("<Q", 2**62) + data[at + 8 :]


def _mutated(data: bytes) -> bytes:
    """Bytes behind the header changed: counts and ids lead anywhere."""
    made, start = bytearray(data), data.index(b"taps") - 200
    made[start : start + 150] = bytes(255 - value for value in made[start : start + 150])
    return bytes(made)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (_cut, "model.mlxfn does not open"),
    "empty": (lambda data: b"", "it is truncated, or no MLX function"),
    "another file": (lambda data: b"PK" * 4000, "no MLX function"),
    "newer": (_newer, "is newer than"),
    "another primitive": (_renamed, "its primitives are not those that were written"),
    "a length": (_huge, "it is truncated, or no MLX function"),
    "mutated": (_mutated, "model.mlxfn"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_program_is_one_line(
    mlx_bundle: Path, tmp_path: Path, capsys: Capture, damage: str
) -> None:
    """With right hashes, so that nothing but the program itself can tell."""
    change, said = DAMAGES[damage]
    shutil.copytree(mlx_bundle, tmp_path / "bundle")
    program = tmp_path / "bundle" / "model.mlxfn"
    program.write_bytes(change(program.read_bytes()))
    write_manifest(tmp_path / "bundle", open_bundle(tmp_path / "bundle").manifest)
    clip = next(mlx_bundle.glob("golden/*.flac"))
    flags = ["--target", "mlx", "--bundle", str(tmp_path / "bundle")]
    assert transcribe_main([*flags, str(clip)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert validate_main([*flags, "--checks", "integrity"]) == 1


def test_audio_longer_than_the_largest_bucket_is_cut_or_refused(
    mlx_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 16_000).astype(np.float32)
    with pytest.raises(Exception, match=r"5\.0.* s of audio.*4\.0|longer"):
        MlxRunner(open_bundle(mlx_bundle)).run(noise[None], [len(noise)])
    write_flac(tmp_path / "long.flac", noise)
    line = json.dumps({"audio_filepath": "long.flac", "text": "GO"})
    (tmp_path / "long.jsonl").write_text(line + "\n")
    flags = ["--target", "mlx", "--bundle", str(mlx_bundle), "--data"]
    assert validate_main([*flags, str(tmp_path / "long.jsonl")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "s of audio" in captured.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--buckets", "0.01"), "shorter than one frame"),
        (("--buckets", "5.001,5.002"), "buckets 5.001 and 5.002 s are both"),
        (("--buckets", "5,4000"), "buckets are seconds, above 0 and at most 3600"),
        (("--device", "tpu"), "--device: must be one of gpu, cpu"),
        (("--quantize", "palette4"), "has no such scheme; known: fp32, fp16, bf16, int8, int4"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    mlx_checkpoint: Path, tmp_path: Path, capsys: Capture, flags: tuple[str, ...], said: str
) -> None:
    given = ["--checkpoint", str(mlx_checkpoint), *flags, "--out", str(tmp_path / "bundle")]
    assert export_main(["--target", "mlx", *given]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and said in message
    assert not (tmp_path / "bundle").exists()


def test_an_activation_without_a_name_is_refused(
    tiny_host: Callable[..., Any], tmp_path: Path, capsys: Capture
) -> None:
    from lpa_export.formats.checkpoint import save_checkpoint

    from .conftest import LETTERS

    model = tiny_host("wav2vec2", hidden_act="mish")
    checkpoint = save_checkpoint(tmp_path / "mish", model, LETTERS, None)
    given = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "bundle")]
    assert export_main(["--target", "mlx", *given]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "the activation MishActivation" in message


def test_the_runner_leaves_no_folder_and_no_process(mlx_bundle: Path) -> None:
    runner = MlxRunner(open_bundle(mlx_bundle))
    folder, process = runner._folder.name, runner._worker._process
    del runner
    assert not os.path.exists(folder)
    assert process.poll() is not None
