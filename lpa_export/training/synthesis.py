"""Synthetic speech in AN4's domain, made with espeak-ng: training voices and the shipped demo set.

    python -m lpa_export.training.synthesis train --out build/synthetic
    python -m lpa_export.training.synthesis demo --out lpa_export/assets/demo

AN4 is a census task: spelled names, digits, numbers, dates and a few commands. The same grammar is
sampled here, spoken by several espeak-ng voices at several speeds and pitches, so that demo speech
which the package may ship is in the domain of the model it ships with. The demo texts and the
texts of the synthetic training voices are disjoint; the voices are shared, and a few short texts
(commands, a name) are in AN4 as well.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform, load_audio
from lpa_export.formats.speech import write_utterances

VOICES = tuple(
    f"{accent}+{variant}"
    for accent in ("en-us", "en-gb", "en-us-nyc", "en-029")
    for variant in ("m1", "m3", "m7", "f1", "f2", "f4", "Alex", "Andrea", "klatt2", "linda", "max")
)
# Most AN4 speakers are American; the other accents widen the vowels.
ACCENT_WEIGHTS = {"en-us": 5, "en-us-nyc": 2, "en-gb": 1, "en-029": 1}
SPEEDS = (110, 185)  # words per minute
PITCHES = (20, 80)  # espeak-ng's own scale, 0 to 99

COMMANDS = ("YES", "NO", "GO", "STOP", "START", "HELP", "REPEAT", "ENTER", "ERASE", "RUBOUT")
EDIT_COMMANDS = ("ENTER", "ERASE", "RUBOUT", "REPEAT")
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "OH")
UNITS = DIGITS[1:10]
TEENS = (
    "TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN EIGHTEEN NINETEEN".split()
)  # fmt: skip
TENS = "TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY".split()
MONTHS = (
    "JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER".split()
)
ORDINALS = (
    "FIRST SECOND THIRD FOURTH FIFTH SIXTH SEVENTH EIGHTH NINTH TENTH ELEVENTH TWELFTH THIRTEENTH "
    "FOURTEENTH FIFTEENTH SIXTEENTH SEVENTEENTH EIGHTEENTH NINETEENTH TWENTIETH THIRTIETH"
).split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPELLED = (
    "ADAMS ALBANY ANDERSON AUSTIN BAKER BALTIMORE BENNETT BOSTON BRADLEY BROOKLYN BUFFALO "
    "CAMPBELL CARTER CHARLES CHESTNUT CHICAGO CLARK COLEMAN COOPER DALLAS DENVER DETROIT "
    "DOUGLAS EDWARDS ELIZABETH EVANS FISHER FOSTER FRANKLIN GARCIA GEORGE GRAHAM HAMILTON "
    "HARRISON HENRY HIGHLAND HOUSTON HOWARD HUDSON JACKSON JENKINS JOSEPH KELLY KENNEDY "
    "KNIGHT LEWIS LINCOLN MAPLE MARGARET MARTIN MICHAEL MONROE MURPHY NEWARK OAKLAND OLIVER "
    "PATRICIA PETERSON PHOENIX QUINN REYNOLDS RICHMOND RIVERSIDE ROBERT RUSSELL SHADY SHERMAN "
    "SPENCER SPRING STEVENS SULLIVAN TAYLOR THOMPSON VICTOR WALNUT WARREN WASHINGTON WEBSTER "
    "WHEELER WILLIAM WRIGHT XAVIER YORK ZIMMERMAN"
).split()

# espeak-ng reads these as words or abbreviations; the phoneme input says the name of the letter.
SAID = {"A": "[[eI]]", "OH": "oh", "RUBOUT": "rub out"}


@dataclass(frozen=True)
class SyntheticUtterance:
    """One line to speak: transcript (upper case words), espeak-ng voice, speed (wpm), pitch."""

    id: str
    text: str
    voice: str
    speed: int
    pitch: int


def number(rng: random.Random) -> list[str]:
    """A cardinal below ten thousand as spoken, for example THREE THIRTY ONE."""
    two_digits = rng.choice(
        [[rng.choice(UNITS)], [rng.choice(TEENS)], [rng.choice(TENS)],
         [rng.choice(TENS), rng.choice(UNITS)]]
    )  # fmt: skip
    form = rng.randrange(5)
    if form == 0:
        return [rng.choice(UNITS), "HUNDRED", *(["AND", *two_digits] if rng.random() < 0.7 else [])]
    if form == 1:
        return [rng.choice(UNITS), "THOUSAND", *(two_digits if rng.random() < 0.5 else [])]
    if form == 2:
        return [rng.choice([*UNITS, *TEENS, *TENS]), *two_digits]
    return two_digits


def sentence(rng: random.Random) -> str:
    """One utterance of the census grammar."""
    form = rng.choices(range(6), weights=(24, 24, 22, 12, 10, 8))[0]
    if form == 0:
        words = list(rng.choice(SPELLED))
    elif form == 1:
        words = [rng.choice(DIGITS) for _ in range(rng.randint(3, 7))]
    elif form == 2:
        letters = [rng.choice(LETTERS) for _ in range(rng.randint(3, 5))]
        lead = [rng.choice(EDIT_COMMANDS)] if rng.random() < 0.5 else []
        words = [*lead, *letters, *number(rng)]
    elif form == 3:
        day = [rng.choice(ORDINALS)] if rng.random() < 0.7 else ["TWENTY", rng.choice(ORDINALS[:9])]
        year = ["NINETEEN", rng.choice(TENS), *([rng.choice(UNITS)] if rng.random() < 0.8 else [])]
        words = [rng.choice(MONTHS), *day, *year]
    elif form == 4:
        words = [*number(rng), *number(rng)]
    else:
        words = [rng.choice(COMMANDS)]
    return " ".join(words)


def sample(
    count: int, *, seed: int, prefix: str, exclude: frozenset[str] = frozenset()
) -> Iterator[SyntheticUtterance]:
    """Draw `count` utterances; texts in `exclude` never appear. Deterministic under `seed`."""
    rng = random.Random(seed)
    weights = [ACCENT_WEIGHTS[voice.split("+")[0]] for voice in VOICES]
    done = 0
    while done < count:
        text = sentence(rng)
        if text in exclude:
            continue
        yield SyntheticUtterance(
            id=f"{prefix}{done:04d}",
            text=text,
            voice=rng.choices(VOICES, weights)[0],
            speed=rng.randint(*SPEEDS),
            pitch=rng.randint(*PITCHES),
        )
        done += 1


def speak(utterance: SyntheticUtterance) -> Waveform:
    """What espeak-ng says, float32 (samples,) at 16 kHz."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise LpaError("espeak-ng was not found: install it (apt-get install espeak-ng)")
    said = " ".join(SAID.get(word, word.lower()) for word in utterance.text.split())
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "speech.wav"
        subprocess.run(
            [program, "-v", utterance.voice, "-s", str(utterance.speed),
             "-p", str(utterance.pitch), "-w", str(wav), said],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return load_audio(wav)


def synthesise(utterances: list[SyntheticUtterance], out: Path, *, overwrite: bool = False) -> Path:
    """Speak every utterance into `out` (FLAC files and manifest.jsonl) and return the manifest."""
    spoken = (
        (one.id, speak(one), one.text, one.voice)
        for one in tqdm(utterances, desc="espeak-ng", disable=None)
    )
    return write_utterances(out, spoken, overwrite=overwrite)


def demo_utterances(count: int = 48) -> list[SyntheticUtterance]:
    """The utterances of the shipped demo set."""
    return list(sample(count, seed=2016, prefix="demo"))


def training_utterances(count: int = 900) -> list[SyntheticUtterance]:
    """Synthetic training utterances; no demo text is among them."""
    held_out = frozenset(utterance.text for utterance in demo_utterances())
    return list(sample(count, seed=1991, prefix="train", exclude=held_out))


SETS = {"demo": demo_utterances, "train": training_utterances}


def main() -> None:
    """Command line of this script: which set, and where it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace an older set")
    parser.add_argument("--count", type=int, help="number of utterances (default: the set's own)")
    arguments = parser.parse_args()
    count = {} if arguments.count is None else {"count": arguments.count}
    print(synthesise(SETS[arguments.set](**count), arguments.out, overwrite=arguments.overwrite))


if __name__ == "__main__":
    main()
