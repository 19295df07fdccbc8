"""What a long recording costs in words: one pass against pieces, beside the clips one by one.

    python tests/runtimes/measure_long.py --bundle build/an4-tiny-6of6/onnx \\
        --data AN4/dev.jsonl --minutes 0.5 1 4 10

Clips are joined as they are and in the order of the data, again from the first where they end,
until the recording is as long as asked; speakers that stand together in the data stay together.
Words are aligned over the whole recording, so a word that a seam lost or doubled counts.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np

from lpa_export.environment import quiet_libraries


def recording(clips: Sequence[tuple[np.ndarray, str]], minutes: float) -> tuple[np.ndarray, str]:
    """A waveform of about so many minutes, and its words."""
    from lpa_export.formats.audio import SAMPLE_RATE

    parts: list[np.ndarray] = []
    words: list[str] = []
    for waveform, text in itertools.cycle(clips):
        parts.append(waveform)
        words.append(text)
        if sum(map(len, parts)) >= minutes * 60 * SAMPLE_RATE:
            break
    return np.concatenate(parts), " ".join(words)


def main() -> None:
    """Print a row for each length."""
    quiet_libraries()
    from lpa_export.commands.transcribe import transcribe
    from lpa_export.formats.audio import load_audio, write_flac
    from lpa_export.formats.speech import load_utterances

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 1, 4, 10, 30, 60])
    parser.add_argument("--cuts", nargs="+", default=["never", "30", "20", "10"])
    parser.add_argument("--folder", type=Path, default=Path("build/long"))
    given = parser.parse_args()

    utterances = load_utterances(given.data)
    clips = [(load_audio(item.audio), item.text) for item in utterances]
    alone = transcribe([item.audio for item in utterances], bundle=given.bundle, cut="never")
    heard = {str(item.audio): found.text for item, found in zip(utterances, alone, strict=True)}
    rate = jiwer.wer([text for _, text in clips], [heard[str(u.audio)] for u in utterances])
    print(f"clips one by one: WER {100 * rate:.2f} %, {len(clips)} clips")
    given.folder.mkdir(parents=True, exist_ok=True)
    for minutes in given.minutes:
        waveform, words = recording(clips, minutes)
        place = given.folder / f"{minutes:g}.flac"
        write_flac(place, waveform)
        for cut in given.cuts:
            started = time.monotonic()
            try:
                (found,) = transcribe([place], bundle=given.bundle, cut=cut)
            except Exception as error:
                print(f"{minutes:5g} min, cut {cut:>5}: {error}", flush=True)
                continue
            seconds = time.monotonic() - started
            rate = jiwer.wer(words, found.text)
            print(
                f"{minutes:5g} min, cut {cut:>5}: WER {100 * rate:6.2f} %, {len(found.seams)} "
                f"seams, {seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
