"""Mixtures with what they were mixed of, to measure separators by.

From a JSONL manifest of pairs, from the stored list of a separation recipe, or made of the demo
speech that ships with the package and of noise that a seed makes: nothing needs to be downloaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio
from lpa_export.formats.generated_noise import generated_noise
from lpa_export.formats.mixing import Draw, mixed, read_draws, rms
from lpa_export.formats.paths import is_file
from lpa_export.formats.separation_recipe import (
    SeparationRecipe,
    is_named,
    load_separation_recipe,
)
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.formats.task import SEPARATION, task_of

__all__ = ["Mixture", "MixturePlace", "demo_mixtures", "load_mixtures"]

_DEMO_SNRS = (5.0, 0.0, 10.0)
_DEMO_DBFS = -25.0
_DEMO = 12
_RECIPES = (".yaml", ".yml")


@dataclass(frozen=True)
class Mixture:
    """A mixture (samples,), and its sources (samples,) each."""

    waveform: Waveform
    clean: tuple[Waveform, ...]


@dataclass(frozen=True)
class MixturePlace:
    """Where a mixture comes from; `read` decodes it, or raises LpaError. `snr_db`: where known."""

    id: str
    read: Callable[[], Mixture]
    snr_db: float | None = None


def load_mixtures(
    source: Path | None, *, sample_rate: int, sources: int, limit: int | None = None
) -> list[MixturePlace]:
    """Mixtures at `sample_rate` Hz of so many `sources`.

    `source`: a JSONL manifest whose lines have ``mixture_filepath`` and ``source_filepath`` (a
    list, where there are several), relative to it, and may have ``id`` and ``snr_db``; a
    separation recipe (YAML), for its stored list of test mixtures; or None, for the demo speech.
    Raises LpaError, by file and line, for anything else, and for files that are not there.
    """
    if source is None:
        found = demo_mixtures(sample_rate=sample_rate, sources=sources)
    elif source.suffix in _RECIPES:
        found = _of_recipe(source, sample_rate, sources)
    else:
        found = _of_pairs(source, sample_rate, sources)
    return found[:limit]


def demo_mixtures(*, sample_rate: int, sources: int) -> list[MixturePlace]:
    """The shortest demo recordings: one in noise of a seed, or several of them at a time."""
    spoken = sorted(load_utterances(None), key=lambda item: (item.duration or 0.0, item.id))
    spoken = [item for item in spoken if (item.duration or 0.0) >= 1.0][: _DEMO * sources]
    groups = [spoken[first : first + sources] for first in range(0, len(spoken), sources)]
    return [
        MixturePlace(
            "+".join(item.id for item in group),
            partial(_demo, group, number, sample_rate),
            _DEMO_SNRS[number % len(_DEMO_SNRS)] if sources == 1 else None,
        )
        for number, group in enumerate(groups)
    ]


def _demo(group: Sequence[Utterance], seed: int, sample_rate: int) -> Mixture:
    clips = [load_audio(item.audio, sample_rate=sample_rate) for item in group]
    samples = min(map(len, clips))
    if len(clips) == 1:
        draw = Draw(0, 0, 0, 0, _DEMO_SNRS[seed % len(_DEMO_SNRS)], _DEMO_DBFS)
        noise = generated_noise(np.random.default_rng(seed), samples, sample_rate)
        waveform, clean = mixed(clips[0], noise, draw, samples)
        return Mixture(waveform, (clean,))
    level = 10 ** (_DEMO_DBFS / 20)
    parts = [clip[:samples] * np.float32(level / rms(clip[:samples])) for clip in clips]
    return Mixture(np.sum(parts, axis=0, dtype=np.float32), tuple(parts))


def _of_recipe(path: Path, sample_rate: int, sources: int) -> list[MixturePlace]:
    if task_of(path) != SEPARATION:
        raise LpaError(f"{path}: a recipe of another task than separation")
    recipe = load_separation_recipe(path)
    data = recipe.data
    if data.test is None or data.test_list is None or not data.test_list.is_file():
        raise LpaError(f"{path}: names no stored list of test mixtures; lpa-train measure draws it")
    if (recipe.model.sampling_rate, recipe.model.sources) != (sample_rate, sources):
        raise LpaError(
            f"{path}: mixtures of {recipe.model.sources} sources at "
            f"{recipe.model.sampling_rate} Hz, the model has {sources} at {sample_rate}"
        )
    speech = load_utterances(data.test)
    noise = [
        item
        for item in load_utterances(data.noise.manifest, transcribed=False)
        if is_named(item.audio, data.noise.test)
    ]
    ids = [item.id for item in speech], [item.id for item in noise]
    draws = read_draws(data.test_list, *ids, sample_rate)
    return [
        MixturePlace(
            f"{number:04d}-{speech[draw.speech].id}",
            partial(_drawn, recipe, speech[draw.speech].audio, noise[draw.noise].audio, draw),
            draw.snr_db,
        )
        for number, draw in enumerate(draws)
    ]


def _drawn(recipe: SeparationRecipe, speech: Path, noise: Path, draw: Draw) -> Mixture:
    rate = recipe.model.sampling_rate
    spoken, heard = (load_audio(path, sample_rate=rate) for path in (speech, noise))
    waveform, clean = mixed(spoken, heard, draw, round(recipe.mixing.test_seconds * rate))
    return Mixture(waveform, (clean,))


def _of_pairs(path: Path, sample_rate: int, sources: int) -> list[MixturePlace]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LpaError(
            f"{path}: expected a JSONL manifest of mixtures or a separation recipe ({error})"
        ) from error
    found: list[MixturePlace] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_pair(line, f"{path}:{number}", path.parent, sample_rate, sources))
    if len({place.id for place in found}) != len(found):
        raise LpaError(f"{path}: ids must differ; without any, names of mixtures must")
    if not found:
        raise LpaError(f"{path}: lists no mixture")
    return found


def _pair(line: str, place: str, folder: Path, sample_rate: int, sources: int) -> MixturePlace:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LpaError(f"{place}: expected a JSON object per line ({error})") from error
    if not isinstance(entry, dict):
        raise LpaError(f"{place}: expected a JSON object, found {type(entry).__name__}")
    if "noise" in entry and "mixture_filepath" not in entry:
        raise LpaError(f"{place}: a recipe's list names recordings by id: give the recipe itself")
    clean = entry.get("source_filepath")
    named = [entry.get("mixture_filepath"), *(clean if isinstance(clean, list) else [clean])]
    if not all(isinstance(name, str) and name and "\0" not in name for name in named):
        raise LpaError(f"{place}: needs paths in 'mixture_filepath' and 'source_filepath'")
    if len(named) != 1 + sources:
        raise LpaError(f"{place}: {len(named) - 1} sources, the model gives {sources}")
    paths = [folder / name for name in named]
    for audio in paths:
        if not is_file(audio):
            raise LpaError(
                f"{place}: no audio file {audio}; relative paths start at the manifest's own folder"
            )
    snr = entry.get("snr_db")
    number = isinstance(snr, int | float) and not isinstance(snr, bool) and math.isfinite(snr)
    if snr is not None and not number:
        raise LpaError(f"{place}: 'snr_db' must be a number, found {snr!r}")
    identity = entry.get("id", paths[0].stem)
    return MixturePlace(str(identity), partial(_decoded, paths, sample_rate, place), snr)


def _decoded(paths: Sequence[Path], sample_rate: int, place: str) -> Mixture:
    waveform, *clean = (load_audio(path, sample_rate=sample_rate, silence=True) for path in paths)
    if {len(part) for part in clean} != {len(waveform)}:
        raise LpaError(f"{place}: the mixture and its sources differ in length")
    return Mixture(waveform, tuple(clean))
