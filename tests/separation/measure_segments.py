"""What hearing a recording in segments costs beside one pass: half a minute of each test
speaker, at every ratio.

python tests/separation/measure_segments.py --checkpoint TEACHER --recipe RECIPE
"""

import argparse
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

import numpy as np

from lpa_export.formats.audio import load_audio
from lpa_export.formats.mixing import Draw, mixed
from lpa_export.formats.separation_recipe import load_separation_recipe
from lpa_export.formats.separator import load_separator
from lpa_export.formats.speech import load_utterances
from lpa_export.measures.bootstrap import mean_difference
from lpa_export.measures.separation import si_snr_db, snr_db
from lpa_export.runtimes.separation.segments import (
    OVERLAP_SECONDS,
    SEGMENT_SECONDS,
    cut_segments,
    joined_segments,
)
from lpa_export.runtimes.separation.torch import SeparatorReference

SECONDS = 30
RATIOS = (-5.0, 0.0, 5.0, 10.0, 15.0)


def main() -> None:
    """Print a line per mixture, then the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    arguments = parser.parse_args()
    model = load_separator(arguments.checkpoint).model
    rate, separate = model.config.sampling_rate, SeparatorReference(model).sources
    data = load_separation_recipe(arguments.recipe).data
    assert data.test is not None
    spoken: dict[str, list[np.ndarray]] = {}
    for item in load_utterances(data.test):
        spoken.setdefault(item.speaker or item.id, []).append(
            load_audio(item.audio, sample_rate=rate)
        )
    noise = [
        item.audio
        for item in load_utterances(data.noise.manifest, transcribed=False)
        if any(fnmatchcase(item.audio.as_posix(), pattern) for pattern in data.noise.test)
    ]
    samples, overlap = SECONDS * rate, round(OVERLAP_SECONDS * rate)
    segments = cut_segments(samples, round(SEGMENT_SECONDS * rate), overlap)
    found = []
    drawn = list(product(sorted(spoken.items()), RATIOS))
    for number, ((speaker, clips), ratio) in enumerate(drawn):
        path = noise[number * len(noise) // len(drawn)]
        draw = Draw(0, 0, 0, 0, ratio, -25.0)
        heard = load_audio(path, sample_rate=rate)
        mixture, speech = mixed(np.concatenate(clips), heard, draw, samples)
        whole = separate(mixture)[:, 0]
        cut = joined_segments(mixture, segments, overlap, separate)[:, 0]
        before = si_snr_db(speech, mixture)
        row = (si_snr_db(speech, whole) - before, si_snr_db(speech, cut) - before)
        found.append((*row, snr_db(whole, cut)))
        print(
            f"{speaker:>16} {path.stem:<28} {draw.snr_db:3g} dB: one pass {row[0]:.2f}, segments "
            f"{row[1]:.2f} dB of SI-SNRi; {found[-1][2]:.1f} dB between them",
            flush=True,
        )
    whole_gain, cut_gain, between = (list(part) for part in zip(*found, strict=True))
    interval = mean_difference(cut_gain, whole_gain)
    print(
        f"{len(found)} mixtures: {np.mean(whole_gain):.2f} dB in one pass, {np.mean(cut_gain):.2f} "
        f"in segments: {np.mean(cut_gain) - np.mean(whole_gain):+.3f} dB, 95 % interval "
        f"{interval.low:+.3f} to {interval.high:+.3f}; {np.mean(between):.1f} dB between them"
    )


if __name__ == "__main__":
    main()
