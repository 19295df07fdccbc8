"""More real speech from little: pieces of one speaker put together to new utterances.

Half an hour of speech has few sequences of words, and a model knows them by heart before it knows
the words. Cut in the silence between words (found by the alignment of a model) and recombined
within a speaker, the same recordings give any number of sequences, in real voices (aligned data
augmentation, Lam et al. 2021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio
from lpa_export.formats.speech import Utterance, write_utterances
from lpa_export.formats.text import Vocabulary
from lpa_export.training.align import align, cuts
from lpa_export.training.batches import normalise

__all__ = ["splice"]

WORST_SCORE = -0.5
"""Utterances that align with a lower mean log probability a frame are left out."""

SHORTEST = 1600  # samples of a word: what is cut to less than 0.1 s was cut in the wrong place
FADE = 80  # samples over which two words run into each other: 5 ms


@dataclass(frozen=True)
class _Piece:
    """One word, or several that run into each other."""

    words: tuple[str, ...]
    waveform: Waveform


def splice(
    model: Any,
    vocabulary: Vocabulary,
    utterances: Sequence[Utterance],
    out: Path,
    *,
    count: int,
    seed: int,
) -> Path:
    """Write `count` new utterances (FLAC) and their manifest into the folder `out`.

    A new utterance has about as many words as one that was spoken, by any speaker; which words is
    chance. Deterministic under `seed`. LpaError when no speaker is known, or no utterance can be
    aligned.
    """
    spoken = [utterance for utterance in utterances if utterance.speaker is not None]
    if not spoken:
        raise LpaError("speech is spliced within speakers: the manifests name none ('speaker')")
    if vocabulary.word_delimiter is None:
        raise LpaError("speech is spliced between words: the vocabulary has no word delimiter")
    pieces: dict[str, list[_Piece]] = defaultdict(list)
    for utterance in tqdm(spoken, desc="aligning", disable=None, leave=False):
        pieces[str(utterance.speaker)] += _pieces(model, vocabulary, utterance)
    speakers = [name for name in sorted(pieces) if len(pieces[name]) > 1]
    if not speakers:
        raise LpaError("no utterance could be aligned: train the model longer before splicing")
    lengths = [len(utterance.text.split()) for utterance in spoken]
    return write_utterances(out, _spliced(pieces, speakers, lengths, count, seed))


def _spliced(
    pieces: Mapping[str, list[_Piece]],
    speakers: list[str],
    lengths: list[int],
    count: int,
    seed: int,
) -> Iterator[tuple[str, Waveform, str, str]]:
    """New utterances: id, waveform, text, speaker."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        speaker = speakers[rng.integers(len(speakers))]
        chosen = _choose(pieces[speaker], lengths[rng.integers(len(lengths))], rng)
        waveform = _join([piece.waveform for piece in chosen])
        text = " ".join(word for piece in chosen for word in piece.words)
        yield f"spliced{number:05d}", waveform, text, speaker


@torch.inference_mode()
def _pieces(model: Any, vocabulary: Vocabulary, utterance: Utterance) -> list[_Piece]:
    """The pieces of an utterance; none where the model does not hear what was said."""
    model.eval()
    waveform = load_audio(utterance.audio)
    given = torch.from_numpy(normalise(waveform).astype(np.float32))[None].to(model.device)
    log_probs = model(given).logits[0].float().log_softmax(-1).cpu().numpy()
    labels = vocabulary.encode(utterance.text)
    try:
        alignment = align(log_probs, labels, blank=vocabulary.blank)
    except LpaError:
        return []
    if alignment.score < WORST_SCORE:
        return []
    delimiter = vocabulary.tokens.index(str(vocabulary.word_delimiter))
    stride = int(np.prod(model.config.conv_stride))
    places = cuts(waveform, alignment, labels, delimiter=delimiter, stride=stride)
    words = vocabulary.normalise(utterance.text).split()
    silent = [number for number, place in enumerate(places) if place is not None]
    pieces = [
        _Piece(tuple(words[first:last]), waveform[places[first] : places[last]])
        for first, last in pairwise(silent)
    ]
    return [piece for piece in pieces if len(piece.waveform) >= SHORTEST]


def _choose(said: list[_Piece], words: int, rng: np.random.Generator) -> list[_Piece]:
    """Pieces of one speaker, at random, with at least so many words."""
    chosen: list[_Piece] = []
    while sum(len(piece.words) for piece in chosen) < words:
        chosen.append(said[rng.integers(len(said))])
    return chosen


def _join(waveforms: list[Waveform]) -> Waveform:
    """One after another, each fading into the next."""
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    joined: npt.NDArray[np.float32] = waveforms[0]
    for waveform in waveforms[1:]:
        across = joined[-FADE:] * (1 - ramp) + waveform[:FADE] * ramp
        joined = np.concatenate([joined[:-FADE], across, waveform[FADE:]])
    return joined
