"""The speech a recipe names, read once and decoded once for all stages of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import DataSettings, Recipe
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.training.batches import SpeechSet
from lpa_export.training.clips import Recordings
from lpa_export.training.distributed import accelerator, is_main_process
from lpa_export.training.files import RunFolder
from lpa_export.training.splice import splice

__all__ = ["RecipeSpeech", "choose_seconds", "hold_out"]


class RecipeSpeech:
    """Speech of one recipe. Each part raises LpaError, when it is asked for, where it is no use."""

    def __init__(self, recipe: Recipe, recordings: Recordings | None = None) -> None:
        """`recordings`: audio that other recipes of the same run have decoded."""
        self.recipe = recipe
        self.recordings = recordings or Recordings()

    @cached_property
    def _named(self) -> list[Utterance]:
        """All of `data.train`. LpaError where `data.dev_speakers` names one who is not there."""
        named = _utterances(self._data.train)
        speakers = {str(utterance.speaker) for utterance in named}
        for speaker in self._data.dev_speakers:
            if speaker not in speakers:
                raise LpaError(
                    f"{self.recipe.name}: data.dev_speakers names {speaker!r}, who is none of the "
                    f"{len(speakers)} speakers of data.train, such as {min(speakers)!r}"
                )
        return named

    @cached_property
    def spoken(self) -> list[Utterance]:
        """The real speech to train on."""
        held = self._data.dev_speakers
        return [utterance for utterance in self._named if utterance.speaker not in held]

    @cached_property
    def training(self) -> list[Utterance]:
        """The real speech and the synthetic voices."""
        voices = self._data.synthetic
        if voices is None:
            return self.spoken
        manifest = voices / "manifest.jsonl"
        if not manifest.is_file():
            raise LpaError(f"{manifest}: no synthetic voices there yet; make them with: make data")
        return [*self.spoken, *_utterances([manifest])]

    @cached_property
    def held_out(self) -> list[Utterance]:
        """The dev speech, by which weights are chosen."""
        held = self._data.dev_speakers
        if self._data.dev is None and not held:
            raise LpaError(
                f"{self.recipe.name}: 'data' names no 'dev' speech, by which weights are chosen"
            )
        dev = [] if self._data.dev is None else load_utterances(self._data.dev)
        return [*dev, *(utterance for utterance in self._named if utterance.speaker in held)]

    def require_words(self) -> None:
        """LpaError for speech without a single word: nothing can be learnt from it or by it."""
        for what, speech in (("train", self.training), ("dev", self.held_out)):
            if not any(utterance.text.split() for utterance in speech):
                raise LpaError(
                    f"{self.recipe.name}: not one utterance of data.{what} has a word in 'text'"
                )

    def of(
        self,
        utterances: Iterable[Utterance],
        vocabulary: Vocabulary,
        field: int,
        speeds: Sequence[float] = (1.0,),
    ) -> SpeechSet:
        """A set of these utterances for a model of this vocabulary and receptive field."""
        return SpeechSet(
            utterances,
            vocabulary,
            receptive_field=field,
            speeds=speeds,
            recordings=self.recordings,
        )

    def spliced(
        self, model: Any, vocabulary: Vocabulary, run: RunFolder, number: int = 0
    ) -> list[Utterance]:
        """As much spliced speech as the recipe asks for, made in `run` where it is missing.

        `model` finds the words; another `number` gives other utterances. Of a launched group one
        process writes.
        """
        if not self._data.spliced:
            return []
        run.begin()
        out = run.folder / f"spliced{number}"
        if is_main_process() and not out.is_dir():
            seed = self.recipe.teacher.seed + number
            splice(model, vocabulary, self.spoken, out, count=self._data.spliced, seed=seed)
        accelerator().wait_for_everyone()
        return _utterances([out / "manifest.jsonl"])

    def for_sweep(self) -> dict[str, list[Utterance]]:
        """Real speech to fit on and real speech for the figures, as much as the recipe says."""
        settings, fitted = self.recipe.sweep, self.spoken
        if self._data.dev is None and not self._data.dev_speakers:
            fitted, held_out = hold_out(fitted, settings.held_out_share, settings.seed)
        else:
            held_out = self.held_out
        held = settings.seconds * settings.held_out_share
        return {
            "fitted": choose_seconds(fitted, settings.seconds - held, settings.seed),
            "held_out": choose_seconds(held_out, held, settings.seed),
        }

    @property
    def _data(self) -> DataSettings:
        if self.recipe.data is None:
            raise LpaError(
                f"{self.recipe.name}: has no 'data' section, so there is nothing to train on"
            )
        return self.recipe.data


def choose_seconds(utterances: Sequence[Utterance], seconds: float, seed: int) -> list[Utterance]:
    """Utterances in an order that `seed` decides, until they hold `seconds`; at least one."""
    chosen, total = [], 0.0
    for utterance in sorted(utterances, key=lambda item: _rank(item.id, seed)):
        if total >= seconds:
            break
        chosen.append(utterance)
        total += _seconds(utterance)
    return chosen


def hold_out(
    utterances: Sequence[Utterance], share: float, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    """(kept, held out): whole speakers until `share` of the utterances is reached.

    Where a speaker is not known, or there is only one, single utterances are held out. The same
    speaker or utterance falls on the same side whatever else the data holds, up to the share.
    Raises LpaError when there is nothing to divide.
    """
    speakers = {utterance.speaker for utterance in utterances}
    by_speaker = None not in speakers and len(speakers) > 1
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        key = str(utterance.speaker) if by_speaker else utterance.id
        groups.setdefault(key, []).append(utterance)
    if len(groups) < 2:
        raise LpaError("a single utterance cannot be both fitted and held out; name 'dev' speech")
    kept: list[Utterance] = []
    held: list[Utterance] = []
    *others, last = sorted(groups, key=lambda key: _rank(key, seed))
    for key in others:
        side = held if len(held) < share * len(utterances) else kept
        side.extend(groups[key])
    kept.extend(groups[last])
    return kept, held


def _rank(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {key}".encode()).digest()


def _seconds(utterance: Utterance) -> float:
    if utterance.duration is not None:
        return utterance.duration
    try:
        return float(soundfile.info(utterance.audio).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise LpaError(f"{utterance.audio}: cannot read the audio file ({error})") from error


def _utterances(sources: Iterable[Path]) -> list[Utterance]:
    return [utterance for source in sources for utterance in load_utterances(source)]
