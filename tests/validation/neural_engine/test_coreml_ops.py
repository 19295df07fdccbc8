"""The checks on a bundle in miniature: a flexible front end, an encoder of two buckets."""

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
from lpa_validate.checks import coreml_plan
from lpa_validate.checks.coreml_ops import check_ops
from lpa_validate.checks.coreml_plan import check_compute_plan
from lpa_validate.evaluation import Placement, Validation
from lpa_validate.report import Check
from lpa_validate.rules.compute_plan import Plan, PlannedOp, Trial, adapter
from lpa_validate.rules.neural_engine.as_text import lines

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import Bundle, open_bundle, write_manifest
from lpa_export.formats.gates import Gates
from lpa_export.formats.manifest import Bucket
from lpa_export.runtimes import ArtifactError
from tests.manifests import stated

WIDTH = 32
MAX_SAMPLES = 1279
Validated = Callable[..., Validation]


class FrontEnd(torch.nn.Module):
    """(1, samples) to (1, WIDTH, 1, frames): a convolution of 10 samples every 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(1, WIDTH, 10, 5)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(waveform[:, None])[:, :, None]
        return features


def save_front_end(path: Path) -> None:
    traced = torch.jit.trace(FrontEnd().eval(), torch.zeros(1, 100))
    shape = ct.Shape((1, ct.RangeDim(10, MAX_SAMPLES, 100)))
    ct.convert(
        traced,
        inputs=[ct.TensorType("waveform", shape, np.float32)],
        outputs=[ct.TensorType("projected", dtype=np.float16)],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    ).save(str(path))


def encoder(x: Any, extra: str) -> Any:
    x = mb.conv(x=x, weight=np.full((WIDTH, WIDTH, 1, 1), 0.1, np.float16), name="dense")
    if extra == "mod":
        x = mb.mod(x=x, y=np.float16(2), name="remainder")
    x = mb.softmax(x=x, axis=1, name="scores")
    return mb.conv(x=x, weight=np.full((8, WIDTH, 1, 1), 0.1, np.float16), name="logits")


def save_encoder(path: Path, folder: Path, frames: tuple[int, ...], extra: str) -> None:
    functions = MultiFunctionDescriptor()
    for count in frames:
        spec = mb.TensorSpec((1, WIDTH, 1, count), types.fp16)
        program = mb.program(input_specs=[spec], opset_version=ct.target.iOS18)(
            lambda projected: encoder(projected, extra)
        )
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        )
        single = folder / f"{extra}{count}.mlpackage"
        model.save(str(single))
        functions.add_function(str(single), "main", f"frames_{count}")
    functions.default_function_name = f"frames_{frames[0]}"
    save_multifunction(functions, str(path))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A front end and two encoders, made once."""
    folder = tmp_path_factory.mktemp("packages")
    save_front_end(folder / "frontend.mlpackage")
    for extra in ("none", "mod"):
        save_encoder(folder / f"encoder-{extra}.mlpackage", folder, (64, 256), extra)
    return folder


SCOPES = {
    "encoder.mlpackage/frames_64": {"dense": "layers.0", "remainder": "layers.1"},
    "encoder.mlpackage/frames_256": {"dense": "layers.0", "remainder": "layers.1"},
}


@pytest.fixture
def validated(packages: Path, tmp_path: Path) -> Validated:
    """A validation of a bundle of these packages, its runner left out."""

    def made(
        extra: str = "none",
        scheme: str = "fp16",
        scopes: str | None = json.dumps(SCOPES),
        placement: Placement | None = None,
    ) -> Validation:
        bundle = bundle_of(packages, tmp_path / f"bundle-{extra}", extra, scheme, scopes)
        return Validation(
            bundle=bundle,
            gates=Gates(50.0, None, 0.99, 0.1, 60.0),
            tokens=None,
            runner=None,
            runner_problem="left out",
            open_runner=lambda threads: pytest.fail("no runner is needed"),
            reference=None,
            reference_problem="left out",
            utterances=(),
            placement=placement,
        )

    return made


