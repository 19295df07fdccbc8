"""What counts as passed, and how it is printed."""

import json
import math
from dataclasses import replace

import pytest
from lpa_validate.beside import Beside
from lpa_validate.renderers import RENDERERS, render, render_all
from lpa_validate.report import (
    Check,
    Comparison,
    Data,
    Figure,
    Reference,
    Report,
    judged,
    not_run,
    unjudged,
)

from lpa_export.formats.manifest import Normaliser
from lpa_export.formats.schemes import SCHEMES


def report(*checks: Check, asked: tuple[str, ...] = ()) -> Report:
    return Report(
        target="onnx",
        model="tiny",
        scheme=SCHEMES["fp32"].scheme,
        artifacts={"model.onnx": "ab" * 32},
        artifact_bytes=8_600_000,
        data=Data("demo", "cd" * 32, 4, 10, 7.125),
        reference=Reference("torch", "tiny", "ef" * 32),
        normaliser=Normaliser(name="lpa-text", version="2"),
        environment={"onnxruntime": "1.32.0"},
        checks=checks,
        asked=asked,
    )


RULE = Normaliser(name="lpa-text", version="2")
PASSED = judged("parity", [Figure("PSNR", 120.5, "dB", 90.0, ">=")])
FAILED = judged("parity", [Figure("PSNR", 12.25, "dB", 90.0, ">=")])
SKIPPED = not_run("wer-difference", "no torch reference")
FLAGGED = judged("parity", [Figure("PSNR", 45.0, "dB", 50.0, ">=", flag=True)])


@pytest.mark.parametrize(
    ("value", "comparison", "gate", "ok"),
    [
        (90.0, ">=", 90.0, True),
        (89.9, ">=", 90.0, False),
        (math.inf, ">=", 90.0, True),
        (math.nan, ">=", 90.0, False),
        (math.nan, "<=", 90.0, False),
        (0.1, "<=", 0.0, False),
        (-0.1, "<=", 0.0, True),
        (1, "==", 0, False),
        (None, "<=", 1.0, False),
    ],
)
def test_a_figure_meets_its_gate_or_not(
    value: float | None, comparison: Comparison, gate: float, ok: bool
) -> None:
    assert Figure("x", value, gate=gate, comparison=comparison).ok is ok


def test_a_gate_without_a_comparison_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="come together"):
        Figure("x", 1.0, gate=2.0)


def test_a_check_without_a_single_gate_is_not_passed() -> None:
    assert judged("parity", [Figure("x", 1.0)]).status == "not_run"


def test_a_flag_warns_and_does_not_fail() -> None:
    assert FLAGGED.status == "pass"
    assert FLAGGED.figures[0].ok is False


def test_a_failed_check_without_words_of_its_own_names_the_figure() -> None:
    assert FAILED.reason == "PSNR is 12.25, must be >= 90.0"


@pytest.mark.parametrize(
    ("checks", "asked", "code"),
    [
        ((PASSED,), (), 0),
        ((PASSED, SKIPPED), (), 0),
        ((PASSED, SKIPPED), ("parity", "wer"), 2),
        ((SKIPPED,), (), 2),
        ((), (), 2),
        ((FAILED, SKIPPED), ("parity", "wer"), 1),
    ],
)
def test_skipped_is_never_passed(
    checks: tuple[Check, ...], asked: tuple[str, ...], code: int
) -> None:
    assert report(*checks, asked=asked).exit_code == code


UNJUDGED = unjudged("wer-difference", "271 words are too few", [Figure("WER difference", 0.4)], {})


def test_what_could_not_be_judged_is_exit_code_one_unless_allowed() -> None:
    found = report(PASSED, UNJUDGED)
    assert (found.exit_code, found.verdict) == (1, "unjudged")
    allowed = replace(found, allow_unjudged=True)
    assert (allowed.exit_code, allowed.verdict) == (0, "pass")
    assert replace(report(FAILED, UNJUDGED), allow_unjudged=True).exit_code == 1
    assert replace(report(UNJUDGED), allow_unjudged=True).exit_code == 2
    lines = render(found, "text").splitlines()
    assert any("NOT JUDGED" in line for line in lines)
    assert lines[-1].startswith("NOT JUDGED: ") and "1 not judged" in lines[-1]
    warned = render(found, "github").splitlines()
    assert any("::warning" in line and "not judged: 271 words" in line for line in warned)


