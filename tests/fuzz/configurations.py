"""Drawn checkpoints through the reference and the targets, held against transformers' pipeline.

    python -m tests.fuzz.configurations --count 1000 --target onnx --log build/fuzz/onnx.jsonl

A seed whose line stands in the log is not drawn again, so a run that was stopped goes on where it
was. Exit code 1 when a text differs, an export breaks, or a refusal is no single line.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from lpa_export.cli import count, names
from lpa_export.environment import quiet_libraries
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.text import Vocabulary, greedy_text
from lpa_export.runtimes import pad
from tests.fuzz.drawing import Drawn, draw
from tests.fuzz.logs import Case, Log
from tests.torchlib import one_torchlib

__all__ = ["REFERENCE", "main", "outcomes"]

REFERENCE = "reference"
_FLIPPED_SHARE = 0.05
"""Of a clip's frames, those that an edge of a hard gate may move where layers are replaced."""

SETTINGS: dict[str, dict[str, Any]] = {"coreml": {"buckets": (2.0,)}}
"""Of an export: no waveform is longer than 1.5 s, and short strides make many frames of 30."""

TOLERANCE = {REFERENCE: 1e-3, "onnx": 1e-3, "executorch": 1e-3, "coreml": 0.1}
"""Largest difference of a logit, in standard deviations of all; Core ML counts in 16 bits."""


def outcomes(seed: int, targets: Sequence[str], folder: Path) -> list[Case]:
    """The checkpoint of that seed in each target; ``folder`` is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    drawn = draw(seed, folder / "drawn")
    expected, text = _logits(drawn), drawn.said()
    found = []
    for target in targets:
        started = time.monotonic()
        try:
            heard = [_reference(drawn)] if target == REFERENCE else [_artifact(drawn, target)]
            if target == REFERENCE:
                heard.append(_loaded(drawn))
            verdict, said = _judge(heard, expected, text, target, bool(drawn.choices["replaced"]))
        except LpaError as error:
            verdict, said = "refused", str(error).replace(str(folder), "")
        except Exception as error:  # whatever it is, it is no line for a user
            verdict, said = "wrong", f"{type(error).__name__}: {error}"
        seconds = round(time.monotonic() - started, 2)
        choices = json.dumps(drawn.choices)
        found.append(Case(seed, target, verdict, said, seconds, choices))
    return found


def _logits(drawn: Drawn) -> np.ndarray:
    inputs = drawn.extractor(drawn.waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits: np.ndarray = drawn.model(inputs.input_values).logits[0].numpy()
    return logits


def _reference(drawn: Drawn) -> tuple[np.ndarray, str]:
    """As validation reads the folder."""
    from lpa_export.runtimes.torch import OriginalModel

    model = OriginalModel(drawn.folder)
    logits = model.logits(drawn.waveform)
    return logits, model.text(logits)


def _loaded(drawn: Drawn) -> tuple[np.ndarray, str]:
    """As the exporter reads the folder."""
    from lpa_export.runtimes.torch import TorchReference

    checkpoint = load_checkpoint(drawn.folder)
    logits = TorchReference(checkpoint).logits(drawn.waveform)
    return logits, greedy_text(logits, checkpoint.vocabulary)


def _artifact(drawn: Drawn, target: str) -> tuple[np.ndarray, str]:
    """Exported, opened and run as lpa-transcribe does."""
    from lpa_export.commands.export import export
    from lpa_export.targets import target_named

    out = drawn.folder.with_name(target)
    export(target=target, checkpoint=drawn.folder, out=out, **SETTINGS.get(target, {}))
    bundle = open_bundle(out)
    runner = target_named(target).runner_class()(bundle)
    logits = runner.run(*pad([drawn.waveform]))[0]
    vocabulary = Vocabulary.read(bundle.file(bundle.manifest.vocabulary.file))
    return logits, greedy_text(logits, vocabulary)


def _judge(
    heard: Iterable[tuple[np.ndarray, str]],
    expected: np.ndarray,
    text: str,
    target: str,
    replaced: bool,
) -> tuple[str, str]:
    tolerance = TOLERANCE[target] * float(expected.std())
    verdict = "same"
    for logits, said in heard:
        if logits.shape != expected.shape:
            return "wrong", f"logits {logits.shape}, expected {expected.shape}"
        far = np.abs(logits - expected).max(axis=1) > tolerance
        if far.mean() > (_FLIPPED_SHARE if replaced else 0):
            worst = float(np.abs(logits - expected).max())
            return "wrong", f"{far.sum()} of {len(far)} frames differ, by up to {worst:.3g}"
        if said != text:
            moved = logits.argmax(-1) != expected.argmax(-1)
            best = np.sort(expected, axis=1)[:, -2:]
            close = best[:, 1] - best[:, 0] < 2 * tolerance
            if not moved.any() or not (close | far)[moved].all():
                return "wrong", f"says {said!r}, transformers {text!r}"
            verdict = "tie"
    return verdict, ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--target", type=names, default=(REFERENCE,), help="reference, or targets, as a,b"
    )
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=count, default=1000, metavar="N")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    quiet_libraries()
    disable_progress_bar()
    torch.set_num_threads(1)
    one_torchlib()
    log = Log(arguments.log)
    targets = arguments.target
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(arguments.first, arguments.first + arguments.count):
            missing = [target for target in targets if not log.has(seed, target)]
            if missing:
                log.add(outcomes(seed, missing, Path(scratch) / "seed"))
    return log.print()


if __name__ == "__main__":
    sys.exit(main())
