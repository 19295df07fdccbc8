"""The speech a recipe names, for training and for the sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lpa_export.ctc import Vocabulary
from lpa_export.errors import LpaError
from lpa_export.recipe import DataSettings, Recipe, TeacherSettings
from lpa_export.speech import Utterance, data_hash, load_utterances
from lpa_export.training.data import SpeechSet
from lpa_export.training.selection import choose_seconds, hold_out

__all__ = ["sweep_speech", "training_speech"]


def training_speech(
    recipe: Recipe, training: TeacherSettings, vocabulary: Vocabulary, field: int
) -> tuple[SpeechSet, SpeechSet, str]:
    """Training speech at every speed, dev speech, and the hash of the training data."""
    data = _data(recipe)
    if data.dev is None:
        raise LpaError(f"{recipe.name}: 'data' names no 'dev' speech, by which weights are chosen")
    sources = [*data.train]
    if data.synthetic is not None:
        voices = data.synthetic / "manifest.jsonl"
        if not voices.is_file():
            raise LpaError(f"{voices}: no synthetic voices there yet; make them with: make data")
        sources.append(voices)
    utterances = _utterances(sources)
    speeds: Sequence[float] = training.speeds
    train = SpeechSet(utterances, vocabulary, receptive_field=field, speeds=speeds)
    dev = SpeechSet(load_utterances(data.dev), vocabulary, receptive_field=field)
    return train, dev, data_hash(utterances)


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
