"""Each way to damage a bundle fails the check that is meant to find it, and a sound one passes.

The hashes are right everywhere but where a file is damaged on disk: integrity alone would be
too easy a witness.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate.checks import checks_of
from lpa_validate.report import Report
from onnx import TensorProto, helper

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.manifest import Tap

Make = Callable[..., Bundle]
Run = Callable[..., Report]

CHECKS = tuple(checks_of("onnx"))


def statuses(report: Report) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def test_a_sound_bundle_passes_every_check(make_bundle: Make, run: Run, reference: Any) -> None:
    report = run(make_bundle(), *CHECKS, reference=reference)
    assert {check.name: check.reason for check in report.checks if check.status != "pass"} == {}
    assert report.exit_code == 0


def test_without_a_reference_model_the_golden_tensors_serve(make_bundle: Make, run: Run) -> None:
    report = run(make_bundle(), *CHECKS, asked=False)
    assert report.check("parity").details["reference"] == "golden"
    assert report.check("parity").status == "pass"
    assert report.check("wer").status == "pass"
    assert report.check("wer-difference").status == "not_run"
    assert report.exit_code == 0


def test_a_named_check_that_cannot_run_is_exit_code_two(make_bundle: Make, run: Run) -> None:
    assert run(make_bundle(), "wer").exit_code == 2


@pytest.mark.parametrize("with_model", [True, False], ids=["torch", "golden"])
def test_a_wrong_weight_fails_parity_and_names_the_stage(
    make_bundle: Make, run: Run, reference: Any, with_model: bool
) -> None:
    bank = np.array(reference_filters())
    bank[2 * 7 + 1] *= 1.01  # the letter E
    bundle = make_bundle(bank=bank)
    report = run(bundle, "integrity", "parity", reference=reference if with_model else None)
    assert statuses(report) == {"integrity": "pass", "parity": "fail"}
    assert "first diverging tap: features (frontend)" in report.check("parity").reason


def test_a_window_off_by_one_fails_parity_at_its_layer(
    make_bundle: Make, run: Run, reference: Any
) -> None:
    report = run(make_bundle(window_pads=(3, 1)), "integrity", "parity", reference=reference)
    assert statuses(report) == {"integrity": "pass", "parity": "fail"}
    assert "first diverging tap: encoder.layers.0 (lpa)" in report.check("parity").reason
    taps = {tap["name"]: tap for tap in report.check("parity").details["taps"]}
    assert taps["projection"]["psnr_db"] > 90 > taps["encoder.layers.0"]["psnr_db"]


def test_fp16_overflow_fails_parity_and_says_so(
    make_bundle: Make, run: Run, reference: Any
) -> None:
    report = run(make_bundle(half_precision=True), "integrity", "parity", reference=reference)
    parity = report.check("parity")
    assert statuses(report) == {"integrity": "pass", "parity": "fail"}
    assert parity.figure("logits NaN or infinite").failed
    assert "first diverging tap: projection (frontend)" in parity.reason
    assert "NaN or infinite on" in parity.reason


SWAPPED = ("<pad>", "|", "'", "B", "A", *"CDEFGHIJKLMNOPQRSTUVWXYZ")
SWAPPED_O = ("<pad>", "|", "'", *"ABCDEFGHIJKLMNEPQRSTUVWXYZ".replace("E", "O", 1))


def test_a_vocabulary_swapped_everywhere_fails_parity_and_wer(
    make_bundle: Make, run: Run, reference: Any
) -> None:
    bundle = make_bundle(tokens=SWAPPED_O)
    report = run(bundle, "integrity", "parity", "wer", reference=reference)
    assert statuses(report) == {
        "integrity": "pass",
        "parity": "fail",
        "wer": "pass",
        "wer-difference": "fail",
    }
    assert report.check("parity").figure("changed transcripts").failed
    changed = {row["id"]: row for row in report.check("wer-difference").details["changed"]}
    assert changed["one"]["reference"] == "ONE TWO"
    assert changed["one"]["artifact"] == "ENO TWE"


def test_a_vocabulary_swapped_in_the_model_alone_fails_integrity(
    make_bundle: Make, run: Run
) -> None:
    report = run(make_bundle(metadata_tokens=SWAPPED), "integrity")
    assert report.check("integrity").status == "fail"
    assert "token 3 is 'B' in the artifact, 'A' in tokens.json" in report.check("integrity").reason


@pytest.mark.parametrize("kept", [0, 1, 10, 5_000, -1])
def test_a_truncated_model_fails_integrity_and_leaves_the_rest_not_run(
    make_bundle: Make, run: Run, kept: int
) -> None:
    bundle = make_bundle()
    path = bundle.path / "model.onnx"
    path.write_bytes(path.read_bytes()[:kept])
    report = run(bundle, *CHECKS, asked=False)
    assert report.check("integrity").status == "fail"
    assert "truncated" in report.check("integrity").reason
    others = {name: status for name, status in statuses(report).items() if name != "integrity"}
    assert set(others.values()) == {"not_run"}
    assert all(check.reason for check in report.checks)
    assert report.exit_code == 1


@pytest.mark.parametrize("name", ["tokens.json", "golden/one.logits.npy", "model.onnx"])
def test_a_file_altered_on_disk_fails_integrity(make_bundle: Make, run: Run, name: str) -> None:
    bundle = make_bundle()
    path = bundle.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert run(bundle, "integrity").exit_code == 1


def test_missing_tokens_fail_integrity(make_bundle: Make, run: Run) -> None:
    bundle = make_bundle()
    (bundle.path / "tokens.json").unlink()
    report = run(bundle, "integrity", "wer", asked=False)
    assert statuses(report)["integrity"] == "fail"
    assert statuses(report)["wer"] == "not_run"


def test_a_report_beside_the_model_does_not_damage_it(make_bundle: Make, run: Run) -> None:
    bundle = make_bundle()
    (bundle.path / "report.json").write_text("{}")
    assert run(bundle, "integrity").exit_code == 0


def test_padding_that_leaks_fails_the_padding_check_alone(
    make_bundle: Make, run: Run, reference: Any
) -> None:
    report = run(make_bundle(masked=False), "parity", "padding", reference=reference)
    assert statuses(report) == {"parity": "pass", "padding": "fail"}
    padding = report.check("padding")
    assert padding.figure("PSNR, 0.5 s of noise").failed
    assert not padding.figure("PSNR, 3 s of silence").failed


def test_a_random_op_fails_determinism(make_bundle: Make, run: Run) -> None:
    report = run(make_bundle(noisy=True), "determinism")
    assert report.check("determinism").status == "fail"
    assert report.check("determinism").figure("values that differ, second run").failed


def test_an_op_without_a_kernel_fails_ops_by_name(make_bundle: Make, run: Run) -> None:
    extra = [
        helper.make_node("Cast", ["logits"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Flatten", ["bytes"], ["row"]),
        helper.make_node("Squeeze", ["row"], ["encoded"]),
        helper.make_node("ImageDecoder", ["encoded"], ["picture"]),
    ]
    report = run(make_bundle(extra=extra, opset=20), "ops", "wer", asked=False)
    assert report.check("ops").status == "fail"
    assert (
        "no CPU kernel for ai.onnx:ImageDecoder at opset 20 (1 nodes)" in report.check("ops").reason
    )


def test_an_op_without_a_kernel_for_its_type_fails_ops_in_the_words_of_the_runtime(
    make_bundle: Make, run: Run
) -> None:
    extra = [
        helper.make_node("Cast", ["logits"], ["brain"], to=TensorProto.BFLOAT16),
        helper.make_node("Relu", ["brain"], ["positive"], name="late_relu"),
    ]
    report = run(make_bundle(extra=extra, extra_output="positive"), "ops", "wer", asked=False)
    assert statuses(report) == {"ops": "fail", "wer": "not_run"}
    assert "Relu(14) node with name 'late_relu'" in report.check("ops").reason


def test_a_missing_stage_tensor_fails_integrity(make_bundle: Make, run: Run) -> None:
    tap = Tap(name="encoder.embed", kind="frontend", tensor="stage.nowhere")
    report = run(make_bundle(manifest={"taps": (tap,)}), "integrity")
    assert "no tensor 'stage.nowhere'" in report.check("integrity").reason


def test_a_broken_reference_fails_the_run(make_bundle: Make, run: Run, reference: Any) -> None:
    class Deaf(type(reference)):  # type: ignore[misc]
        def logits(self, waveform: Any) -> Any:
            values = super().logits(waveform)
            values[:, 0] += 100
            return values

    report = run(make_bundle(), "wer", reference=Deaf())
    assert report.check("wer").status == "fail"
    assert report.check("wer").figure("WER, reference").value == 100.0


def test_a_precision_without_psnr_gate_flags_and_does_not_fail(
    make_bundle: Make, run: Run, reference: Any
) -> None:
    gates = {
        "psnr_db": None,
        "psnr_flag_db": 50.0,
        "argmax_agreement": None,
        "padding_psnr_db": None,
        "wer_difference_points": 0.3,
    }
    bundle = make_bundle(window_pads=(3, 1), masked=False, gates=gates)
    report = run(bundle, "parity", "padding", reference=reference)
    assert statuses(report) == {"parity": "pass", "padding": "pass"}
    flagged = report.check("parity").figure("PSNR, all logits, worth a look")
    assert flagged.ok is False and flagged.flag


def test_golden_tensors_that_are_no_arrays_fail_parity(make_bundle: Make, run: Run) -> None:
    bundle = make_bundle()
    (bundle.path / "golden" / "one.logits.npy").write_bytes(b"no array")
    report = run(bundle, "parity")
    assert report.check("parity").status == "fail"
    assert "one.logits.npy" in report.check("parity").reason


def test_a_pickle_among_the_golden_tensors_is_never_loaded(
    make_bundle: Make, run: Run, tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    bundle = make_bundle()
    np.save(bundle.path / "golden" / "one.logits.npy", np.array([Bomb()], dtype=object))
    assert run(bundle, "parity").check("parity").status == "fail"
    assert not (tmp_path / "exploded").exists()


def test_every_report_is_strict_json(make_bundle: Make, run: Run, reference: Any) -> None:
    report = run(make_bundle(half_precision=True), *CHECKS, reference=reference)
    json.dumps(report.to_json(), allow_nan=False)


def reference_filters() -> Any:
    time = np.arange(400) / 16_000
    rows = [np.zeros(400), np.zeros(400)]
    for token in range(1, 29):
        angle = 2 * np.pi * (400 + 100 * token) * time
        rows += [np.cos(angle) / 200, np.sin(angle) / 200]
    return np.array(rows, np.float32)