def bundle_of(packages: Path, folder: Path, extra: str, scheme: str, scopes: str | None) -> Bundle:
    folder.mkdir()
    shutil.copytree(packages / "frontend.mlpackage", folder / "frontend.mlpackage")
    shutil.copytree(packages / f"encoder-{extra}.mlpackage", folder / "encoder.mlpackage")
    if scopes is not None:
        (folder / "scopes.json").write_text(scopes)
    manifest = stated(
        scheme,
        artifacts=("frontend.mlpackage", "encoder.mlpackage"),
        target="coreml",
        buckets=tuple(
            Bucket(frames=frames, samples=MAX_SAMPLES - 256 + frames, seconds=0.07)
            for frames in (64, 256)
        ),
        runtime={
            "deployment_target": "iOS18",
            "layout": "split",
            "frontend": {"package": "frontend.mlpackage", "function": "main"},
            "encoders": [
                {"package": "encoder.mlpackage", "function": f"frames_{frames}"}
                for frames in (64, 256)
            ],
        },
    )
    write_manifest(folder, manifest)
    return open_bundle(folder)


def only(checks: list[Check]) -> Check:
    (check,) = checks
    return check


def test_an_encoder_without_fatal_findings_passes_with_counts_by_hand(
    validated: Validated,
) -> None:
    check = only(check_ops(validated()))
    assert check.status == "pass", check.reason
    value = {figure.name: figure.value for figure in check.figures}
    assert value["ops the evaluator lacks"] == 0
    assert value["encoders: ops"] == 3
    # Two 1x1 convolutions, to WIDTH and to 8 channels, on 256 frames.
    assert value["encoders: GMAC, largest"] == (WIDTH * WIDTH + 8 * WIDTH) * 256 / 1e9
    assert value["encoders: MACs free of fatal"] == 100.0
    assert (value["encoders: runs"], value["encoders: longest run"]) == (1, 3)
    # The largest waveform, 1279 samples, gives 254 frames of 10 taps each.
    assert value["front end: GMAC, largest"] == WIDTH * 254 * 10 / 1e9
    # Any length from 10 samples on is a risk that reports conflict about, not a fatal rule.
    assert value["front end: MACs free of fatal"] == 100.0
    for figure in check.figures:
        counted = figure.name.endswith((": ops", "largest", "lacks"))
        assert figure.label == ("measured" if counted else "predicted"), figure.name


def test_a_fatal_operation_fails_the_gate_and_is_named_with_its_module(
    validated: Validated,
) -> None:
    check = only(check_ops(validated("mod")))
    value = {figure.name: figure.value for figure in check.figures}
    # The remainder has no work of its own, so the gate on MACs holds; ops and runs tell.
    assert value["encoders: ops free of fatal"] == 75.0
    assert value["encoders: runs"] == 2
    (frames_256,) = (e for e in check.details["neural_engine"] if e["function"] == "frames_256")
    assert frames_256["breaks"] == [
        {"after": 0, "op": "mod", "name": "remainder", "module": "layers.1", "rules": ["op.none"]}
    ]


def test_the_gate_holds_for_encoders_that_are_meant_for_the_neural_engine(
    validated: Validated, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpa_validate.rules.neural_engine.conditions import shapes

    monkeypatch.setattr(shapes, "_MAX_EXTENT", 128)
    failed = only(check_ops(validated()))
    assert failed.status == "fail"
    assert failed.figure("encoders: MACs free of fatal").value == 0.0
    assert failed.reason == (
        "encoder.mlpackage/frames_256: shape.extent holds for 3 ops (W 256 > 128)"
    )


def test_an_fp32_bundle_is_counted_but_not_judged_by_the_neural_engine(
    validated: Validated,
) -> None:
    check = only(check_ops(validated(scheme="fp32")))
    assert check.figure("encoders: MACs free of fatal").gate is None


def test_the_tables_are_printed_with_fix_and_source(validated: Validated) -> None:
    printed = lines(only(check_ops(validated("mod"))).details)
    text = "\n".join(printed)
    assert "op.none" in text and "precompute it" in text and "G app. A" in text
    assert "after run 1: mod remainder in layers.1 (op.none)" in text
    assert "not compared: no placement file was named" in text
    # The second bucket meets what the first does: it is not printed again.
    assert text.count("op.none") == 2 and "as in frames_64" in text


def test_an_operation_that_newly_leaves_fails_against_the_placement_file(
    validated: Validated, tmp_path: Path
) -> None:
    golden = tmp_path / "tiny.placement.json"
    written = only(check_ops(validated(placement=Placement(golden, write=True))))
    assert written.status == "pass"
    failed = only(check_ops(validated("mod", placement=Placement(golden))))
    assert failed.status == "fail"
    assert failed.figure("ops newly off the engine").value == 2
    assert "newly off the Neural Engine: 1 mod in layers.1 of" in failed.reason
    text = "\n".join(lines(failed.details))
    assert "1 x mod in layers.1 of encoder.mlpackage/frames_64 (op.none)" in text


def test_the_same_bundle_agrees_with_its_placement_file(
    validated: Validated, tmp_path: Path
) -> None:
    golden = tmp_path / "tiny.placement.json"
    validation = validated(placement=Placement(golden, write=True))
    check_ops(validation)
    check = only(check_ops(replace(validation, placement=Placement(golden))))
    assert check.status == "pass"
    assert check.figure("functions on one side alone").value == 0
    with pytest.raises(LpaError, match="cannot be read"):
        check_ops(replace(validation, placement=Placement(tmp_path / "none.json")))


def test_an_operation_that_the_evaluator_lacks_fails(
    validated: Validated, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpa_validate.checks import coreml_ops

    handlers = {name: f for name, f in coreml_ops.HANDLERS.items() if name != "softmax"}
    monkeypatch.setattr(coreml_ops, "HANDLERS", handlers)
    check = only(check_ops(validated()))
    assert check.status == "fail"
    assert check.reason == "the evaluator cannot compute softmax (2 ops)"


def test_scopes_may_be_missing_but_not_damaged(validated: Validated) -> None:
    assert only(check_ops(validated(scopes=None))).status == "pass"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"b": 1}}'])
