"""Every stage of the wav2vec2-base recipe for a few steps: sweep, then replacement of two layers.

The real configuration with random weights, a LibriSpeech folder of a few clips. It proves that the
stages run at this size and says what they cost; its error rates mean nothing. Run it from the
repository's root:

    python tests/training/measure_wav2vec2_base_stages.py LIBRISPEECH_DIR [--steps 2] [--layers 2]

It wants some 4 GB of memory. Each stage runs in a process of its own, whose peak memory is the
system's own count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """\
name: wav2vec2-base-stages
data: {{train: [{speech}], dev: {speech}}}
model: {{checkpoint: {checkpoint}}}
teacher: {{time_mask_probability: 0.05, time_mask_length: 10, speeds: [1.0], noise_share: 0}}
lpa: {{layers: [0, 1, 2, 3, 4, 5, 6, 7]}}
sweep: {{steps: {steps}, batch_seconds: 20, seconds: 40}}
replace:
  initialise: attention
  epochs_per_layer: 1
  joint_epochs: 1
  joint_learning_rate: 5.0e-5
  batch_seconds: 20
"""


def main() -> None:
    """Run the stages and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="a LibriSpeech folder with a few clips")
    parser.add_argument("--steps", type=int, default=2, help="steps of the sweep")
    parser.add_argument("--layers", type=int, default=2, help="layers to replace")
    parser.add_argument("--step", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        sys.exit(_run(options.step))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint, recipe = folder / "teacher", folder / "stages.yaml"
        speech = options.speech.resolve()
        recipe.write_text(
            RECIPE.format(speech=speech, checkpoint=checkpoint, steps=options.steps), "utf-8"
        )
        _save_base(checkpoint)
        stages = {
            "sweep": ["--out", str(folder / "sweep")],
            "replace": [
                *("--out", str(folder / "replace"), "--sweep", str(folder / "sweep")),
                *("--layers", f"auto:{options.layers}"),
            ],
        }
        print("| stage | s | peak MB |\n| --- | ---: | ---: |")
        for stage, flags in stages.items():
            figures = _measure(speech, [stage, "--recipe", str(recipe), *flags])
            print(f"| {stage} | {figures['seconds']:.0f} | {figures['peak_mb']:.0f} |", flush=True)
        trained = json.loads((folder / "replace" / "checkpoint" / "config.json").read_text())
        print(f"layers replaced: {trained['lpa']['layers']}")


def _save_base(folder: Path) -> None:
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    from lpa_export.formats.checkpoint import save_checkpoint
    from lpa_export.formats.text import Vocabulary

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    vocabulary = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", "'", *letters))
    torch.manual_seed(0)
    save_checkpoint(folder, Wav2Vec2ForCTC(Wav2Vec2Config()).eval(), vocabulary, None)


def _measure(speech: Path, arguments: list[str]) -> dict[str, float]:
    """`lpa-train` with these arguments in a fresh process."""
    command = [sys.executable, __file__, str(speech), "--step", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _run(arguments: list[str]) -> int:
    from lpa_export.commands.train import main as train

    started = time.monotonic()
    code = train(arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.monotonic() - started, "peak_mb": peak}))
    return code


if __name__ == "__main__":
    main()
