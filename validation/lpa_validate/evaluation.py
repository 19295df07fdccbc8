"""Both models over the data, once, for every check that needs their logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lpa_export.formats.audio import Recording, read_audio, require_frames, require_within
from lpa_export.formats.text import Vocabulary, greedy_text, path_text
from lpa_export.runtimes import Array, ArtifactError, Label, Runner, pad
from lpa_validate.progress import progress
from lpa_validate.reference import ReferenceModel

if TYPE_CHECKING:
    from lpa_export.decoding.language_model import LanguageModel
    from lpa_export.formats.bundle import AnyBundle, Bundle
    from lpa_export.formats.gates import Gates
    from lpa_export.formats.speech import Utterance

__all__ = ["Evaluated", "Opened", "Placement", "Validation", "transcript"]


class Opened(Protocol):
    """What checks that know nothing of a task may ask, of a recogniser or a separator."""

    @property
    def bundle(self) -> "AnyBundle": ...

    @property
    def runner(self) -> Runner | None: ...

    @property
    def runner_problem(self) -> str: ...

    @property
    def open_runner(self) -> Callable[[int], Runner]: ...

    @property
    def label(self) -> Label: ...

    @property
    def artifact(self) -> Runner:
        """The runner. Raises ArtifactError when the artifact did not open."""
        ...

    def first_waveforms(self, count: int) -> list[Array]:
        """The first so many of the data, (samples,) each. Raises LpaError for unusable audio."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """One utterance through the artifact and, where there is one, the reference model.

    Logits are (frames, vocabulary); ``samples`` counts its 16 kHz samples; ``silent``: they are
    all the same; ``missing_seconds``: what the file's header promises and the file does not hold.
    Transcripts are greedy; ``lm_transcript`` and ``lm_reference_transcript`` are those with the
    language model, where there is one.
    """

    utterance: "Utterance"
    samples: int
    logits: Array
    transcript: str
    reference_logits: Array | None
    reference_transcript: str | None
    silent: bool = False
    missing_seconds: float = 0.0
    lm_transcript: str | None = None
    lm_reference_transcript: str | None = None


@dataclass(frozen=True)
class Placement:
    """The file that says which ops stay on the accelerator; ``write``: make it anew."""

    path: Path
    write: bool = False


@dataclass(frozen=True)
class Validation:
    """All that a check may need. What is missing is None, with the reason beside it.

    A bundle whose tokens cannot be read is not opened either: both are None then.
    ``open_runner`` gives a fresh runner with that many threads; what makes parity fail is written
    into ``case_folder``. ``language_model`` makes second transcripts, which no gate is about.
    ``evaluate_all`` evaluates utterances elsewhere than in this process.
    """

    bundle: "Bundle"
    gates: "Gates"
    tokens: Vocabulary | None
    runner: Runner | None
    runner_problem: str
    open_runner: Callable[[int], Runner]
    reference: ReferenceModel | None
    reference_problem: str
    utterances: Sequence["Utterance"]
    placement: Placement | None = None
    case_folder: Path | None = None
    language_model: "LanguageModel | None" = None
    evaluate_all: "Callable[[Sequence[Utterance]], list[Evaluated]] | None" = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The bundle's tokens. Raises ArtifactError when tokens.json cannot be read."""
        if self.tokens is None:
            raise ArtifactError(self.runner_problem)
        return self.tokens

    @property
    def label(self) -> Label:
        """How figures of the artifact come about: run by its runtime, or emulated.

        Raises ArtifactError when the artifact did not open.
        """
        return self.artifact.label

    @property
    def artifact(self) -> Runner:
        """The runner. Raises ArtifactError when the artifact did not open."""
        if self.runner is None:
            raise ArtifactError(self.runner_problem)
        return self.runner

    def waveform(self, utterance: "Utterance") -> Array:
        """Its audio at the bundle's sample rate, (samples,); silence is taken as it is.

        Raises LpaError for audio that cannot be read, is shorter or longer than the artifact
        takes.
        """
        return self._recording(utterance).waveform

    def first_waveforms(self, count: int) -> list[Array]:
        """See `Opened`."""
        return [self.waveform(item) for item in self.utterances[:count]]

    def _recording(self, utterance: "Utterance") -> Recording:
        manifest = self.bundle.manifest
        recording = read_audio(utterance.audio, sample_rate=manifest.sample_rate, silence=True)
        waveform = recording.waveform
        shortest = self.runner.min_samples if self.runner else manifest.frames.receptive_field
        longest = self.runner.max_samples if self.runner else None
        require_frames(waveform, shortest, str(utterance.audio))
        if longest is not None:
            require_within(waveform, longest, str(utterance.audio))
        return recording

    @cached_property
    def evaluated(self) -> list[Evaluated]:
        """Every utterance, alone and unpadded. Raises as ``waveform`` and ``artifact`` do."""
        _ = self.artifact  # one that did not open is no fault of an utterance
        if self.evaluate_all is not None:
            return self.evaluate_all(self.utterances)
        return [self.evaluate(item) for item in progress(self.utterances, "transcribing")]

    def evaluate(self, utterance: "Utterance") -> Evaluated:
        """One utterance, alone and unpadded."""
        artifact = self.artifact
        recording = self._recording(utterance)
        waveform = recording.waveform
        logits = artifact.run(*pad([waveform]))[0]
        reference = self.reference
        expected = None if reference is None else reference.logits(waveform)
        return Evaluated(
            utterance,
            len(waveform),
            logits,
            transcript(logits, self.vocabulary),
            expected,
            None if reference is None or expected is None else reference.text(expected),
            silent=bool(waveform.min() == waveform.max()),
            missing_seconds=recording.missing_seconds,
            lm_transcript=self._with_language_model(logits),
            lm_reference_transcript=self._with_language_model(expected),
        )

    def _with_language_model(self, logits: Array | None) -> str | None:
        """None without a model, and for logits of another width, which parity speaks of."""
        if self.language_model is None or logits is None:
            return None
        if logits.shape[1] != len(self.vocabulary):
            return None
        return path_text(self.language_model.path(logits), self.vocabulary)


def transcript(logits: Array, vocabulary: Vocabulary) -> str:
    """Greedy text of (frames, vocabulary); NaN counts as the lowest score, not the highest."""
    if logits.shape[1] != len(vocabulary):
        raise ArtifactError(
            f"logits for {logits.shape[1]} tokens, but tokens.json has {len(vocabulary)}"
        )
    return greedy_text(np.nan_to_num(logits, nan=-np.inf), vocabulary)
