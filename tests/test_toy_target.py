"""A target that neither package knows, through export, self-check, transcription and validation.

It is found as an installed package is: by its entry points. Each command is a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from lpa_validate.checks import CheckSpec, register_check

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets import Job, register_target, target_named

from .conftest import REPOSITORY
from .manifests import stated
from .toy_target import CHECK, TARGET
from .toy_target.runner import NpzRunner
from .toy_target.settings import NpzSettings

Make = Callable[..., Path]
COMMANDS = {
    "export": "lpa_export.commands.export",
    "transcribe": "lpa_export.commands.transcribe",
    "validate": "lpa_validate.command",
}


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``command("export", ...)`` where a package with the toy target is installed."""
    installed = tmp_path / "site" / "npz_target-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: npz-target\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[lpa_export.targets]\nnpz = tests.toy_target:TARGET\n"
        "[lpa_validate.checks]\nnpz-ops = tests.toy_target:CHECK\n"
    )
    places = (installed.parent, REPOSITORY, REPOSITORY / "validation")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}

    def run(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; from {COMMANDS[name]} import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *flags],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return run


def test_a_target_from_outside_goes_the_whole_road(
    command: Any, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = str(tiny_checkpoint())
    flags = ["--checkpoint", checkpoint, "--packing", "deflate"]
    exported = command("export", "--target", "npz", *flags)
    assert exported.returncode == 0, exported.stderr
    bundle = tmp_path / "build" / "tiny" / "npz"
    manifest = json.loads((bundle / "manifest.json").read_text())
    check = manifest["selfcheck"]
    assert check["status"] == "passed" and check["label"] == "measured"
    # Numpy in float64 and torch in float32, from the same weights.
    assert min(map(float, check["taps"].values())) > 90
    assert list(check["taps"]) == sorted(tap["name"] for tap in manifest["taps"])

    names = "integrity,ops,parity,wer,padding,determinism"
    flags = ["--checkpoint", checkpoint, "--checks", names, "--limit", "4"]
    validated = command("validate", "--target", "npz", *flags)
    # Random weights are no recogniser: the ceiling of the reference's WER is what fails.
    assert validated.returncode == 1, validated.stdout + validated.stderr
    report = json.loads((bundle / "report.json").read_text())
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert statuses.pop("wer") == "fail"
    assert set(statuses.values()) == {"pass"}, validated.stdout

    sound = next(bundle.glob("golden/*.flac"))
    heard = command("transcribe", "--target", "npz", str(sound))
    (clip,) = (
        clip
        for clip in json.loads((bundle / "golden/index.json").read_text())
        if clip["audio"].endswith(sound.name)
    )
    assert heard.stdout.strip() == clip["transcript"].strip(), heard.stderr


def test_a_wrong_weight_leaves_no_bundle(
    command: Any, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    """Between writing and the check one matrix is changed, by a target derived from the toy."""
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "spoilt.py").write_text(
        "import numpy as np\n"
        "from tests.toy_target.exporter import ARTIFACT, NpzTarget\n"
        "class Spoilt(NpzTarget):\n"
        "    def write(self, job, folder):\n"
        "        written = super().write(job, folder)\n"
        "        arrays = dict(np.load(folder / ARTIFACT))\n"
        "        arrays['layers.1.expand.weight'] *= 1.05\n"
        "        np.savez(folder / ARTIFACT, **arrays)\n"
        "        return written\n"
        "from dataclasses import replace\n"
        "from tests.toy_target import TARGET\n"
        "SPOILT = replace(TARGET, exporter='spoilt:Spoilt')\n"
    )
    points = next((tmp_path / "site").glob("*.dist-info")) / "entry_points.txt"
    points.write_text("[lpa_export.targets]\nnpz = spoilt:SPOILT\n")
    spoilt = command("export", "--target", "npz", "--checkpoint", str(tiny_checkpoint()))
    assert spoilt.returncode == 2
    assert "encoder.layers.1 has a PSNR" in spoilt.stderr and spoilt.stderr.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_two_targets_of_one_name_are_refused() -> None:
    with pytest.raises(LpaError, match="target 'onnx' is there already"):
        register_target(replace(TARGET, name="onnx"))
    register_target(target_named("onnx"))  # the very same row is no other


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(LpaError, match="check 'parity' is there already"):
        register_check(CheckSpec("parity", CHECK.function, ("npz",)))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_numpy_runner_agrees_with_torch_on_another_waveform(
    tiny_checkpoint: Make, tmp_path: Path, norm: str
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(norm))
    job = Job(checkpoint, TARGET.schemes[0], NpzSettings(), (), lambda step: None)
    written = TARGET.load().write(job, tmp_path)
    runtime = msgspec.to_builtins(written.runtime)
    fields = {name: getattr(written, name) for name in ("artifacts", "taps", "normalisation")}
    write_manifest(tmp_path, stated(target="npz", runtime=runtime, **fields))
    waveform = np.random.default_rng(5).normal(0, 0.1, 20_011).astype(np.float32)
    found = NpzRunner(open_bundle(tmp_path)).taps(waveform)
    for name, expected in TorchReference(checkpoint).taps(waveform).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-4 * np.abs(expected).max())
