"""What a narrower beam costs in other texts, and what a search costs in time.

    python tests/decoding/measure_search.py --bundle build/an4-tiny-6of6/onnx \\
        --lm an4.arpa.gz --data AN4/dev.jsonl

Logits are computed once; each beam searches all of them in this process. The first is what the
others are compared with. CPU time is that of the searches alone, for each second of audio.
"""

import argparse
import time
from pathlib import Path

from lpa_export.environment import quiet_libraries


def main() -> None:
    """Print a row for each beam."""
    quiet_libraries()
    from lpa_export.commands.sound_files import runner_of
    from lpa_export.decoding.beam import BeamSearch
    from lpa_export.decoding.settings import Settings
    from lpa_export.formats.audio import SAMPLE_RATE, load_audio
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.formats.speech import load_utterances
    from lpa_export.formats.text import Vocabulary, path_text
    from lpa_export.runtimes import pad

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--beams", type=int, nargs="+", default=[128, 64, 32, 16, 8])
    given = parser.parse_args()

    bundle = open_bundle(given.bundle)
    vocabulary = Vocabulary.read(bundle.file(bundle.manifest.vocabulary.file))
    runner = runner_of(bundle, bundle.manifest.target)
    waveforms = [load_audio(item.audio) for item in load_utterances(given.data)]
    logits = [runner.run(*pad([waveform]))[0] for waveform in waveforms]
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    widest = None
    for beam in given.beams:
        search = BeamSearch(vocabulary, Settings(given.lm, beam=beam))
        started = time.process_time()
        texts = [path_text(search.path(item), vocabulary) for item in logits]
        spent = 1000 * (time.process_time() - started) / seconds
        widest = widest or texts
        others = sum(text != best for text, best in zip(texts, widest, strict=True))
        print(f"beam {beam:>4}: {others} of {len(texts)} texts differ, {spent:.0f} ms a second")


if __name__ == "__main__":
    main()
