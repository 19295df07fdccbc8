"""Silent clips are data like any other, and nothing may be heard in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lpa_validate.report import Report
from lpa_validate.run import open_validation, run_checks

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.speech import load_utterances

Make = Callable[..., Bundle]
SILENT = [np.zeros(16_000), np.full(24_000, 0.25)]


@pytest.fixture
def validated(tmp_path: Path, speech: Path) -> Callable[..., Report]:
    """`validated(bundle, reference)`: WER and silence on whistled speech and two silent clips."""
    lines = []
    for row in map(json.loads, speech.read_text().splitlines()):
        audio = str(speech.parent / row["audio_filepath"])
        lines.append(json.dumps({"audio_filepath": audio, "text": row["text"]}))
    for number, samples in enumerate(SILENT):
        soundfile.write(tmp_path / f"silent{number}.wav", samples, 16_000)
        lines.append(json.dumps({"audio_filepath": f"silent{number}.wav", "text": ""}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")

    def run(bundle: Bundle, reference: Any) -> Report:
        names = ["parity", "wer", "silence"]
        utterances = load_utterances(tmp_path / "data.jsonl")
        return run_checks(open_validation(bundle, utterances, reference, ""), names)

    return run


def test_silent_clips_are_validated_and_give_no_words(
    make_bundle: Make, validated: Callable[..., Report], reference: Any
) -> None:
    report = validated(make_bundle(), reference)
    assert {check.name: check.status for check in report.checks} == dict.fromkeys(
        ("parity", "wer", "wer-difference", "silence"), "pass"
    )
    check = report.check("silence")
    assert check.figure("words in 1 s of silence").value == 0
    assert check.figure("words in silent clips of the data").value == 0
    assert check.details["silent clips"] == ["silent0", "silent1"]


def test_words_out_of_nothing_fail(
    make_bundle: Make, validated: Callable[..., Report], reference: Any
) -> None:
    """A filter bank in which "A" is on without a sound: its features do not vanish at zero."""
    bank = make_bundle_of_a_loud_letter()
    check = validated(make_bundle(**bank), reference).check("silence")
    assert check.status == "fail"
    assert check.figure("words in 1 s of silence").value == 1


def test_words_that_the_original_hears_too_are_a_remark(
    make_bundle: Make, validated: Callable[..., Report], reference: Any
) -> None:
    bank = make_bundle_of_a_loud_letter()

    class Hallucinating(type(reference)):  # type: ignore[misc]
        def text(self, logits: Any) -> str:
            return "A"

    check = validated(make_bundle(**bank), Hallucinating()).check("silence")
    assert check.status == "pass"
    assert check.figure("words in 1 s of silence").ok is False


def make_bundle_of_a_loud_letter() -> dict[str, Any]:
    """What makes the whistled bundle hear the fourth token in silence."""
    from onnx import helper, numpy_helper

    from tests.validation.conftest import WIDTH

    loud = np.zeros(WIDTH, np.float32)
    loud[3] = 10.0
    value = numpy_helper.from_array(loud, "loud")
    return {
        "louder": True,
        "extra": [
            helper.make_node("Constant", [], ["loud"], value=value),
            helper.make_node("Add", ["quiet", "loud"], ["logits"]),
        ],
    }
