"""A Core ML bundle on its way into the app, and what a device says of it on its way back."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import lpa_validate
import numpy as np
import pytest
from lpa_validate import device_schema

from lpa_export.commands.bundle import main as lpa_bundle
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import damaged_files, open_bundle
from lpa_export.formats.golden import read_golden
from tests.ios_demo.vectors import AN4_TINY, REPOSITORY

APP = REPOSITORY / "ios_demo"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """an4-tiny for Core ML, with a program whose taps are outputs."""
    from lpa_export.commands.export import main

    folder = tmp_path_factory.mktemp("build") / "an4-tiny" / "coreml"
    arguments = ["--target", "coreml", "--taps", "outputs", "--buckets", "5", "--out", str(folder)]
    assert main(arguments) == 0
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder that looks like the app to lpa-bundle."""
    folder = tmp_path / "ios_demo"
    (folder / "App" / "Resources").mkdir(parents=True)
    shutil.copy(APP / "project.yml", folder)
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy" / "coreml"))


def test_the_bundle_lies_in_the_resources_whole_and_checked(
    app: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "report.json").write_text("{}")
    assert lpa_bundle(["--target", "coreml", "--app", str(app), "--bundle", str(bundle)]) == 0
    (bundle / "report.json").unlink()
    place = app / "App" / "Resources" / "Bundle"
    assert damaged_files(open_bundle(place)) == []
    assert not (place / "report.json").exists()
    listed = open_bundle(bundle).manifest.files.values()
    out = capsys.readouterr().out
    assert f"an4-tiny (fp16, {sum(entry.bytes for entry in listed) / 1e6:.1f} MB)" in out
    # Where project.yml looks for it.
    assert "App/Resources/Bundle" in (APP / "project.yml").read_text("utf-8")


def test_a_second_bundle_takes_the_place_of_the_first(app: Path, bundle: Path) -> None:
    arguments = ["--target", "coreml", "--app", str(app), "--bundle", str(bundle)]
    assert lpa_bundle(arguments) == 0
    assert lpa_bundle(arguments) == 0
    assert [path.name for path in (app / "App" / "Resources").iterdir()] == ["Bundle"]


