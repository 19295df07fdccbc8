"""Which part of the error comes from where: the stored weights, or arithmetic in 16 bits.

The same program is computed once more with nothing rounded. What is left between that and the
reference comes from conversion and from the weights as they are stored (rounded to fp16 or
compressed); what lies between the two computations of the program is its arithmetic.
"""

from collections.abc import Sequence

import numpy as np

from lpa_export.measures.arrays import argmax_agreement, psnr_db
from lpa_export.measures.bootstrap import paired_difference
from lpa_export.measures.word_errors import count_errors
from lpa_export.runtimes import Array, pad
from lpa_export.runtimes.coreml.runner import CoremlRunner
from lpa_validate.checks.clips import spread_clips
from lpa_validate.checks.wer import decides
from lpa_validate.evaluation import Validation, transcript
from lpa_validate.progress import progress
from lpa_validate.report import Check, Figure, gated, judged, labelled, not_run

__all__ = ["CONVERSION_DB", "check_precision"]

CONVERSION_DB = 60.0
"""Apple's model-authoring guide: end to end in fp32, look closer below 60 dB."""


def check_precision(validation: Validation) -> list[Check]:
    """PSNR of weights and conversion, of 16-bit arithmetic, and the WER without rounding."""
    from lpa_export.runtimes.coreml import Arithmetic

    runner = validation.artifact
    assert isinstance(runner, CoremlRunner)
    if validation.bundle.manifest.scheme.compute == "fp32":
        return [not_run("precision", "the bundle computes in fp32 already")]
    exact = runner.computing(Arithmetic.FP32)
    evaluated = validation.evaluated
    unrounded = [
        exact.run(*pad([validation.waveform(item.utterance)]))[0]
        for item in progress(evaluated, "in fp32")
    ]
    rounded = [item.logits for item in evaluated]
    figures = [
        Figure("PSNR of 16-bit arithmetic", _psnr(unrounded, rounded), "dB"),
        Figure("argmax agreement with fp32", _agreement(unrounded, rounded)),
        *_sequential(validation, runner),
        *_pessimistic(validation, runner),
    ]
    expected = [item.reference_logits for item in evaluated if item.reference_logits is not None]
    if len(expected) == len(evaluated):
        texts = [item.utterance.text for item in evaluated]
        figures += _against_reference(validation, texts, unrounded, expected)
    return [judged("precision", labelled(validation.label, figures))]


def _against_reference(
    validation: Validation,
    texts: Sequence[str],
    unrounded: Sequence[Array],
    expected: Sequence[Array],
) -> list[Figure]:
    """What conversion and stored weights cost; only uncompressed weights have a level to keep."""
    level = _psnr(expected, unrounded)
    compressed = validation.gates.psnr_db is None
    figures = [
        Figure("PSNR of weights and conversion", level, "dB")
        if compressed
        else Figure("PSNR of weights and conversion", level, "dB", CONVERSION_DB, ">=", flag=True)
    ]
    rule = validation.vocabulary.normalise
    heard = [transcript(logits, validation.vocabulary) for logits in unrounded]
    reference = [item.reference_transcript or "" for item in validation.evaluated]
    try:
        errors, known = (count_errors(texts, said, rule) for said in (heard, reference))
    except ValueError:  # no word in the data
        return figures
    difference = round(errors.wer - known.wer, 9)
    gate = validation.gates.wer_difference_points
    interval = paired_difference(
        errors.per_utterance, known.per_utterance, errors.words_per_utterance
    )
    decided = decides(difference, interval, errors.words, gate)
    return [
        *figures,
        Figure("WER, fp32 arithmetic", errors.wer, "%"),
        gated(
            "WER difference, fp32 arithmetic",
            difference,
            gate if decided else None,
            "<=",
            unit="points",
        ),
    ]


def _sequential(validation: Validation, runner: CoremlRunner) -> list[Figure]:
    """A few clips with sums accumulated in fp16 one by one: the worst that hardware may do."""
    from lpa_export.runtimes.coreml import Arithmetic

    pessimist = runner.computing(Arithmetic.FP16_SEQUENTIAL)
    clips = spread_clips(validation)
    wide = [runner.run(*pad([clip]))[0] for clip in clips]
    narrow = [pessimist.run(*pad([clip]))[0] for clip in clips]
    return [Figure("PSNR of sequential 16-bit sums", _psnr(wide, narrow), "dB")]


def _pessimistic(validation: Validation, runner: CoremlRunner) -> list[Figure]:
    """Sums in fp16 and activations by table, as the Neural Engine may do: what the words say."""
    from lpa_export.runtimes.coreml import Arithmetic

    pessimist = runner.computing(Arithmetic.FP16_PESSIMISTIC)
    logits = [
        pessimist.run(*pad([validation.waveform(item.utterance)]))[0]
        for item in progress(validation.evaluated, "in pessimistic arithmetic")
    ]
    usual = [item.logits for item in validation.evaluated]
    figures = [Figure("PSNR of pessimistic arithmetic", _psnr(usual, logits), "dB")]
    texts = [item.utterance.text for item in validation.evaluated]
    rule = validation.vocabulary.normalise
    said = [transcript(values, validation.vocabulary) for values in logits]
    heard = [item.transcript for item in validation.evaluated]
    try:
        errors, normal = (count_errors(texts, words, rule) for words in (said, heard))
    except ValueError:  # no word in the data
        return figures
    return [
        *figures,
        Figure("WER, usual arithmetic", normal.wer, "%"),
        Figure("WER, pessimistic arithmetic", errors.wer, "%"),
    ]


def _psnr(expected: Sequence[Array], found: Sequence[Array]) -> float:
    if [values.shape for values in expected] != [values.shape for values in found]:
        return float("nan")
    return psnr_db(np.concatenate(list(expected)), np.concatenate(list(found)))


def _agreement(expected: Sequence[Array], found: Sequence[Array]) -> float:
    if [values.shape for values in expected] != [values.shape for values in found]:
        return float("nan")
    return argmax_agreement(np.concatenate(list(expected)), np.concatenate(list(found)))