def test_damaged_scopes_are_the_bundles_fault(text: str, validated: Validated) -> None:
    with pytest.raises(ArtifactError, match=r"scopes\.json"):
        check_ops(validated(scopes=text))


@pytest.mark.skipif(platform.system() == "Darwin", reason="it runs on macOS")
def test_off_macos_the_compute_plan_is_not_run_with_the_reason(validated: Validated) -> None:
    check = only(check_compute_plan(validated()))
    assert (check.name, check.status) == ("compute-plan", "not_run")
    assert "macOS" in check.reason


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Core ML played: plans that leave cumulative work on the CPU, predictions that work."""
    played: dict[str, Any] = {"outcome": "ok", "message": ""}

    @contextmanager
    def compiled(package: Path) -> Iterator[Path]:
        yield package

    def plans(model: Path, functions: list[str], units: str = "CPU_AND_NE") -> dict[str, Plan]:
        ops = (
            PlannedOp("conv", "dense", "neural engine", (), 0.75),
            PlannedOp("softmax", "scores", "cpu", (), 0.25),
        )
        return {name: Plan(name, units, ops) for name in functions}

    def tried(model: Path, function: str, units: str, inputs: Any) -> Trial:
        outputs = {"logits": np.full((1, 8), 1.0 if units == "CPU_ONLY" else 1.01)}
        sound = played["outcome"] == "ok"
        return Trial(
            function, units, played["outcome"], played["message"], 0.1, outputs if sound else {}
        )

    monkeypatch.setattr(adapter, "unavailable", lambda: "")
    monkeypatch.setattr(adapter, "compiled", compiled)
    monkeypatch.setattr(adapter, "plans", plans)
    monkeypatch.setattr(coreml_plan, "try_prediction", tried)
    return played


def test_plan_and_predictions_stand_beside_the_rules(
    validated: Validated, core_ml: dict[str, Any]
) -> None:
    check = only(check_compute_plan(validated()))
    assert check.status == "pass", check.reason
    assert check.figure("frames_64: ops on the engine").value == 50.0
    assert check.figure("frames_64: cost on the engine").value == 75.0
    # 1.0 against 1.01: 20 log10(1 / 0.01).
    assert check.figure("frames_256: PSNR to CPU").value == pytest.approx(40.0)
    grading = check.details["compute_plan"][1]["grading"]
    assert (grading["stays_on_engine"], grading["stays_elsewhere"]) == (1, 1)
    assert any("planned by Core ML" in line for line in lines(check.details))


def test_a_killed_prediction_fails_the_check(validated: Validated, core_ml: dict[str, Any]) -> None:
    core_ml |= {"outcome": "killed", "message": "ended by SIGSEGV"}
    check = only(check_compute_plan(validated()))
    assert check.status == "fail"
    assert "frames_64 on CPU_AND_NE: killed: ended by SIGSEGV" in check.reason
    assert check.figure("predictions that broke").value == check.figure("predictions").value == 6


def test_a_model_that_core_ml_gives_no_plan_for_is_not_run(
    validated: Validated, core_ml: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise adapter.PlanUnavailable("encoder.mlmodelc: no")

    monkeypatch.setattr(adapter, "plans", refused)
    check = only(check_compute_plan(validated()))
    assert (check.status, check.reason) == ("not_run", "encoder.mlmodelc: no")