def test_all_names_what_it_left_out(
    app: Path, bundle: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(copied, copied.parent / "onnx")
    assert lpa_bundle(["--target", "all", "--app", str(app), "--bundle", str(copied)]) == 0
    assert "left out onnx: lpa-demo runs it" in capsys.readouterr().out


def change_weight(folder: Path) -> None:
    weights = next(folder.rglob("weight.bin"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)


def link_out(folder: Path) -> None:
    shutil.move(folder / "tokens.json", folder.parent / "tokens.json")
    (folder / "tokens.json").symlink_to(folder.parent / "tokens.json")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (change_weight, "weight.bin: altered"),
        (link_out, "tokens.json: a link out of the bundle"),
        (lambda folder: (folder / "tokens.json").unlink(), "tokens.json: missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not JSON"),
    ],
)
def test_a_damaged_bundle_is_refused_and_the_old_one_stays(
    app: Path,
    bundle: Path,
    copied: Path,
    damage: Callable[[Path], Any],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert lpa_bundle(["--target", "coreml", "--app", str(app), "--bundle", str(bundle)]) == 0
    damage(copied)
    capsys.readouterr()
    assert lpa_bundle(["--target", "coreml", "--app", str(app), "--bundle", str(copied)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert damaged_files(open_bundle(app / "App" / "Resources" / "Bundle")) == []


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("onnx", "lpa-demo runs it"),
        ("executorch", "ExecuTorch"),
        ("mlx", "mlx-swift"),
        ("tflite", "it takes coreml"),
    ],
)
def test_targets_that_the_app_cannot_run_are_refused(
    app: Path, target: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lpa_bundle(["--target", target, "--app", str(app)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"not {target}" in line and problem in line


def test_a_folder_that_is_no_app_is_refused(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lpa_bundle(["--target", "coreml", "--app", str(tmp_path), "--bundle", str(bundle)]) == 2
    assert "project.yml" in capsys.readouterr().err


# The program whose taps are outputs, emulated.


@pytest.fixture(scope="module")
def tapped(bundle: Path) -> dict[str, np.ndarray]:
    """Its outputs for the first golden clip, (frames, width), run as the app runs it."""
    from lpa_export.runtimes.coreml import Evaluator, load_package

    opened = open_bundle(bundle)
    clip = read_golden(opened)[0]
    runtime = opened.manifest.runtime
    front = Evaluator(load_package(bundle / "frontend.mlpackage"), function="main")
    heard = front.run({"waveform": clip.waveform[None]})
    projected = heard["projected"]
    frames, bucket = projected.shape[-1], opened.manifest.buckets[0].frames  # type: ignore[index]
    padded = np.zeros((*projected.shape[:-1], bucket), projected.dtype)
    padded[..., :frames] = projected
    mask = np.zeros((1, 1, 1, bucket), projected.dtype)
    mask[..., :frames] = 1
    place = runtime["taps"]
    encoder = Evaluator(load_package(bundle / place["package"]), function=place["function"])
    found = heard | encoder.run({"projected": padded, "mask": mask})
    return {name: value[0, :, 0, :frames].T.astype(np.float32) for name, value in found.items()}


def test_every_tap_of_the_manifest_is_an_output(
    bundle: Path, tapped: dict[str, np.ndarray]
) -> None:
    from lpa_export.measures.arrays import psnr

    opened = open_bundle(bundle)
    clip = read_golden(opened)[0]
    for tap in opened.manifest.taps:
        assert psnr(clip.taps[tap.name], tapped[tap.tensor]) > 30, tap.name


def test_window_edges_are_those_that_lpa_train_draws(
    bundle: Path, tapped: dict[str, np.ndarray]
) -> None:
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.training.window_view import view_windows

    opened = open_bundle(bundle)
    view = view_windows(load_checkpoint(AN4_TINY), read_golden(opened)[0].waveform)
    for entry, layer in zip(opened.manifest.runtime["windows"], view.layers, strict=True):
        assert entry["layer"] == layer.layer and layer.moving is not None
        edges = np.ceil(tapped[entry["edges"]]).astype(int)
        frames, heads, pulses = layer.moving.starts.shape
        lower, upper = np.split(edges, 2, axis=1)
        at = np.arange(frames)[:, None, None]
        shape = (frames, pulses, heads)
        starts = np.clip(at + lower.reshape(shape).transpose(0, 2, 1), 0, frames - 1)
        ends = np.maximum(
            np.minimum(at + upper.reshape(shape).transpose(0, 2, 1), frames), starts + 1
        )
        # In float16 an edge near a frame's centre may fall to its other side.
        assert np.mean(starts == layer.moving.starts) > 0.97
        assert np.mean(ends == layer.moving.ends) > 0.97


def test_the_other_programs_hide_their_taps(bundle: Path) -> None:
    import coremltools

    specification = coremltools.utils.load_spec(str(bundle / "encoder.mlpackage"))
    outputs = {
        function.name: [output.name for output in function.output]
        for function in specification.description.functions
    }
    assert outputs["frames_256"] == ["logits"]
    assert len(outputs["taps"]) > 5


# What a device says, merged.


@pytest.fixture
def device(bundle: Path) -> dict[str, Any]:
    """A report as the app writes it, with infinite PSNR at the features."""
    manifest = open_bundle(bundle).manifest
    index = json.loads((bundle / "golden" / "index.json").read_text("utf-8"))
    taps = [
        {
            "name": tap.name,
            "kind": tap.kind,
            "psnr_db": "inf" if tap.name == "features" else 61.5,
            "largest_difference": 0.01,
            "gate_db": 40.0,
            "passed": True,
        }
        for tap in manifest.taps
    ]
    clips = [
        {
            "id": entry["id"],
            "psnr_db": 61.5,
            "transcript": entry["transcript"],
            "expected": entry["transcript"],
        }
        for entry in index
    ]
    bench: dict[str, Any] = {"audio_seconds": 3.0, "warm": 0.2, "p95": 0.03, "passes": 20}
    bench |= {"real_time_factor": 0.005, "peak_memory_bytes": 10**8, "thermal_states": None}
    replay = {
        "runtime": "Core ML, CPU and Neural Engine",
        "units": "neural-engine",
        "passed": True,
        "failures": [],
        "first_diverging_tap": None,
        "argmax_agreement": 1.0,
        "argmax_gate": 0.995,
        "changed_transcripts": 0,
        "taps": taps,
        "clips": clips,
    }
    return {
        "schema_version": 1,
        "bundle": {
            "model": manifest.model,
            "target": "coreml",
            "scheme": "fp16",
            "manifest_sha256": hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
        },
        "device": {"name": "iPhone15,2", "os": "iOS 18.1 (22B83)", "simulator": False},
        "normaliser": {"name": "lpa-text", "version": manifest.normaliser.version},
        "golden": {entry["id"]: manifest.files[entry["audio"]].sha256 for entry in index},
        "replays": [replay],
        "recognition": None,
        "benchmarks": [
            bench | {"runtime": "Core ML, CPU", "units": "cpu", "cold": 1.0, "p50": 0.08},
            bench | {"runtime": "ANE", "units": "neural-engine", "cold": 9.0, "p50": 0.02},
        ],
    }


@pytest.fixture
def merge(bundle: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    def run(content: dict[str, Any]) -> Any:
        place = tmp_path / "device-report.json"
        place.write_text(json.dumps(content), "utf-8")
        return lpa_validate.validate(
            target="coreml", bundle=bundle, checks=["integrity"], merge=place
        )

    return run


def test_the_device_schema_in_the_file_is_that_of_the_code() -> None:
    ((path, text),) = device_schema.schemas().items()
    assert path.read_text("utf-8") == text, "python -m lpa_validate.device_schema writes it anew"


def test_a_device_is_judged_by_the_bundles_gates(
    device: dict[str, Any], merge: Callable[[dict[str, Any]], Any], bundle: Path
) -> None:
    ((_, text),) = device_schema.schemas().items()
    jsonschema.validate(device, json.loads(text))
    report = merge(device)
    check = report.check("device")
    assert report.verdict == "pass" and check.status == "pass"
    assert report.environment["device"] == "iPhone15,2, iOS 18.1 (22B83)"
    assert all(figure.label == "measured" for figure in check.figures)
    level = check.figure("PSNR, logits, Core ML, CPU and Neural Engine")
    assert (level.value, level.gate) == (61.5, 40.0)
    assert check.figure("pass on the CPU by pass on the Neural Engine").value == 4.0
    selfcheck = open_bundle(bundle).manifest.selfcheck
    assert selfcheck.label == "emulated"
    row = next(row for row in check.details["device_taps"] if row["tap"] == "logits")
    assert row["emulated_db"] == selfcheck.taps["logits"] and row["measured_db"] == 61.5
    # Strict JSON holds the infinite PSNR too.
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["checks"][-1]["details"]["device_taps"][0]["measured_db"] == "inf"


@pytest.mark.parametrize("form", ["text", "github", "json", "html"])
def test_the_command_shows_what_the_device_measured(
    device: dict[str, Any],
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    from lpa_validate.command import main

    place = tmp_path / "device-report.json"
    place.write_text(json.dumps(device), "utf-8")
    arguments = ["--target", "coreml", "--bundle", str(bundle), "--checks", "integrity"]
    flags = ["--merge", str(place), "--format", form]
    assert main([*arguments, *flags]) == 0
    out = capsys.readouterr().out
    assert "PSNR, logits, Core ML, CPU and Neural Engine" in out
    if form == "text":
        assert "taps on Core ML, CPU and Neural Engine:" in out
        (row,) = (line for line in out.splitlines() if line.startswith("    encoder.layers.0 "))
        assert "61.5 dB measured" in row and "dB emulated" in row


def test_a_failed_gate_on_the_device_fails_the_report(
    device: dict[str, Any], merge: Callable[[dict[str, Any]], Any]
) -> None:
    replay = device["replays"][0]
    replay["taps"][-1]["psnr_db"] = 12.0
    # What the file says of itself is not asked.
    assert replay["passed"] is True
    replay["first_diverging_tap"] = "encoder.layers.1"
    report = merge(device)
    assert report.exit_code == 1
    reason = report.check("device").reason
    assert "iPhone15,2" in reason and "encoder.layers.1" in reason


def test_a_nan_on_the_device_fails(
    device: dict[str, Any], merge: Callable[[dict[str, Any]], Any]
) -> None:
    device["replays"][0]["taps"][-1]["psnr_db"] = "nan"
    assert merge(device).exit_code == 1


def foreign_bundle(device: dict[str, Any]) -> None:
    device["bundle"]["manifest_sha256"] = "0" * 64


def foreign_clip(device: dict[str, Any]) -> None:
    device["golden"][next(iter(device["golden"]))] = "0" * 64


def foreign_rule(device: dict[str, Any]) -> None:
    device["normaliser"]["version"] = "1"


def nothing_measured(device: dict[str, Any]) -> None:
    device.update(replays=[], benchmarks=[], recognition=None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (foreign_bundle, "of another bundle"),
        (foreign_clip, "of other golden clips"),
        (foreign_rule, "texts went through lpa-text/1"),
        (nothing_measured, "nothing was measured"),
        (lambda device: device.update(schema_version=2), "newer than 1"),
        (lambda device: device.update(smell=1), "unknown field"),
        (lambda device: device.pop("schema_version"), "no report of a device"),
    ],
)
def test_foreign_reports_are_refused(
    device: dict[str, Any],
    merge: Callable[[dict[str, Any]], Any],
    change: Callable[[dict[str, Any]], Any],
    problem: str,
) -> None:
    change(device)
    with pytest.raises(LpaError, match=problem):
        merge(device)


def spoken(device: dict[str, Any], *, insertions: int) -> None:
    device["recognition"] = {
        "runtime": "Core ML, CPU",
        "data": {"name": "demo", "sha256": "0" * 64, "utterances": 2, "words": 4},
        "wer": 25.0,
        "substitutions": 0,
        "deletions": 0,
        "insertions": insertions,
        "transcripts": [
            {"id": "a", "text": "ONE TWO", "transcript": "one two"},
            {"id": "b", "text": "ONE TWO", "transcript": "ONE TWO THREE"},
        ],
    }


def test_words_are_counted_again(
    device: dict[str, Any], merge: Callable[[dict[str, Any]], Any]
) -> None:
    spoken(device, insertions=1)
    assert merge(device).check("device").figure("WER, Core ML, CPU").value == 25.0
    spoken(device, insertions=0)
    with pytest.raises(LpaError, match="the device counted"):
        merge(device)
