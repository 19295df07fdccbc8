"""WER with a language model beside the greedy one, on which alone gates are judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpa_validate
import pytest
from lpa_validate.command import main
from lpa_validate.jobs import Jobs
from lpa_validate.report import Report
from lpa_validate.run import open_validation, run_checks

from lpa_export.decoding.ngram import estimate
from lpa_export.decoding.settings import Settings
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import Bundle
from lpa_export.formats.speech import load_utterances

Make = Callable[..., Bundle]

pytest.importorskip("flashlight.lib.text", reason="the extra lm is not installed")


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    """A model that knows no word of the speech but ONE."""
    path = tmp_path / "words.arpa"
    estimate([("ONE", "ONE"), ("ONE",)]).write(path)
    return path


def plain(report: Report) -> list[dict[str, Any]]:
    """The checks without how long they took."""
    checks: list[dict[str, Any]] = report.to_json()["checks"]
    return [{key: value for key, value in check.items() if key != "seconds"} for check in checks]


def test_both_wers_stand_in_the_report_and_gates_are_judged_by_the_greedy_one(
    make_bundle: Make, speech: Path, reference: Any, lm: Path
) -> None:
    """At a weight at which it says what it knows, whatever it hears."""
    bundle, utterances = make_bundle(), load_utterances(speech)
    names = ["parity", "wer"]
    greedy, beside = (
        run_checks(open_validation(bundle, utterances, reference, "", settings=settings), names)
        for settings in (None, Settings(lm, lm_weight=30.0))
    )
    for who in ("artifact", "reference"):
        assert beside.check("wer").figure(f"WER, {who}").value == 0
        figure = beside.check("wer").figure(f"WER, {who}, with LM")
        assert isinstance(figure.value, float) and figure.value > 30
        assert figure.gate is None
    assert beside.verdict == "pass"
    used = beside.check("wer").details["language_model"]
    assert (used["path"], used["lm_weight"], used["beam"]) == ("words.arpa", 30.0, 32)
    without = [
        {
            **check,
            "details": {k: v for k, v in check["details"].items() if k != "language_model"},
            "figures": [row for row in check["figures"] if "with LM" not in row["name"]],
        }
        for check in plain(beside)
    ]
    assert without == plain(greedy)


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_every_form_of_the_report_has_it(
    make_bundle: Make, speech: Path, lm: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    bundle = make_bundle()
    flags = ["--target", "onnx", "--bundle", str(bundle.path), "--data", str(speech)]
    lms = ["--lm", str(lm), "--lm-weight", "0.25", "--word-score", "1", "--beam", "8"]
    main([*flags, *lms, "--checks", "wer", "--format", form])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "WER, artifact, with LM" in captured.out
    if form == "json":
        details = json.loads(captured.out)["checks"][0]["details"]["language_model"]
        assert details.pop("sha256")
        wanted = {"path": "words.arpa", "lm_weight": 0.25, "word_score": 1.0, "beam": 8}
        assert details == wanted
    else:
        assert "LM: words.arpa, sha256 " in captured.out
        assert ", weight 0.25, word score 1, beam 8" in captured.out


def test_two_processes_give_the_report_of_one(make_bundle: Make, speech: Path, lm: Path) -> None:
    bundle = make_bundle()
    alone, spread = (
        lpa_validate.validate(
            target="onnx", bundle=bundle.path, data=speech, checks=["wer"], lm=lm, jobs=jobs
        )
        for jobs in (Jobs(), Jobs(2))
    )
    assert alone.check("wer").figure("WER, artifact, with LM").value is not None
    assert plain(spread) == plain(alone)


def test_what_cannot_be_done_is_refused_in_one_line(
    make_bundle: Make, speech: Path, lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle()
    flags = ["--target", "onnx", "--bundle", str(bundle.path), "--data", str(speech)]
    damaged = lm.with_name("damaged.arpa")
    damaged.write_bytes(lm.read_bytes()[:-40])
    for given, message in (
        (["--lm", str(damaged)], "damaged, KenLM does not read it"),
        (["--lm", str(lm), "--checks", "parity"], "--lm goes with the check wer"),
        (["--beam", "8"], "--beam goes with --lm"),
    ):
        assert main([*flags, *given]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1
        assert captured.out == ""
    assert not (bundle.path / "report.json").exists()


def test_a_separator_takes_none(tmp_path: Path, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpa_validate.run.task_of_bundle", lambda folder: "separation")
    with pytest.raises(LpaError, match="--lm goes with recognisers"):
        lpa_validate.validate(target="onnx", bundle=tmp_path, lm=lm)
