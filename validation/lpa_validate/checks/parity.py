"""Does the artifact compute what the original computes?

Against the torch model on the data where the checkpoint is at hand, else against the golden
tensors in the bundle. When it does not, the first tap that parts from the reference is named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.gates import Gates
from lpa_export.formats.golden import read_golden
from lpa_export.formats.speech import Utterance
from lpa_export.measures.arrays import argmax_agreement, max_difference, non_finite, psnr_db
from lpa_export.runtimes import Array, pad
from lpa_validate.checks.taps import TapComparison, compare_taps, first_diverging
from lpa_validate.evaluation import Validation, transcript
from lpa_validate.report import Check, Figure, gated, judged, labelled

if TYPE_CHECKING:
    from lpa_validate.checks.diverging import Diverging

__all__ = ["check_parity"]

Value = TypeVar("Value")

# A tap below this is broken in any scheme; for bundles without a PSNR gate of their own.
_DIVERGES_DB = 40.0


@dataclass(frozen=True)
class _Pair:
    """One utterance from both models. The callables give its waveform and reference taps."""

    id: str
    found: Array
    expected: Array
    transcript: str
    reference_transcript: str
    waveform: Callable[[], Array]
    reference_taps: Callable[[], Mapping[str, Array]]


def check_parity(validation: Validation) -> list[Check]:
    """PSNR, largest difference, argmax agreement, transcripts, and where they part."""
    if validation.reference is not None:
        pairs = _pairs_with_model(validation)
    else:
        try:
            pairs = _pairs_with_golden(validation)
        except LpaError as error:  # the bundle's own files are at fault, not the user's
            return [Check("parity", "fail", reason=str(error))]
    shapes = [pair for pair in pairs if pair.found.shape != pair.expected.shape]
    same = [pair for pair in pairs if pair.found.shape == pair.expected.shape]
    figures = labelled(
        validation.label,
        [Figure("utterances of another shape", len(shapes), gate=0, comparison="==")],
    )
    figures += _figures(validation, same) if same else []
    worst = shapes[0] if shapes else min(same, key=_psnr_order)
    taps = compare_taps(
        validation.bundle.manifest.taps,
        validation.artifact.taps(worst.waveform()),
        worst.reference_taps(),
    )
    failed = any(figure.failed for figure in figures)
    operation = _operation(validation, worst) if failed else None
    reason = _reason(validation, figures, worst, taps) if failed else ""
    return [
        judged(
            "parity",
            figures,
            reason=f"{reason}; {operation.sentence}" if operation else reason,
            details={
                "reference": "torch" if validation.reference is not None else "golden",
                "worst_utterance": worst.id,
                "taps": [tap.to_json() for tap in taps],
                "operation": operation and operation.to_json(),
                "changed": [
                    {
                        "id": pair.id,
                        "reference": pair.reference_transcript,
                        "artifact": pair.transcript,
                    }
                    for pair in pairs
                    if pair.transcript != pair.reference_transcript
                ],
            },
        )
    ]


def _figures(validation: Validation, pairs: Sequence[_Pair]) -> list[Figure]:
    gates = validation.gates
    found = np.concatenate([pair.found for pair in pairs])
    expected = np.concatenate([pair.expected for pair in pairs])
    changed = sum(pair.transcript != pair.reference_transcript for pair in pairs)
    # Words may differ only where the scheme's gate on WER leaves room for it.
    exact = gates.wer_difference_points == 0
    compared = [
        Figure(
            "golden clips compared" if validation.reference is None else "utterances compared",
            len(pairs),
        ),
        Figure("frames compared", len(found)),
    ]
    artifact = [
        Figure("logits NaN or infinite", non_finite(found), gate=0, comparison="=="),
        *_psnr_figures(psnr_db(expected, found), gates),
        Figure("PSNR, worst utterance", min(map(_psnr_order, pairs)), "dB"),
        Figure("largest difference", max_difference(expected, found)),
        gated("argmax agreement", argmax_agreement(expected, found), gates.argmax_agreement, ">="),
        gated("changed transcripts", changed, 0 if exact else None, "=="),
    ]
    return [*compared, *labelled(validation.label, artifact)]


def _psnr_figures(value: float, gates: Gates) -> list[Figure]:
    """The PSNR against the gate that fails and, where there is one, the gate that warns."""
    figures = [gated("PSNR, all logits", value, gates.psnr_db, ">=", unit="dB")]
    if gates.psnr_flag_db is not None:
        name = "PSNR, all logits, worth a look"
        figures.append(Figure(name, value, "dB", gates.psnr_flag_db, ">=", flag=True))
    return figures


def _psnr_order(pair: _Pair) -> float:
    """The pair's PSNR, minus infinity where it is NaN: the worst of all."""
    value = psnr_db(pair.expected, pair.found)
    return -float("inf") if np.isnan(value) else value


def _operation(validation: Validation, worst: _Pair) -> "Diverging | None":
    """The operation that brings the difference in, where the target's runner can tell."""
    if validation.bundle.manifest.target != "coreml":
        return None
    from lpa_validate.checks.diverging import diverging_operation

    found = diverging_operation(validation, worst.waveform(), worst.expected, _limit(validation))
    if found is not None and validation.case_folder is not None:
        found.save(validation.case_folder)
    return found


def _limit(validation: Validation) -> float:
    gates = validation.gates
    return gates.psnr_db or gates.psnr_flag_db or _DIVERGES_DB


def _reason(
    validation: Validation,
    figures: Sequence[Figure],
    worst: _Pair,
    taps: Sequence[TapComparison],
) -> str:
    """What failed in one sentence, and the first tap where the worst utterance parts."""
    what = "; ".join(
        f"{figure.name} {_short(figure.value)} (must be {figure.comparison} {figure.gate})"
        for figure in figures
        if figure.failed
    )
    first = first_diverging(taps, _limit(validation))
    if first is None:
        return f"{what}; no single tap of {worst.id!r} is beyond the gate"
    if first.non_finite:
        how = f"{first.non_finite} values are NaN or infinite"
    elif first.shape != first.reference_shape:
        how = f"shape {first.shape}, the reference has {first.reference_shape}"
    else:
        how = f"PSNR {first.psnr_db:.1f} dB"
    return f"{what}; first diverging tap: {first.name} ({first.kind}), {how} on {worst.id!r}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pairs_with_model(validation: Validation) -> list[_Pair]:
    pairs = []
    for item in validation.evaluated:
        assert item.reference_logits is not None and item.reference_transcript is not None
        utterance = item.utterance
        pairs.append(
            _Pair(
                utterance.id,
                item.logits,
                item.reference_logits,
                item.transcript,
                item.reference_transcript,
                partial(validation.waveform, utterance),
                partial(_reference_taps, validation, utterance),
            )
        )
    return pairs


def _reference_taps(validation: Validation, utterance: Utterance) -> Mapping[str, Array]:
    assert validation.reference is not None
    return validation.reference.taps(validation.waveform(utterance))


def _always(value: Value) -> Callable[[], Value]:
    return lambda: value


def _pairs_with_golden(validation: Validation) -> list[_Pair]:
    pairs = []
    for clip in read_golden(validation.bundle):
        found = validation.artifact.run(*pad([clip.waveform]))[0]
        expected = clip.taps["logits"]
        pairs.append(
            _Pair(
                clip.id,
                found,
                expected,
                transcript(found, validation.vocabulary),
                clip.transcript,
                _always(clip.waveform),
                _always(clip.taps),
            )
        )
    return pairs
