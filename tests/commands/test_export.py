"""``lpa-export``: what it writes, what it refuses, and that nothing half-made is left."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from lpa_validate.run import validate
from safetensors.torch import load_file, save_file

from lpa_export.commands.export import export, main
from lpa_export.formats.audio import load_audio
from lpa_export.formats.bundle import damaged_files, open_bundle
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.manifest import Frames, Normalisation, VocabularyEntry
from lpa_export.formats.schemes import Scheme
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import greedy_text
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets import Job, Written
from lpa_export.targets.onnx.target import OnnxTarget

Capture = pytest.CaptureFixture[str]
Make = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]


def refusal(capsys: Capture, *arguments: object) -> str:
    """The one line that the command refuses with."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("lpa-export: error: ")
    return captured.err


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder`, hidden ones too, with its content (None: a folder)."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, where build/ would appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that writes a few bytes at once, for tests of what surrounds it."""

    def write(_self: OnnxTarget, job: Job, folder: Path) -> Written:
        (folder / "model.onnx").write_bytes(job.scheme.name.encode())
        job.announce("writing")
        plain = Normalisation(kind="none", where="graph")
        return Written(("model.onnx",), {}, plain, (), (), (), None, {}, unrunnable="a few bytes")

    monkeypatch.setattr(OnnxTarget, "write", write)


# A bundle that was really exported.


def test_a_bundle_has_what_an_app_and_the_validator_need(exported: Any) -> None:
    bundle = open_bundle(exported.bundle)
    assert damaged_files(bundle) == []
    manifest, checkpoint = bundle.manifest, load_checkpoint(exported.checkpoint)
    assert {path.name for path in exported.bundle.iterdir()} == {
        *("README.md", "golden", "manifest.json", "model.onnx", "tokens.json", "tokens.txt")
    }
    assert manifest.target == "onnx"
    assert manifest.scheme == Scheme(
        name="fp32", compute="fp32", weights="fp32", activations="fp32"
    )
    assert manifest.normalisation == Normalisation(
        kind="zero_mean_unit_variance", where="graph", epsilon=1e-7
    )
    assert manifest.frames == Frames(
        hop=320, receptive_field=720, kernels=(400, 3), strides=(160, 2)
    )
    assert manifest.vocabulary == VocabularyEntry(
        blank_id=0, word_delimiter="|", size=29, file="tokens.json"
    )
    assert manifest.checkpoint.sha256 == checkpoint.sha256
    assert manifest.checkpoint.replaced_layers == (0, 2)
    assert manifest.checkpoint.shipped is False
    assert manifest.gates.psnr_db == 90.0
    assert (exported.bundle / "tokens.txt").read_text().splitlines() == [
        *checkpoint.vocabulary.tokens
    ]


def test_the_file_alone_tells_a_runtime_what_it_needs(exported: Any) -> None:
    session = onnxruntime.InferenceSession(exported.bundle / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    tokens = json.loads(metadata.pop("vocabulary"))
    assert tuple(tokens) == load_checkpoint(exported.checkpoint).vocabulary.tokens
    assert metadata == {
        "sample_rate": "16000",
        "hop": "320",
        "receptive_field": "720",
        "blank_id": "0",
        "word_delimiter": "|",
        "normalisation": "zero_mean_unit_variance",
        "model": "tiny",
        "precision": "fp32",
        "lpa_bundle_schema": "1",
    }
    assert [value.name for value in session.get_inputs()] == ["waveform", "lengths"]
    assert [value.name for value in session.get_outputs()] == ["logits", "frame_lengths"]


def test_taps_are_values_inside_the_graph(exported: Any) -> None:
    import onnx

    graph = onnx.load(exported.bundle / "model.onnx").graph
    inside = {name for node in graph.node for name in node.output}
    taps = open_bundle(exported.bundle).manifest.taps
    assert [tap.kind for tap in taps] == [
        *["frontend"] * 3,
        "lpa",
        "attention",
        "lpa",
        "head",
    ]
    assert {tap.tensor for tap in taps} <= inside


def test_golden_clips_hold_what_the_reference_gives(exported: Any) -> None:
    reference = TorchReference(load_checkpoint(exported.checkpoint))
    index = json.loads((exported.bundle / "golden" / "index.json").read_text())
    assert len(index) >= 3
    for clip in index:
        taps = reference.taps(load_audio(exported.bundle / clip["audio"]))
        for name, file in clip["taps"].items():
            np.testing.assert_allclose(np.load(exported.bundle / file), taps[name], atol=1e-5)


def test_weights_too_large_for_one_file_lie_beside_the_graph(
    exported: Any, tmp_path: Path, capsys: Capture
) -> None:
    """The road of models above 2 GiB, with a limit that any model is above."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE.format(layers="[0, 2]") + "targets: {onnx: {max_file_bytes: 1000}}\n")
    out = tmp_path / "external"
    export(target="onnx", checkpoint=exported.checkpoint, recipe=recipe, out=out)
    bundle = open_bundle(out)
    assert bundle.manifest.artifacts == ("model.onnx", "model.onnx.data")
    assert len({(out / name).stat().st_mode for name in bundle.manifest.artifacts}) == 1
    assert bundle.manifest.selfcheck.status == "passed"
    assert damaged_files(bundle) == []
    whole = (exported.bundle / "model.onnx").stat().st_size
    assert (
        (out / "model.onnx").stat().st_size < whole / 2 < (out / "model.onnx.data").stat().st_size
    )
    assert not [path for path in out.iterdir() if "traced" in path.name or "opti" in path.name]
    waveform = load_audio(load_utterances(None)[0].audio)
    inputs = {"waveform": waveform[None], "lengths": np.array([len(waveform)], np.int64)}
    found = [
        onnxruntime.InferenceSession(folder / "model.onnx").run(["logits"], inputs)[0]
        for folder in (out, exported.bundle)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    export(target="onnx", checkpoint=exported.checkpoint, recipe=recipe, out=out, overwrite=True)
    assert open_bundle(out).manifest.files == bundle.manifest.files
    checks = ["integrity", "ops", "parity"]
    report = validate(
        target="onnx", bundle=out, checks=checks, checkpoint=exported.checkpoint, limit=2
    )
    assert {check.name: check.status for check in report.checks} == dict.fromkeys(checks, "pass")
    (out / "model.onnx.data").write_bytes((out / "model.onnx.data").read_bytes()[:-4])
    assert damaged_files(open_bundle(out))[0].startswith("model.onnx.data: truncated")


def test_no_file_tells_of_the_machine_that_made_it(exported: Any) -> None:
    words = [
        str(REPOSITORY),
        str(Path.home()),
        str(exported.checkpoint),
        "site-packages",
        ".py\x00",
    ]
    words += ["Traceback", 'File "', "lpa_export/targets", "torch/nn", "/tmp/"]
    # Random bytes hold any short name.
    words += [name for name in [os.uname().nodename] if len(name) > 5]
    for path in (path for path in exported.bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert [word for word in words if word.encode() in content] == [], path.name


def test_two_exports_give_the_same_bytes(exported: Any, tmp_path: Path) -> None:
    """In processes with another hash seed, working directory, time and output folder."""
    out = tmp_path / "elsewhere" / "other-name"
    script = "import sys; from lpa_export.commands.export import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "--target", "onnx"]
    done = subprocess.run(
        [*command, "--checkpoint", str(exported.checkpoint), "--out", str(out)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "4321"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"wrote {out}" in done.stdout
    assert re.search(r"; model\.onnx [\d.]+ [kM]B$", done.stdout, re.MULTILINE)
    assert tree(out) == tree(exported.bundle)


def test_int8_of_the_shipped_model_is_smaller_and_reads_the_same(tmp_path: Path) -> None:
    result = export(target="onnx", quantize="int8", out=tmp_path / "int8")
    assert result.scheme == "int8"
    checkpoint = load_checkpoint()
    weights = 4 * sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert result.files.sizes["model.onnx"] <= 0.5 * weights
    manifest = open_bundle(tmp_path / "int8").manifest
    assert manifest.scheme.weights == "int8"
    assert manifest.gates.wer_difference_points == pytest.approx(0.3)
    reference = TorchReference(checkpoint)
    session = onnxruntime.InferenceSession(tmp_path / "int8" / "model.onnx")
    same = []
    for utterance in load_utterances(None, limit=12):
        waveform = load_audio(utterance.audio)
        inputs = {"waveform": waveform[None], "lengths": np.array([len(waveform)], np.int64)}
        texts = [
            greedy_text(logits, checkpoint.vocabulary)
            for logits in (session.run(["logits"], inputs)[0][0], reference.logits(waveform))
        ]
        same.append(texts[0] == texts[1])
    assert sum(same) >= 9


# What surrounds the target.


@pytest.mark.usefixtures("quick")
def test_the_default_folder_is_build_model_target(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    folder = str(tiny_checkpoint(name="small"))
    assert main(["--target", "onnx", "--checkpoint", folder]) == 0
    assert main(["--target", "onnx", "--checkpoint", folder, "--quantize", "int8"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "wrote build/small/onnx\n" in captured.out
    assert (here / "build/small/onnx/model.onnx").read_bytes() == b"fp32"
    assert (here / "build/small/onnx-int8/model.onnx").read_bytes() == b"int8"


@pytest.mark.usefixtures("quick")
def test_an_older_bundle_is_replaced_only_with_overwrite(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    arguments = ["--target", "onnx", "--checkpoint", str(tiny_checkpoint()), "--out", "bundle"]
    assert main(arguments) == 0
    (here / "bundle" / "report.json").write_text("{}")
    capsys.readouterr()
    before = tree(here)
    assert "bundle: already exists; pass --overwrite" in refusal(capsys, *arguments)
    assert tree(here) == before
    assert main([*arguments, "--overwrite"]) == 0
    assert not (here / "bundle" / "report.json").exists()
    assert damaged_files(open_bundle(here / "bundle")) == []


@pytest.mark.usefixtures("quick")
def test_what_to_do_next_can_be_pasted_into_a_shell(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    folder = tiny_checkpoint().rename(here / "it's my model")
    assert main(["--target", "onnx", "--checkpoint", str(folder), "--out", "my $HOME"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    typed = line.removeprefix("  next").strip()
    shell = ["sh", "-c", f"for word in {typed.removeprefix('lpa-validate')}; do echo $word; done"]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words == [
        *("--target", "onnx", "--bundle", "my $HOME", "--checkpoint", str(folder)),
    ]


@pytest.mark.parametrize("command", ["export --target coreml", "train teacher", "train sweep"])
def test_a_mistake_in_a_recipe_is_said_within_two_seconds(here: Path, command: str) -> None:
    """Before torch is there: it takes seconds to import, which the child process refuses to do."""
    (here / "bad.yaml").write_text(RECIPE.format(layers="[0, 2]") + "wobble: 3\n")
    module, *arguments = command.split()
    script = (
        "import sys; sys.modules['torch'] = None;"
        f"from lpa_export.commands.{module} import main; sys.exit(main(sys.argv[1:]))"
    )
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments, "--recipe", "bad.yaml"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 2
        assert "bad.yaml:4: unknown key 'wobble'" in done.stderr
    assert min(seconds) < 2


def test_a_folder_that_is_no_bundle_is_not_overwritten(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    folder = tiny_checkpoint()
    (here / "photos").mkdir()
    (here / "photos" / "cat.jpg").write_bytes(b"cat")
    before = tree(here)
    arguments = ("--target", "onnx", "--checkpoint", folder, "--out", "photos", "--overwrite")
    assert "not written by this command" in refusal(capsys, *arguments)
    assert tree(here) == before


def test_a_dry_run_checks_everything_and_writes_nothing(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    arguments = ["--target", "onnx", "--checkpoint", str(tiny_checkpoint()), "--dry-run"]
    before = tree(here)
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "would write build/tiny/onnx\n" in captured.out
    assert "LPA in 0, 2" in captured.out
    assert tree(here) == before
    (here / "build").write_text("a file in the way")
    assert "cannot be written" in refusal(capsys, *arguments)


REFUSED_BEFOREHAND: dict[str, tuple[tuple[str, ...], str]] = {
    "frames that float16 cannot count": (
        ("--target", "coreml", "--buckets", "60"),
        "float16 counts frames exactly to 2048 only",
    ),
    "int8 for a backend without": (
        ("--target", "executorch", "--backend", "portable", "--quantize", "int8"),
        "int8 is there for xnnpack only",
    ),
    "int8 beyond a file": (
        ("--target", "onnx", "--quantize", "int8", "--recipe", "small.yaml"),
        "int8 is written for graphs of one file",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_BEFOREHAND)
def test_a_dry_run_finds_what_the_export_would_refuse(
    here: Path, tiny_checkpoint: Make, capsys: Capture, kind: str
) -> None:
    arguments, message = REFUSED_BEFOREHAND[kind]
    (here / "small.yaml").write_text(
        RECIPE.format(layers="[0, 2]") + "targets: {onnx: {max_file_bytes: 1000}}\n"
    )
    folder = tiny_checkpoint()
    before = tree(here)
    given = (*arguments, "--checkpoint", folder, "--dry-run")
    assert message in refusal(capsys, *given)
    assert tree(here) == before


@pytest.mark.parametrize("crash", [RuntimeError("no\nspace"), KeyboardInterrupt(), MemoryError()])
def test_a_crash_in_the_middle_leaves_no_half_bundle_and_keeps_the_older_one(
    here: Path,
    tiny_checkpoint: Make,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
    crash: BaseException,
) -> None:
    arguments = ["--target", "onnx", "--checkpoint", str(tiny_checkpoint()), "--out"]
    assert main([*arguments, "older"]) == 0
    before = tree(here)

    def write(_self: OnnxTarget, _job: Job, folder: Path) -> Written:
        (folder / "model.onnx").write_bytes(b"half")
        raise crash

    monkeypatch.setattr(OnnxTarget, "write", write)
    assert main([*arguments, "deep/new"]) in (2, 130)
    assert main([*arguments, "older", "--overwrite"]) in (2, 130)
    assert tree(here) == before


@pytest.mark.usefixtures("quick")
def test_a_recipe_sets_gates_and_scheme(here: Path, tiny_checkpoint: Make) -> None:
    (here / "recipe.yaml").write_text(
        RECIPE.format(layers="[0, 2]")
        + "targets: {onnx: {quantize: int8}}\n"
        + "gates: {int8: {wer_difference_points: 0.1}, reference_wer_ceiling: 12}\n"
    )
    result = export(target="onnx", checkpoint=tiny_checkpoint(), recipe="recipe.yaml", out="b")
    assert result.scheme == "int8"
    gates = open_bundle(here / "b").manifest.gates
    assert (gates.wer_difference_points, gates.reference_wer_ceiling) == (0.1, 12)


# Bad input: one line, exit 2, nothing written.

RECIPE = "name: tiny\nmodel: {{checkpoint: owner/model}}\nlpa: {{layers: {layers}}}\n"


def _config(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        edit(content)
        (folder / "config.json").write_text(json.dumps(content))

    return damage


def _weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def _truncate(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:3_000])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def _too_soft(content: dict[str, Any]) -> None:
    content["lpa"]["figures"] = {"soft_wer": 20.0, "hard_wer": 20.5}
    content["lpa"]["hardness"] = {"0": {"soft_share": 0.02}, "2": {"soft_share": 0.31}}


NAN = float("nan")
BAD_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "missing; expected the weights"),
    "corrupt": (_truncate, "not a readable safetensors file"),
    "pickle": (_pickle, "pickled weights (pytorch_model.bin), which are never opened"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{,}"), "not readable as JSON"),
    "newer format": (
        _config(lambda c: c["lpa"].update(format_version=2)),
        "lpa format 2 is newer than this tool's 1: update lpa-export",
    ),
    "layer out of range": (
        _config(lambda c: c["lpa"].update(layers=[0, 3])),
        "layer 3 does not exist: the model has layers 0 to 2",
    ),
    "wrong shape": (
        _weights(lambda t: t.update({"lm_head.bias": torch.zeros(30)})),
        "lm_head.bias has shape (30,), expected (29,)",
    ),
    "NaN": (_weights(lambda t: t["lm_head.bias"].fill_(NAN)), "lm_head.bias holds NaN"),
    "no vocabulary": (lambda f: (f / "vocab.json").unlink(), "vocab.json"),
    "adapter": (_config(lambda c: c.update(adapter_attn_dim=4)), "tensors are missing"),
    "too soft": (
        _config(_too_soft),
        "hard gates raise the WER from 20 to 20.5 %, more than the 0.3 points allowed: layer 2 is "
        "the softest (31.0 % of its gates",
    ),
    "a name that leads elsewhere": (
        _config(lambda c: c["lpa"].update(name="../../etc")),
        "the model's name '../../etc' cannot name a folder; give one with --out",
    ),
}


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_one_line_and_nothing_is_written(
    here: Path, tiny_checkpoint: Make, capsys: Capture, kind: str
) -> None:
    damage, message = BAD_CHECKPOINTS[kind]
    folder = tiny_checkpoint()
    damage(folder)
    before = tree(here)
    assert message in refusal(capsys, "--target", "onnx", "--checkpoint", folder)
    assert tree(here) == before


BAD_ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown target": (("--target", "onxx"), "unknown target 'onxx'; known targets: onnx, coreml"),
    "no target": ((), "the following arguments are required: --target"),
    "missing checkpoint": (
        ("--target", "onnx", "--checkpoint", "./nowhere"),
        "nowhere: no such checkpoint folder",
    ),
    "unknown precision": (
        ("--target", "onnx", "--quantize", "int7"),
        "--quantize int7: target onnx has no such scheme; known: fp32, int8",
    ),
    "buckets that are no numbers": (
        ("--target", "coreml", "--buckets", "abc"),
        "argument --buckets: expected numbers as 5,10; found 'abc'",
    ),
    "buckets without end": (
        ("--target", "coreml", "--buckets", "5,inf"),
        "buckets are seconds, above 0 and at most 3600",
    ),
    "a flag written wrong": (("--taget", "onnx"), "--taget; did you mean --target?"),
    "missing recipe": (("--target", "onnx", "--recipe", "no.yaml"), "no.yaml"),
    "unknown key": (
        ("--target", "onnx", "--recipe", "unknown.yaml"),
        "unknown.yaml:4: unknown key 'wobble'",
    ),
    "recipe of other layers": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--recipe", "other.yaml"),
        "recipe tiny replaces layers [1], checkpoint tiny has LPA in [0, 2]",
    ),
    "a language of one": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--language", "deu"),
        "has one language only; leave --language out",
    ),
    "existing folder": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--out", "folder"),
        "folder: already exists; pass --overwrite or give another folder",
    ),
    "file in the way": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--out", "file"),
        "file: a file is in the way",
    ),
    "file above": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--out", "file/below"),
        "file/below: cannot be written",
    ),
    "name too long": (
        ("--target", "onnx", "--checkpoint", "CHECKPOINT", "--out", "x" * 300),
        "File name too long",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_a_bad_argument_is_one_line_and_nothing_is_written(
    here: Path, tiny_checkpoint: Make, capsys: Capture, kind: str
) -> None:
    arguments, message = BAD_ARGUMENTS[kind]
    folder = str(tiny_checkpoint())
    (here / "unknown.yaml").write_text(RECIPE.format(layers="[0, 2]") + "wobble: 3\n")
    (here / "other.yaml").write_text(RECIPE.format(layers="[1]"))
    (here / "file").write_text("not a folder")
    (here / "folder").mkdir()
    before = tree(here)
    given = [folder if argument == "CHECKPOINT" else argument for argument in arguments]
    assert message in refusal(capsys, *given)
    assert tree(here) == before


def test_a_model_within_the_recipes_softness_is_exported(
    here: Path, tiny_checkpoint: Make, quick: None
) -> None:
    folder = tiny_checkpoint()
    _config(_too_soft)(folder)
    (here / "recipe.yaml").write_text(
        RECIPE.format(layers="[0, 2]")
        + "max_harden_wer_points: 0.5\ngates: {reason: a first trial}\n"
    )
    export(target="onnx", checkpoint=folder, recipe="recipe.yaml", out="bundle")
    assert damaged_files(open_bundle(here / "bundle")) == []


def test_a_model_whose_own_output_is_not_finite_is_refused(
    here: Path, tiny_checkpoint: Make, capsys: Capture
) -> None:
    folder = tiny_checkpoint()
    _weights(lambda t: t["lm_head.weight"].fill_(3e38))(folder)
    before = tree(here)
    message = refusal(capsys, "--target", "onnx", "--checkpoint", folder)
    assert "the model itself gives NaN or infinite values from logits on" in message
    assert tree(here) == before
