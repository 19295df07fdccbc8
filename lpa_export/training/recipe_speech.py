"""The speech a recipe names, for training and for the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import DataSettings, Recipe, TeacherSettings
from lpa_export.formats.speech import Utterance, data_hash, load_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.training.data import SpeechSet
from lpa_export.training.files import is_main_process
from lpa_export.training.run_folder import RunFolder
from lpa_export.training.selection import choose_seconds, hold_out
from lpa_export.training.splice import MANIFEST, splice
from lpa_export.training.workers import accelerator

__all__ = ["spliced_speech", "sweep_speech", "training_speech"]


def training_speech(
    recipe: Recipe,
    training: TeacherSettings,
    vocabulary: Vocabulary,
    field: int,
    more: Callable[[], Iterable[Path]] = tuple,
) -> tuple[SpeechSet, SpeechSet, str]:
    """Training speech at every speed, dev speech, and the hash of the training data.

    `more` gives manifests that come on top, asked for once the recipe's own can be read.
    Raises LpaError for speech without a single word: nothing can be learnt from it or by it.
    """
    data = _data(recipe)
    if data.dev is None:
        raise LpaError(f"{recipe.name}: 'data' names no 'dev' speech, by which weights are chosen")
    sources = [*data.train]
    if data.synthetic is not None:
        voices = data.synthetic / "manifest.jsonl"
        if not voices.is_file():
            raise LpaError(f"{voices}: no synthetic voices there yet; make them with: make data")
        sources.append(voices)
    utterances, held_out = _utterances(sources), load_utterances(data.dev)
    for what, speech in (("train", utterances), ("dev", held_out)):
        if not any(utterance.text.split() for utterance in speech):
            raise LpaError(f"{recipe.name}: not one utterance of data.{what} has a word in 'text'")
    dev = SpeechSet(held_out, vocabulary, receptive_field=field)
    utterances += _utterances(more())
    speeds: Sequence[float] = training.speeds
    train = SpeechSet(utterances, vocabulary, receptive_field=field, speeds=speeds)
    return train, dev, data_hash(utterances)


def spliced_speech(
    recipe: Recipe, model: Wav2Vec2ForCTC, vocabulary: Vocabulary, run: RunFolder, number: int = 0
) -> list[Path]:
    """The manifest of as much spliced speech as the recipe asks for, made in `run` if missing.

    `model` finds the words; another `number` gives other utterances. Of a launched group one
    process writes.
    """
    data = _data(recipe)
    if not data.spliced:
        return []
    run.begin()
    out = run.folder / f"spliced{number}"
    if is_main_process() and not out.is_dir():
        spoken = _utterances(data.train)
        seed = recipe.teacher.seed + number
        splice(model, vocabulary, spoken, out, count=data.spliced, seed=seed)
    accelerator().wait_for_everyone()
    return [out / MANIFEST]


def sweep_speech(recipe: Recipe) -> dict[str, list[Utterance]]:
    """Real speech to fit on and real speech for the figures, as much as the recipe says."""
    data, settings = _data(recipe), recipe.sweep
    fitted = _utterances(data.train)
    if data.dev is None:
        fitted, held_out = hold_out(fitted, settings.held_out_share, settings.seed)
    else:
        held_out = load_utterances(data.dev)
    held = settings.seconds * settings.held_out_share
    return {
        "fitted": choose_seconds(fitted, settings.seconds - held, settings.seed),
        "held_out": choose_seconds(held_out, held, settings.seed),
    }


def _data(recipe: Recipe) -> DataSettings:
    if recipe.data is None:
        raise LpaError(f"{recipe.name}: has no 'data' section, so there is nothing to train on")
    return recipe.data


def _utterances(sources: Iterable[Path]) -> list[Utterance]:
    return [utterance for source in sources for utterance in load_utterances(source)]