def test_json_is_strict_and_keeps_infinities_as_words() -> None:
    figures = [Figure("PSNR", math.inf, "dB", 90.0, ">="), Figure("other", math.nan)]
    text = render(report(judged("parity", figures)), "json")
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["schema_version"] == 2
    assert found["normaliser"] == {"name": "lpa-text", "version": "2", "parameters": {}}
    assert found["checks"][0]["figures"][0]["value"] == "inf"
    assert found["checks"][0]["figures"][0]["ok"] is True
    assert found["data"]["seconds"] == 7.125


def test_text_has_a_line_per_figure_with_gate_and_verdict() -> None:
    lines = render(report(FAILED, SKIPPED, FLAGGED), "text").splitlines()
    figure = next(line for line in lines if "12.25 dB" in line)
    assert ">= 90" in figure and "FAIL" in figure and "measured" in figure
    assert any("flag" in line for line in lines)
    assert any("NOT RUN" in line for line in lines)
    assert "  no torch reference" in lines
    counts = "1 passed, 1 failed, 1 not run, 1 figure flagged"
    assert lines[-1] == f"FAIL: a gate does not hold ({counts})"


def test_figures_line_up() -> None:
    figures = [
        Figure("a", 1.5, "dB", 1.0, ">="),
        Figure("a longer name", 123456.0, "dB", 1.0, ">="),
    ]
    lines = render(report(judged("parity", figures)), "text").splitlines()
    assert len({line.index(">=") for line in lines if ">=" in line}) == 1


def test_long_tables_are_cut_and_say_so() -> None:
    rows = [{"id": f"u{i}", "reference": "A", "artifact": "B"} for i in range(20)]
    text = render(report(judged("parity", PASSED.figures, details={"changed": rows})), "text")
    assert "u7" in text and "u8:" not in text
    assert "and 12 more in report.json" in text


def test_github_annotates_by_severity_and_escapes_what_would_end_the_command() -> None:
    failed = judged("wer", [Figure("WER", 50.0, "%", 30.0, "<=")], reason="50 %\nof words")
    lines = render(
        report(PASSED, failed, SKIPPED, FLAGGED), "github", Beside("careful")
    ).splitlines()
    assert lines[0].startswith("::notice title=tiny onnx fp32%3A parity::PSNR 120.5 dB")
    assert lines[1] == "::error title=tiny onnx fp32%3A wer::50 %25%0Aof words"
    assert lines[2].startswith("::warning title=tiny onnx fp32%3A wer-difference::not run:")
    assert "::warning title=tiny onnx fp32%3A parity::PSNR 45 dB, gate >= 50.0" in lines
    assert "::warning title=tiny onnx fp32::careful" in lines
    assert lines[-1].startswith("::error title=tiny onnx fp32::FAIL")


@pytest.mark.parametrize("form", RENDERERS)
def test_every_format_renders_a_report_without_data_or_reference(form: str) -> None:
    fp32 = SCHEMES["fp32"].scheme
    bare = Report("onnx", "tiny", fp32, {}, 0, None, None, RULE, {}, (PASSED,))
    assert render(bare, form).endswith("\n")


def test_reports_of_several_targets_end_in_one_table() -> None:
    good = judged("parity", [Figure("PSNR, all logits", 120.5, "dB", 90.0, ">=")])
    emulated = Figure("PSNR, all logits", 51.25, "dB", 40.0, ">=", label="emulated")
    pair = [
        (report(good), Beside()),
        (report(judged("parity", [emulated]), FAILED), Beside("careful")),
    ]
    head, first, second = render_all(pair, "text").splitlines()[-3:]
    assert head.split() == [
        *("target", "scheme", "size", "WER", "difference", "PSNR", "argmax", "how", "verdict")
    ]
    assert first.split() == [
        *("onnx", "fp32", "8.6", "MB", "-", "-", "120.5", "dB", "-", "measured", "pass")
    ]
    assert second.split()[-5:] == ["51.25", "dB", "-", "emulated", "fail"]
    listed = json.loads(render_all(pair, "json"))
    assert [entry["verdict"] for entry in listed] == ["pass", "fail"]
