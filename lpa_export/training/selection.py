"""A bounded amount of speech, chosen the same way every time, and speech kept from a fit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import soundfile

from lpa_export.errors import LpaError
from lpa_export.formats.speech import Utterance

__all__ = ["choose_seconds", "hold_out"]


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
