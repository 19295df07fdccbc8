"""Word error rates of the artifact and of the original on the same speech.

Two verdicts: ``wer`` asks whether this is a speech recogniser at all (a broken reference would
make every comparison pass), ``wer-difference`` whether exporting cost words. A gate of 0.3 points
says nothing about 271 words, of which one is 0.37 points: what so few words cannot decide is not
judged.
"""

import math
from typing import Any

from lpa_export.measures.bootstrap import Interval, paired_difference
from lpa_export.measures.word_errors import WordErrors, count_errors
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, gated, judged, labelled, not_run, unjudged

__all__ = ["check_wer", "decides", "words_to_judge"]

_POOR = (
    "the original itself has a WER of {:.6g} % on this speech, on which no comparison can rest: "
    "give --data that it was trained for; wer-difference says what the export cost"
)


def words_to_judge(gate: float) -> int:
    """The fewest words of which one is no more than ``gate`` points; 1 where none may differ."""
    return math.ceil(round(100 / gate, 6)) if gate > 0 else 1


def decides(difference: float, interval: Interval, words: int, gate: float) -> bool:
    """Whether so many words can tell if a difference, in points, keeps to the ``gate``.

    Fewer than :func:`words_to_judge` can where the gate holds even so, and where the whole
    confidence interval lies beyond it.
    """
    return words >= words_to_judge(gate) or difference <= gate or interval.low > gate


def check_wer(validation: Validation) -> list[Check]:
    """``wer`` (below the ceiling?) and ``wer-difference`` (as good as the reference?)."""
    evaluated, rule = validation.evaluated, validation.vocabulary.normalise
    texts = [item.utterance.text for item in evaluated]
    try:
        artifact = count_errors(texts, [item.transcript for item in evaluated], rule)
    except ValueError as error:
        return [not_run("wer", str(error)), not_run("wer-difference", str(error))]
    beside, details = _with_language_model(validation, texts)
    if validation.reference is None:
        ceiling = validation.gates.reference_wer_ceiling
        figures = labelled(validation.label, _figures("artifact", artifact, ceiling))
        return [
            judged("wer", [*figures, *beside], details=details),
            not_run("wer-difference", validation.reference_problem),
        ]
    expected = [item.reference_transcript or "" for item in evaluated]
    reference = count_errors(texts, expected, rule)
    figures = [
        *labelled(validation.label, _figures("artifact", artifact)),
        *_figures("reference", reference, validation.gates.reference_wer_ceiling),
        *beside,
    ]
    poor = any(figure.failed for figure in figures)
    return [
        judged("wer", figures, reason=_POOR.format(reference.wer) if poor else "", details=details),
        _difference(validation, artifact, reference),
    ]


def _with_language_model(
    validation: Validation, texts: list[str]
) -> tuple[list[Figure], dict[str, Any]]:
    """The same figures of texts found with the language model, without a gate, and which it is."""
    model = validation.language_model
    if model is None:
        return [], {}
    rule = validation.vocabulary.normalise
    heard = {
        "artifact": [item.lm_transcript for item in validation.evaluated],
        "reference": [item.lm_reference_transcript for item in validation.evaluated],
    }
    figures = []
    for who, found in heard.items():
        said = [text for text in found if text is not None]
        if len(said) == len(texts):
            label = validation.label if who == "artifact" else Figure.label
            errors = count_errors(texts, said, rule)
            figures += labelled(label, _figures(f"{who}, with LM", errors))
    return figures, {"language_model": model.identity}


def _figures(who: str, errors: WordErrors, ceiling: float | None = None) -> list[Figure]:
    return [
        gated(f"WER, {who}", errors.wer, ceiling, "<=", unit="%"),
        Figure(f"substitutions, {who}", errors.substitutions),
        Figure(f"deletions, {who}", errors.deletions),
        Figure(f"insertions, {who}", errors.insertions),
    ]


def _difference(validation: Validation, artifact: WordErrors, reference: WordErrors) -> Check:
    interval = paired_difference(
        artifact.per_utterance, reference.per_utterance, reference.words_per_utterance
    )
    changed = _changed(validation)
    gate = validation.gates.wer_difference_points
    # Rounded far below any gate: 100 * 3 / 7 in floats must not fail a gate of its own size.
    difference = round(artifact.wer - reference.wer, 9)
    decided = decides(difference, interval, artifact.words, gate)
    figures = [
        gated("WER difference", difference, gate if decided else None, "<=", unit="points"),
        Figure("95 % interval, low", interval.low, "points"),
        Figure("95 % interval, high", interval.high, "points"),
        Figure("changed transcripts", len(changed)),
    ]
    details = {
        "bootstrap": {"resamples": interval.resamples, "seed": interval.seed},
        "changed": changed,
    }
    figures = labelled(validation.label, figures)
    if decided:
        return judged("wer-difference", figures, details=details)
    reason = (
        f"{artifact.words} words are too few to judge a gate of {gate:g} points by, of which one "
        f"word is {100 / artifact.words:.2f}: give --data of {words_to_judge(gate)} words or more"
    )
    return unjudged("wer-difference", reason, figures, details)


def _changed(validation: Validation) -> list[dict[str, Any]]:
    """The utterances that the artifact hears otherwise than the reference."""
    return [
        {
            "id": item.utterance.id,
            "text": item.utterance.text,
            "reference": item.reference_transcript,
            "artifact": item.transcript,
        }
        for item in validation.evaluated
        if item.transcript != item.reference_transcript
    ]
