"""Silence must give no words: in a second of digital silence, and in silent clips of the data."""

import numpy as np

from lpa_export.runtimes import Array, pad
from lpa_validate.evaluation import Validation, transcript
from lpa_validate.report import Check, Figure, judged, labelled

__all__ = ["check_silence"]


def check_silence(validation: Validation) -> list[Check]:
    """Words heard where there are none.

    Where the original hears words in silence too, that is the model's fault and not that of the
    artifact: it is remarked, and parity judges whether they are the same.
    """
    waveform = _silence(validation)
    logits = validation.artifact.run(*pad([waveform]))[0]
    seconds = len(waveform) / validation.bundle.manifest.sample_rate
    heard = {
        f"words in {seconds:.3g} s of silence": (
            _words(validation, transcript(logits, validation.vocabulary)),
            _words(validation, _original(validation, waveform)),
        )
    }
    clips = [item for item in validation.evaluated if item.silent]
    if clips:
        heard["words in silent clips of the data"] = (
            sum(_words(validation, clip.transcript) for clip in clips),
            sum(_words(validation, clip.reference_transcript or "") for clip in clips),
        )
    figures = [
        Figure(name, found, gate=0, comparison="==", flag=original > 0)
        for name, (found, original) in heard.items()
    ]
    details = {"silent clips": [clip.utterance.id for clip in clips]}
    return [judged("silence", labelled(validation.label, figures), details=details)]


def _silence(validation: Validation) -> Array:
    """A second of zeros, or as near to it as the artifact takes."""
    runner = validation.artifact
    samples = max(validation.bundle.manifest.sample_rate, runner.min_samples)
    return np.zeros(min(samples, runner.max_samples or samples), np.float32)


def _original(validation: Validation, waveform: Array) -> str:
    reference = validation.reference
    return "" if reference is None else reference.text(reference.logits(waveform))


def _words(validation: Validation, text: str) -> int:
    return len(validation.vocabulary.normalise(text).split())
