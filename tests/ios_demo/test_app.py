"""ios_demo built, tested and run on this machine: its Swift tests, lpa-demo against Python.

Without a Swift toolchain these tests are skipped by name, and with CI=1 they fail: see
`ios_demo/scripts/swift.sh`.
"""

import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.speech import load_utterances
from tests.ios_demo.vectors import DEMO, REPOSITORY

SCRIPT = REPOSITORY / "ios_demo" / "scripts" / "swift.sh"
NOBODY = 65534

Demo = Callable[..., subprocess.CompletedProcess[str]]


def script(
    *arguments: str | Path, timeout: float = 900, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, "PYTHON": sys.executable, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def toolchain() -> Path:
    return Path(os.environ.get("SWIFT_ROOT", REPOSITORY / "build" / "swift"))


def require_toolchain() -> None:
    """Skip without one; with CI set that is a failure."""
    missing = script("available")
    if missing.returncode:
        if os.environ.get("CI"):
            pytest.fail(missing.stdout)
        pytest.skip(missing.stdout.strip())


@pytest.fixture(scope="module")
def built() -> None:
    """Everything of the package that this system can build, tests included."""
    require_toolchain()
    build = script("build")
    assert build.returncode == 0, build.stdout[-4000:] + build.stderr[-2000:]


@pytest.fixture(scope="module")
def demo(built: None) -> Demo:
    """Runs lpa-demo."""
    return lambda *arguments, **options: script("demo", *arguments, **options)


@pytest.fixture(scope="module")
def bundle(shipped_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX bundle of an4-tiny."""
    folder = Path(shutil.copytree(shipped_onnx, tmp_path_factory.mktemp("bundle") / "onnx"))
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["model"] == "an4-tiny"
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def as_json(run: subprocess.CompletedProcess[str]) -> Any:
    assert not run.stderr, run.stderr
    return json.loads(run.stdout)


def one_line_error(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("lpa-demo: error: ")
    return line


def test_swift_tests_pass(built: None) -> None:
    run = script("test", "--skip-build", "--disable-xctest")
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "Test run with" in run.stdout


@pytest.fixture(scope="module")
def replayed(demo: Demo, bundle: Path) -> Any:
    """The report of lpa-demo replay."""
    run = demo("replay", "--bundle", bundle, "--json")
    assert run.returncode == 0
    return as_json(run)


@pytest.fixture
def some_speech(tmp_path: Path) -> Path:
    """Every fourth clip of the demo set: the reference, in float64, takes a second for each."""
    lines = (DEMO / "manifest.jsonl").read_text("utf-8").splitlines()[::4]
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        entry["audio_filepath"] = str(DEMO / entry["audio_filepath"])
    place = tmp_path / "some.jsonl"
    place.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return place


def recognised(demo: Demo, bundle: Path, speech: Path) -> Any:
    """The report of lpa-demo wer."""
    run = demo("wer", "--bundle", bundle, "--data", speech, "--json")
    assert run.returncode == 0
    return as_json(run)


@pytest.fixture(scope="module")
def benched(demo: Demo, bundle: Path) -> Any:
    """The report of lpa-demo bench."""
    return as_json(demo("bench", "--bundle", bundle, "--passes", "3", "--json"))


def test_replay_passes_every_gate_at_every_tap(replayed: Any, bundle: Path) -> None:
    (replay,) = replayed["replays"]
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    assert replay["passed"] and not replay["failures"]
    assert [tap["name"] for tap in replay["taps"]] == [tap["name"] for tap in manifest["taps"]]
    for tap in replay["taps"]:
        assert tap["passed"] and tap["psnr_db"] >= manifest["gates"]["psnr_db"]
    assert replay["argmax_agreement"] == 1.0 and replay["changed_transcripts"] == 0


def test_transcripts_and_word_times_are_those_of_lpa_transcribe(
    demo: Demo, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lpa_export.commands.transcribe import main

    files = [str(utterance.audio) for utterance in load_utterances(DEMO / "manifest.jsonl")]
    assert main([*files, "--target", "onnx", "--bundle", str(bundle), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert len(expected) == 48
    assert as_json(demo("transcribe", "--bundle", bundle, "--json", *files)) == expected


def test_wer_is_that_of_lpa_validate_to_the_digit(
    demo: Demo, bundle: Path, some_speech: Path
) -> None:
    compare_wer(demo, bundle, some_speech)


@pytest.mark.slow
def test_wer_on_the_whole_demo_set_is_that_of_lpa_validate(demo: Demo, bundle: Path) -> None:
    compare_wer(demo, bundle, DEMO / "manifest.jsonl")


def compare_wer(demo: Demo, bundle: Path, speech: Path) -> None:
    from lpa_validate import validate

    report = validate(target="onnx", bundle=bundle, data=speech, checks=["wer"])
    figures = report.check("wer")
    found = recognised(demo, bundle, speech)["recognition"]
    assert found["wer"] == figures.figure("WER, artifact").value
    assert found["wer"] > 0
    for kind in ("substitutions", "deletions", "insertions"):
        assert found[kind] == figures.figure(f"{kind}, artifact").value
    assert report.data is not None
    assert found["data"]["sha256"] == report.data.sha256
    assert found["data"]["words"] == report.data.words


def test_benchmark_reports_what_it_measured(benched: Any, bundle: Path) -> None:
    (found,) = benched["benchmarks"]
    assert found["passes"] == 3
    assert 0 < found["p50"] <= found["p95"]
    assert found["real_time_factor"] == pytest.approx(found["p50"] / found["audio_seconds"])
    # At least the model's own size.
    assert found["peak_memory_bytes"] > (bundle / "model.onnx").stat().st_size


def test_what_lpa_demo_reports_is_merged_and_what_another_bundle_did_is_not(
    demo: Demo,
    replayed: Any,
    benched: Any,
    bundle: Path,
    copied: Path,
    tmp_path: Path,
    some_speech: Path,
) -> None:
    from lpa_validate import validate

    recognition = recognised(demo, bundle, some_speech)["recognition"]
    whole = {**replayed, "recognition": recognition, "benchmarks": benched["benchmarks"]}
    place = tmp_path / "report.json"
    place.write_text(json.dumps(whole), "utf-8")
    report = validate(target="onnx", bundle=bundle, checks=["integrity"], merge=place)
    check = report.check("device")
    assert report.verdict == "pass" and check.status == "pass"
    runtime = replayed["replays"][0]["runtime"]
    assert check.figure(f"PSNR, logits, {runtime}").label == "measured"
    assert check.figure(f"WER, {runtime}").value == recognition["wer"]
    assert report.environment["device"].startswith(os.uname().machine + ", Linux")
    edit_manifest(copied, lambda manifest: manifest.update(model="another"))
    with pytest.raises(LpaError, match="of another bundle"):
        validate(target="onnx", bundle=copied, checks=["integrity"], merge=place)


def test_a_long_recording_is_cut_and_joined_as_in_python(
    demo: Demo, bundle: Path, tmp_path: Path
) -> None:
    from lpa_export.commands.transcribe import transcribe
    from tests.ios_demo.vectors import joined

    waveform = joined([load_audio(DEMO / f"demo{index:04d}.flac") for index in range(10)], 8000)
    soundfile.write(tmp_path / "long.wav", waveform, 16_000, subtype="FLOAT")
    (found,) = as_json(
        demo("transcribe", "--bundle", bundle, "--cut", "8", "--json", tmp_path / "long.wav")
    )
    (expected,) = transcribe([tmp_path / "long.wav"], bundle=bundle, cut=8)
    assert found == expected.to_json()
    assert len(found["seams"]) > 1


def test_first_text_takes_less_than_half_a_second_of_computing(demo: Demo, bundle: Path) -> None:
    """Of all threads together, from the process's start: a busy test machine delays, but does
    not lengthen it. On an idle machine of two cores the text is there earlier still."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = demo("transcribe", "--bundle", bundle, DEMO / "demo0000.flac")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.stdout == "DECEMBER EIGHTEENTH NINETEEN SIXTY\n"
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.5


def test_nothing_is_written_under_home(demo: Demo, bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    run = demo("transcribe", "--bundle", bundle, DEMO / "demo0000.flac", env=environment)
    assert run.returncode == 0
    assert list(home.rglob("*")) == []


def test_telemetry_is_off_even_where_the_caller_says_otherwise(
    built: None, bundle: Path, tmp_path: Path
) -> None:
    """The program sets the variable itself: it may be started without its script."""
    home = tmp_path / "home"
    home.mkdir()
    text = SCRIPT.read_text("utf-8").replace("export ORT_DISABLE_TELEMETRY=1", "")
    bare = SCRIPT.with_name(".swift-bare.sh")
    bare.write_text(text, "utf-8")
    try:
        environment = {
            **{k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"},
            **{"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        }
        subprocess.run(
            ["bash", bare, "demo", "transcribe", "--bundle", bundle, DEMO / "demo0000.flac"],
            check=True,
            env=environment,
            capture_output=True,
        )
    finally:
        bare.unlink()
    assert list(home.rglob("*")) == []


# Damage: each fails the right check.


def swap_tokens(folder: Path) -> None:
    content = json.loads((folder / "tokens.json").read_text("utf-8"))
    tokens = content["tokens"]
    tokens[5], tokens[6] = tokens[6], tokens[5]
    (folder / "tokens.json").write_text(json.dumps(content), "utf-8")


def change_weight(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 0x40
    (folder / "model.onnx").write_bytes(data)


def lose_clip(folder: Path) -> None:
    next((folder / "golden").glob("*.flac")).unlink()


def make_newer(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(schema_version=99))


def link_outside(folder: Path) -> None:
    outside = folder.parent / "tokens.json"
    shutil.move(folder / "tokens.json", outside)
    (folder / "tokens.json").symlink_to(outside)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    place = folder / "manifest.json"
    manifest = json.loads(place.read_text("utf-8"))
    change(manifest)
    place.write_text(json.dumps(manifest), "utf-8")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (swap_tokens, "tokens.json: "),
        (change_weight, "model.onnx: altered"),
        (lose_clip, ".flac: missing"),
        (make_newer, "schema version 99 is newer"),
        (link_outside, "tokens.json: a link out of the bundle"),
    ],
)
def test_a_damaged_bundle_fails_the_right_check(
    demo: Demo, copied: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(copied)
    assert problem in one_line_error(demo("replay", "--bundle", copied))


def with_hash(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed: only the gates can tell then."""
    import hashlib

    data = (folder / name).read_bytes()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def test_swapped_tokens_with_right_hashes_fail_the_transcripts(demo: Demo, copied: Path) -> None:
    swap_tokens(copied)
    with_hash(copied, "tokens.json")
    run = demo("replay", "--bundle", copied, "--json")
    (replay,) = as_json(run)["replays"]
    assert run.returncode == 1
    assert replay["changed_transcripts"] > 0 and replay["first_diverging_tap"] is None


def test_a_changed_weight_with_right_hashes_fails_from_its_layer_on(
    demo: Demo, copied: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(copied / "model.onnx")
    (changed,) = (part for part in model.graph.initializer if part.name == "layers.2.norm.weight")
    values = numpy_helper.to_array(changed) * np.float32(1.05)
    changed.CopyFrom(numpy_helper.from_array(values, changed.name))
    (copied / "model.onnx").write_bytes(model.SerializeToString())
    with_hash(copied, "model.onnx")
    run = demo("replay", "--bundle", copied, "--json")
    (replay,) = as_json(run)["replays"]
    assert run.returncode == 1
    assert replay["first_diverging_tap"] == "encoder.layers.2"


# Bad input: one line, exit code 2.


def test_what_is_no_bundle_is_refused(demo: Demo, copied: Path, tmp_path: Path) -> None:
    assert "no such bundle folder" in one_line_error(demo("replay", "--bundle", tmp_path / "no"))
    assert "not a bundle" in one_line_error(demo("replay", "--bundle", DEMO))
    edit_manifest(copied, lambda manifest: manifest.update(target="coreml"))
    assert "target 'coreml', expected 'onnx'" in one_line_error(demo("replay", "--bundle", copied))


def test_unusable_audio_is_refused(demo: Demo, bundle: Path, tmp_path: Path) -> None:
    def error(name: str) -> str:
        return one_line_error(demo("transcribe", "--bundle", bundle, tmp_path / name))

    (tmp_path / "cut.flac").write_bytes((DEMO / "demo0000.flac").read_bytes()[:5000])
    assert "cut.flac: flac: the file is cut off" in error("cut.flac")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    assert "0 samples" in error("none.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    assert "empty file" in error("empty.wav")
    soundfile.write(tmp_path / "short.wav", np.sin(np.arange(500.0)), 16_000)
    assert "short.wav: 500 samples of 16000 Hz audio, the model takes 1360" in error("short.wav")
    left = np.sin(np.arange(16_000.0))
    soundfile.write(tmp_path / "phase.wav", np.stack([left, -left], axis=1), 16_000)
    assert "opposite phase" in error("phase.wav")
    (tmp_path / "text.wav").write_text("hello")
    assert "expected WAV or FLAC" in error("text.wav")
    assert "no such file" in error("missing.wav")


def test_a_bad_file_among_others_is_named_and_the_others_are_transcribed(
    demo: Demo, bundle: Path, tmp_path: Path
) -> None:
    clip = DEMO / "demo0008.flac"
    (tmp_path / "bad.wav").write_text("hello")
    run = demo("transcribe", "--bundle", bundle, "--json", tmp_path / "bad.wav", clip)
    good, bad = json.loads(run.stdout)
    assert run.returncode == 2
    assert good["text"] == "NINE NINE SIX ONE" and good["file"] == str(clip)
    assert "expected WAV or FLAC" in bad["error"] and len(run.stderr.splitlines()) == 1


def test_eight_channels_at_96_khz_are_transcribed(demo: Demo, bundle: Path, tmp_path: Path) -> None:
    from lpa_export.formats.audio import resample

    speech = resample(load_audio(DEMO / "demo0008.flac"), 16_000, 96_000)
    wide = np.stack([speech] * 8, axis=1)
    soundfile.write(tmp_path / "wide.wav", wide, 96_000, format="WAVEX", subtype="PCM_24")
    run = demo("transcribe", "--bundle", bundle, tmp_path / "wide.wav")
    assert run.stdout == "NINE NINE SIX ONE\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["sing"], "unknown command 'sing'"),
        (["replay"], "--bundle is needed"),
        (["replay", "--bundle"], "--bundle needs a value"),
        (["replay", "--loud"], "unknown option --loud"),
        (["bench", "--bundle", "BUNDLE", "--passes", "0"], "--passes"),
        (["wer", "--bundle", "BUNDLE"], "--data is needed"),
        (["transcribe", "--bundle", "BUNDLE"], "needs a WAV or FLAC file"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(
    demo: Demo, bundle: Path, arguments: Sequence[str], problem: str
) -> None:
    given = [str(bundle) if word == "BUNDLE" else word for word in arguments]
    assert problem in one_line_error(demo(*given))


# The app's files against hand-written declarations of Apple's frameworks.

PLANTED = {
    "a modifier that SwiftUI does not have": (
        "LPADemoUI",
        "Views/BenchmarkView.swift",
        '.navigationTitle("Benchmark")',
        '.navigationHeadline("Benchmark")',
    ),
    "SwiftUI's progress view with text for a number": (
        "LPADemoUI",
        "Views/TranscribeView.swift",
        "ProgressView(value: share)",
        'ProgressView(value: "half")',
    ),
    "Core ML's prediction under another label": (
        "LPACoreML",
        "CoreMLRunner.swift",
        "model.prediction(from: features)",
        "model.prediction(of: features)",
    ),
    "Core ML's compilation without waiting": (
        "LPACoreML",
        "CoreMLRunner.swift",
        "try await MLModel.compileModel(at: bundle.file(package))",
        "try MLModel.compileModel(at: bundle.file(package))",
    ),
    "a state that a screen forgets": (
        "LPADemoUI",
        "Views/ModelView.swift",
        'case .missing: Text("No model yet").foregroundStyle(.secondary)',
        "",
    ),
}


@pytest.fixture
def planted(built: None) -> Iterator[Path]:
    """A folder of copies that lies where the toolchain sees it."""
    folder = REPOSITORY / "ios_demo" / ".build" / f"planted-{os.getpid()}"
    shutil.copytree(REPOSITORY / "ios_demo" / "Sources", folder)
    yield folder
    shutil.rmtree(folder)


def typecheck(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    return script("typecheck", *sorted((folder / module).rglob("*.swift")))


def test_the_stubs_catch_planted_errors_in_app_files(planted: Path) -> None:
    """Each error is said of its own line, and no other line of the module has one: without them
    the files are sound."""
    expected: dict[str, set[str]] = {}
    for name, (module, file, right, wrong) in PLANTED.items():
        place = planted / module / file
        text = place.read_text("utf-8")
        assert text.count(right) == 1, name
        line = text[: text.index(right)].count("\n") + 1
        # What a switch forgets is said of the switch.
        if not wrong:
            line = text[: text.rindex("switch", 0, text.index(right))].count("\n") + 1
        place.write_text(text.replace(right, wrong), "utf-8")
        expected.setdefault(module, set()).add(f"{Path(file).name}:{line}")
    for module, places in expected.items():
        run = typecheck(planted, module)
        assert run.returncode != 0
        found = re.findall(r"(\w+\.swift:\d+):\d+: error:", run.stderr + run.stdout)
        assert set(found) == places, run.stderr


def test_the_runner_for_mlx_on_the_page_agrees_with_its_stub(built: None, tmp_path: Path) -> None:
    page = (REPOSITORY / "ios_demo" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```swift\n(.*?)```", page, re.DOTALL)
    folder = REPOSITORY / "ios_demo" / ".build" / f"page-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "MLXRunner.swift").write_text(code, "utf-8")
        run = script("typecheck", folder / "MLXRunner.swift")
        assert run.returncode == 0, run.stderr + run.stdout
        (folder / "MLXRunner.swift").write_text(code.replace("importFunction(from:", "load(from:"))
        assert script("typecheck", folder / "MLXRunner.swift").returncode != 0
    finally:
        shutil.rmtree(folder)


# Without a toolchain.


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Swift is the system's")
def test_what_needs_swift_waits_while_it_is_being_installed(tmp_path: Path) -> None:
    root = tmp_path / "swift"
    with (tmp_path / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [SCRIPT, "available"],
            env={**os.environ, "SWIFT_ROOT": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert said.startswith(f"ios_demo: not run, because there is no Swift in {root}")


def test_a_missing_toolchain_is_said_and_never_passed(tmp_path: Path) -> None:
    run = script("available", env={"SWIFT_ROOT": str(tmp_path / "none")})
    assert run.returncode == 1
    assert run.stdout.startswith("ios_demo: not run, because ")
    assert "passed" not in run.stdout
    assert len(run.stdout.splitlines()) == 1


def test_a_missing_toolchain_skips_the_tests_and_fails_them_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    (line,) = re.findall(r"^\t@(ios_demo/scripts/swift.sh available.*)$", makefile, re.MULTILINE)

    def make_test_ends() -> subprocess.CompletedProcess[str]:
        recipe = ["sh", "-c", line.replace("$$", "$")]
        return subprocess.run(recipe, cwd=REPOSITORY, capture_output=True, text=True)

    monkeypatch.setenv("SWIFT_ROOT", str(tmp_path / "none"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="ios_demo: not run, because"):
        require_toolchain()
    assert make_test_ends().returncode == 0
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="ios_demo: not run, because"):
        require_toolchain()
    assert make_test_ends().returncode == 1
    assert make_test_ends().stdout.startswith("ios_demo: not run, because ")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run by another user than root")
def test_another_user_than_root_runs_swift(open_folder: Path) -> None:
    """In a package of his own, with the toolchain that root installed."""
    require_toolchain()
    package = open_folder / "ios_demo"
    shutil.copytree(SCRIPT.parent, package / "scripts")
    (package / "one.swift").write_text("let one: Int = 1\n")
    (package / "other.swift").write_text('let one: Int = "1"\n')
    for place in [open_folder, *open_folder.rglob("*")]:
        os.chown(place, NOBODY, NOBODY)

    def as_nobody(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [package / "scripts" / "swift.sh", *words],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={**os.environ, "SWIFT_ROOT": str(toolchain())},
            cwd="/",
            capture_output=True,
            text=True,
        )

    available = as_nobody("available")
    if available.returncode:
        pytest.skip(available.stdout.strip())
    assert as_nobody("typecheck", package / "one.swift").returncode == 0
    assert "other.swift:1:" in as_nobody("typecheck", package / "other.swift").stderr


def test_a_machine_that_lets_nobody_make_namespaces_is_said(open_folder: Path) -> None:
    (open_folder / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (open_folder / "unshare").chmod(0o755)
    (open_folder / ".ready").touch()
    path = f"{open_folder}:{os.environ['PATH']}"
    run = script("available", env={"SWIFT_ROOT": str(open_folder), "PATH": path})
    assert run.returncode == 1
    assert "make no namespace of mounts" in run.stdout and len(run.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "problem"), [("nobody", "needs root"), ("root", "needs debootstrap")]
)
def test_installing_says_in_one_line_what_it_needs(
    tmp_path: Path, setting: str, problem: str
) -> None:
    """`id` and `command -v` answer from a folder of stand-ins."""
    for tool in ("bash", "dirname", "uname", "env"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {0 if setting == 'root' else 1000}\n")
    (tmp_path / "id").chmod(0o755)
    run = subprocess.run(
        [SCRIPT.with_name("install-swift.sh"), tmp_path / "swift"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert problem in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "swift").exists()
