"""How fast a recipe's teacher trains, and how long it waits for speech, by number of workers.

The recipe's own architecture with random weights, its speech and its augmentation, a number of
updates of the real loop. Run it from the repository's root:

    python tests/training/measure_speed.py recipes/an4-tiny.yaml [--updates 20] [--workers 0,2]

`audio-hours per hour` is speech trained on by the clock; `waiting` the share of that time in which
the loop had no batch; `making` the same batches, made and thrown away. Where there is a GPU, `busy`
is the mean of the device's own counter (nvidia-smi), asked every half second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

MADE = 300  # batches, so that starting the workers counts for little
COUNTER = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--workers", default="0,2", help="numbers of workers apart by commas")
    options = parser.parse_args()

    from lpa_export.cli import quiet_libraries

    quiet_libraries()
    import torch

    from lpa_export.targets.settings import load_recipe
    from lpa_export.training.batches import FirstBatches, SpeechBatches
    from lpa_export.training.stages import Trainer
    from lpa_export.training.teacher import CHARACTERS, augment, host_config

    recipe = load_recipe(options.recipe)
    if recipe.model.architecture is None:
        raise SystemExit("a recipe with an architecture of its own is needed")
    settings, speech = recipe.teacher, Trainer(recipe).speech
    config = host_config(recipe.model.architecture)
    started = time.monotonic()
    data = speech.of(speech.training, CHARACTERS, 400, settings.speeds)
    print(
        f"{len(data)} recordings at {len(settings.speeds)} speeds read in "
        f"{time.monotonic() - started:.1f} s; {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, GPU: {torch.cuda.is_available()}"
    )
    source = SpeechBatches(data, settings.batch_seconds, settings.seed, settings.noise_share)
    few = FirstBatches(source, options.updates)
    columns = ("workers", "making", "audio-hours per hour", "waiting", "busy")
    print(f"| {' | '.join(columns)} |\n|{' ---: |' * len(columns)}")
    for workers in map(int, options.workers.split(",")):
        torch.manual_seed(0)
        model = _model(config)
        augment(model, settings)
        making = _making(FirstBatches(source, MADE), workers)
        line, busy = _measured(model, few, recipe, workers)
        cells = (
            str(workers),
            f"{making:,.0f}",
            f"{line['audio_hours_per_hour']:,.0f}",
            f"{line['waiting_share']:.1%}",
            "" if busy is None else f"{busy:.0f} %",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def _making(source: Any, workers: int) -> float:
    """Audio-hours per hour of batches that nobody uses."""
    from lpa_export.training.ahead import Place, batches

    places = [Place(0, number, members) for number, members in enumerate(source.plan(0))]
    started = time.monotonic()
    seconds = sum(batch.seconds for batch in batches(source, places, workers))
    return seconds / (time.monotonic() - started)


def _model(config: Any) -> Any:
    from transformers import Wav2Vec2ForCTC

    return Wav2Vec2ForCTC(config)


def _measured(
    model: Any, source: Any, recipe: Any, workers: int
) -> tuple[dict[str, float], float | None]:
    """The line of the epoch, and the mean of the GPU's counter."""
    from lpa_export.training.loop import Conduct, Settings, optimise
    from lpa_export.training.losses import teacher_loss
    from lpa_export.training.records import read_log

    training = recipe.training
    loop = Settings(
        epochs=1,
        learning_rate=recipe.teacher.learning_rate,
        seed=0,
        precision=training.precision,
        optimizer=training.optimizer,
    )
    counted: list[float] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(counted, done))
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        optimise(
            model,
            lambda batch, share: teacher_loss(model, batch, recipe.teacher.intermediate_ctc),
            source,
            loop,
            Path(folder),
            conduct=Conduct(workers=workers),
        )
        (line,) = read_log(Path(folder))
    done.set()
    watcher.join()
    return line, sum(counted) / len(counted) if counted else None


def _watch(counted: list[float], done: threading.Event) -> None:
    while not done.wait(0.5):
        try:
            said = subprocess.run(COUNTER, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        counted.append(float(said.splitlines()[0]))


if __name__ == "__main__":
    main()
