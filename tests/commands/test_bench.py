"""``lpa-bench`` on real bundles: what it measures, keeps, refuses."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from lpa_export.benchmark import process
from lpa_export.benchmark import result as results
from lpa_export.benchmark.process import Request, measure_in_process
from lpa_export.benchmark.result import Benchmark
from lpa_export.benchmark.sides import Side
from lpa_export.commands.bench import bench, main
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import damaged_files, open_bundle
from lpa_export.formats.manifest import Sizes
from lpa_export.formats.text import Vocabulary
from lpa_export.runtimes import Array
from lpa_export.targets import target_named
from tests.manifests import restated

Capture = pytest.CaptureFixture[str]
SHORT: dict[str, Any] = {"seconds": (0.5,), "rounds": 1, "least_seconds": 0.0, "threads": 1}


@pytest.fixture
def bundle(exported: Any, tmp_path: Path) -> Path:
    """A bundle of one's own, whose folder holds nothing else."""
    folder = tmp_path / "build" / "onnx"
    shutil.copytree(exported.bundle, folder)
    return folder


def test_one_bundle_is_measured_and_the_figures_are_kept(bundle: Path, capsys: Capture) -> None:
    arguments = ["--target", "onnx", "--bundle", str(bundle), "--seconds", "0.5,1"]
    assert main([*arguments, "--rounds", "1", "--threads", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    ((_, schema),) = results.schemas().items()
    jsonschema.Draft202012Validator(json.loads(schema)).validate(found)
    points = found["ours"]["points"]
    assert [point["seconds"] for point in points] == [0.5, 1.0]
    for point in points:
        assert 0 < point["time"] < 5
        (times,) = point["times"]
        assert sum(times) >= 1.0 or len(times) == process.MOST_RUNS
        assert 20e6 < point["first_peak"] <= point["third_peak"] < 1e9
    kept = json.loads((bundle.parent / "bench.json").read_text("utf-8"))
    assert kept == {"onnx": found}
    card = (bundle / "README.md").read_text("utf-8")
    assert "measured by lpa-bench" in card and "| 0.5 s of audio |" in card
    assert damaged_files(open_bundle(bundle)) == []


def test_several_bundles_are_one_run_and_each_keeps_its_figures(
    bundle: Path, capsys: Capture
) -> None:
    other = bundle.with_name("other")
    shutil.copytree(bundle, other)
    given = ["--bundle", str(bundle), "--bundle", str(other), "--seconds", "0.5"]
    assert main(["--target", "onnx", *given, "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["ours"]["name"] for result in found] == [str(bundle), str(other)]
    kept = json.loads((bundle.parent / "bench.json").read_text("utf-8"))
    assert kept == dict(zip(("onnx", "other"), found, strict=True))
    assert "measured by lpa-bench" in (other / "README.md").read_text("utf-8")


def test_beside_a_users_own_export(bundle: Path, exported: Any) -> None:
    found = bench(
        target="onnx",
        bundle=bundle,
        against="hub-export",
        checkpoint=exported.checkpoint,
        **SHORT,
    )
    assert found.theirs is not None and found.theirs.name == "hub-export"
    (ratio,) = found.ratios
    assert ratio.ratio == found.theirs.points[0].time / found.ours.points[0].time
    assert ratio.low <= ratio.ratio <= ratio.high


def test_in_torch_beside_the_untouched_model(exported: Any) -> None:
    found = bench(target="torch", checkpoint=exported.checkpoint, against="hub-eager", **SHORT)
    assert found.theirs is not None
    assert found.ours.points[0].time > 0 and found.theirs.points[0].time > 0


def test_each_figure_is_from_a_process_of_its_own(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of what a run of it does is one fresh Python; here the command is looked at."""
    commands = []
    run = process.subprocess.run

    def spy(command: list[str], **named: Any) -> Any:
        commands.append((command[1:3], named["env"]["OMP_NUM_THREADS"]))
        return run(command, **named)

    monkeypatch.setattr(process.subprocess, "run", spy)
    found = bench(target="onnx", bundle=bundle, **{**SHORT, "rounds": 2})
    assert commands == [(["-m", "lpa_export.benchmark.process"], "1")] * 2
    assert len(found.ours.points[0].times) == 2


def test_a_process_that_dies_is_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(name="it", kind="bundle", path=str(bundle))
    request = Request(side=side, seconds=0.5, rate=16_000, threads=1, least_seconds=0.0)
    monkeypatch.setattr(process.sys, "path", [str(_killing(bundle.parent)), *process.sys.path])
    with pytest.raises(LpaError, match=r"it: its process ended by signal 9 at 0\.5 s of audio"):
        measure_in_process(request)


def _killing(folder: Path) -> Path:
    """A folder that ends every Python which has it on its path."""
    (folder / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    return folder


class Counting:
    """What a target's row names instead of its runner."""

    def __init__(self, bundle: Any, *, threads: int) -> None:
        self.threads = threads

    def run(self, waveform: Array) -> float:
        return float(self.threads * len(waveform))

    def peak(self) -> int:
        return 7


def test_a_target_says_itself_how_it_is_timed(exported: Any) -> None:
    row = replace(target_named("onnx"), timing="tests.commands.test_bench:Counting")
    timed = row.timed(open_bundle(exported.bundle), threads=3)
    assert (timed.run(np.zeros(5, np.float32)), timed.peak()) == (15.0, 7)


def refusal(capsys: Capture, *arguments: object) -> str:
    """The one line that the command refuses with."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def _other_tokens(folder: Path) -> None:
    tokens = Vocabulary.read(folder / "tokens.json")
    changed = replace(tokens, tokens=("<pad>", "|", "'", *"BACDEFGHIJKLMNOPQRSTUVWXYZ"))
    changed.write(folder / "tokens.json")
    restated(open_bundle(folder))


def _other_hop(folder: Path) -> None:
    opened = open_bundle(folder)
    frames = opened.manifest.frames
    twice = type(frames)(
        kernels=frames.kernels,
        strides=(*frames.strides[:-1], 2 * frames.strides[-1]),
        hop=2 * frames.hop,
        receptive_field=frames.receptive_field,
    )
    restated(opened, frames=twice)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_tokens, "they differ in vocabulary (29 tokens, the first '<pad>', '|', \"'\", 'A'"),
        (_other_hop, "they differ in hop (320 samples and 640 samples)"),
    ],
)
def test_bundles_that_do_other_work_are_not_compared(
    exported: Any, bundle: Path, capsys: Capture, change: Callable[[Path], None], said: str
) -> None:
    change(bundle)
    arguments = ("--target", "onnx", "--bundle", exported.bundle, "--against", bundle)
    assert said in refusal(capsys, *arguments)


def test_a_baseline_of_another_architecture_is_not_compared(
    exported: Any, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported.checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 31}))
    arguments = ("--target", "onnx", "--bundle", exported.bundle, "--against", "hub-export")
    said = refusal(capsys, *arguments, "--checkpoint", other)
    assert "they differ in vocabulary (29 tokens and 31 tokens)" in said
    assert "hub-export is made of a checkpoint: give that of 'tiny'" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "nowhere"), "no such bundle, and no baseline either; known: hub-export"),
        (("--seconds", "abc"), "expected seconds as 10,30; found 'abc'"),
        (("--seconds", "0"), "expected seconds as 10,30; found '0'"),
        (("--device", "cuda"), "--device goes with --target torch"),
        (("--picture", "a.txt"), "pictures are .svg, .png or .pdf"),
        (("--target", "abacus"), "unknown target 'abacus'; known targets: onnx"),
        (("--target", "coreml"), "a bundle for target 'onnx', expected 'coreml'"),
        (("--target", "torch"), "--bundle goes with an exported target"),
    ],
)
def test_bad_arguments_are_one_line(
    exported: Any, capsys: Capture, arguments: tuple[str, ...], message: str
) -> None:
    given = ("--target", "onnx", "--bundle", exported.bundle, *arguments)
    assert message in refusal(capsys, *given)


def test_core_ml_is_said_to_need_a_mac(bundle: Path, capsys: Capture) -> None:
    restated(open_bundle(bundle), target="coreml")
    said = refusal(capsys, "--target", "coreml", "--bundle", bundle, "--seconds", "0.5")
    assert "its times need a Mac" in said


def test_a_runtime_that_is_not_here_is_one_line(
    bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hidden from the process that would load it."""
    hidden = bundle.parent / "hidden"
    hidden.mkdir()
    (hidden / "onnxruntime.py").write_text("raise ImportError('not here')")
    monkeypatch.setattr(process.sys, "path", [str(hidden), *process.sys.path])
    said = refusal(capsys, "--target", "onnx", "--bundle", bundle, "--seconds", "0.5")
    assert "the runtime of target onnx cannot be imported (not here); install it" in said


def test_audio_that_memory_does_not_hold_is_refused_first(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    sizes = open_bundle(bundle).manifest.sizes
    assert isinstance(sizes, Sizes)
    monkeypatch.setattr("lpa_export.runtimes.memory.available_memory", lambda: 10)
    monkeypatch.setattr("lpa_export.benchmark.run.measure_in_process", pytest.fail)
    said = refusal(capsys, "--target", "onnx", "--bundle", bundle, "--seconds", "9999")
    assert "9999 s of audio take about" in said


def test_figures_that_cannot_be_kept_are_a_warning(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("lpa_export.benchmark.result.write_result", full)
    with pytest.warns(UserWarning, match="the figures are not kept there"):
        found = bench(target="onnx", bundle=bundle, **SHORT)
    assert isinstance(found, Benchmark)
