"""lpa-transcribe: sound files in, text out, from a bundle or from the model in torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.cli import COULD_NOT_RUN, PASSED, describe, print_error, run_command
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    import numpy as np

    from lpa_export.formats.audio import Waveform
    from lpa_export.formats.bundle import Bundle
    from lpa_export.formats.text import Vocabulary, Word

__all__ = ["Transcript", "main", "transcribe"]

PROG = "lpa-transcribe"
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Transcript:
    """What was heard in one file; `duration` and the times of the words are in seconds.

    `missing_seconds`: what the file's header promises and the file does not hold, 0 mostly.
    """

    file: Path
    text: str
    words: tuple[Word, ...]
    duration: float
    missing_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, times in whole milliseconds."""
        words = [
            {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in self.words
        ]
        return {
            "file": str(self.file),
            "text": self.text,
            "words": words,
            "duration": round(self.duration, 3),
            "missing_seconds": round(self.missing_seconds, 3),
        }


@dataclass(frozen=True)
class _Recogniser:
    """A model, ready to run; all numbers are in samples. `max_samples` None: any length."""

    logits: Callable[[Waveform], np.ndarray]
    vocabulary: Vocabulary
    hop: int
    min_samples: int
    max_samples: int | None = None


def transcribe(
    files: Sequence[str | Path],
    *,
    target: str = "onnx",
    bundle: str | Path | None = None,
    checkpoint: str | Path | None = None,
    language: str | None = None,
    refused: Callable[[Path, LpaError], None] | None = None,
) -> tuple[Transcript, ...]:
    """Greedy CTC transcripts of sound files of any rate and channel count, in their order.

    A file called "-" is read from standard input. `target` "torch" runs a checkpoint (folder or
    hub id), by default the model that ships with the package, and of several languages the one of
    `language`; any other runs a bundle, by default the one under build/. Core ML programs run in
    the evaluator that validation runs them in. `refused` is told of each file that cannot be
    transcribed, and the others are; without it the first such file ends the call.

    Raises LpaError for a bundle, checkpoint or file that cannot be used.
    """
    from tqdm import tqdm

    model = _open(target, bundle, checkpoint, language)
    paths = [Path(file) for file in files]
    if [str(path) for path in paths].count(STANDARD_INPUT) > 1:
        raise LpaError("standard input (-) can be read once only; name it once")
    found = []
    for path in tqdm(paths, disable=None, leave=False, unit="file", desc=PROG):
        try:
            found.append(_transcript(path, model))
        except LpaError as error:
            if refused is None:
                raise
            refused(path, error)
    return tuple(found)


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the arguments of :func:`transcribe`, and how to print."""
    from lpa_export.targets import known_targets

    describe(
        parser,
        "Transcribe speech with an exported bundle, or with the model in torch. Files that cannot "
        "be read are listed, the others are transcribed, and the exit code is 2 then.",
        examples=(
            f"{PROG} talk.wav",
            f"ffmpeg -i talk.mp4 -f wav - | {PROG} --target coreml --json -",
        ),
        interrupted="files that were not transcribed yet have no text",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="WAV, FLAC, Ogg or MP3; - is standard input"
    )
    parser.add_argument(
        "--target",
        default="onnx",
        metavar="NAME",
        help=f"{', '.join(known_targets())} or torch (default: onnx; coreml is emulated)",
    )
    parser.add_argument(
        "--bundle", metavar="DIR", help="the bundle to run (default: the one under build/)"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help="with --target torch: the model (default: the one that ships with lpa-export)",
    )
    parser.add_argument(
        "--language", metavar="CODE", help="with --checkpoint: which of its languages (MMS)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the times of words")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    refused: dict[Path, str] = {}

    def refuse(path: Path, error: LpaError) -> None:
        refused[path] = str(error)
        print_error(PROG, str(error))

    transcripts = transcribe(
        arguments.files,
        target=arguments.target,
        bundle=arguments.bundle,
        checkpoint=arguments.checkpoint,
        language=arguments.language,
        refused=refuse,
    )
    if arguments.json:
        entries = [transcript.to_json() for transcript in transcripts]
        entries += [{"file": str(path), "error": error} for path, error in refused.items()]
        print(json.dumps(entries, ensure_ascii=False, indent=1))
    else:
        for transcript in transcripts:
            name = f"{transcript.file}: " if len(arguments.files) > 1 else ""
            print(f"{name}{transcript.text}")
    return COULD_NOT_RUN if refused else PASSED


def _transcript(path: Path, model: _Recogniser) -> Transcript:
    from lpa_export.formats.audio import SAMPLE_RATE, read_audio, require_frames, require_within
    from lpa_export.formats.text import greedy_text, word_times

    if str(path) == STANDARD_INPUT:
        name = "standard input"
        recording = read_audio(sys.stdin.buffer.read(), name=name)
    else:
        name = str(path)
        recording = read_audio(path)
    waveform = recording.waveform
    require_frames(waveform, model.min_samples, name)
    if model.max_samples is not None:
        require_within(waveform, model.max_samples, name)
    seconds = len(waveform) / SAMPLE_RATE
    try:
        logits = model.logits(waveform)
    except Exception as error:  # runtimes raise their own types, mostly when memory ends
        raise LpaError(
            f"{name}: the model broke on {seconds:.1f} s of audio ({error}); split the recording"
        ) from error
    words = word_times(logits, model.vocabulary, hop_seconds=model.hop / SAMPLE_RATE)
    text = greedy_text(logits, model.vocabulary)
    return Transcript(path, text, tuple(words), seconds, recording.missing_seconds)


def _open(
    target: str, bundle: str | Path | None, checkpoint: str | Path | None, language: str | None
) -> _Recogniser:
    """The model of `target`. Raises LpaError for a source that belongs to the other kind."""
    from lpa_export.formats.bundle import default_bundle
    from lpa_export.targets import known_targets

    if target == "torch":
        if bundle is not None:
            raise LpaError("--bundle goes with an exported target; torch takes --checkpoint")
        return _open_torch(checkpoint, language)
    if target not in known_targets():
        raise LpaError(f"unknown target {target!r}; known: {', '.join(known_targets())}, torch")
    if checkpoint is not None:
        raise LpaError(f"--checkpoint goes with --target torch; {target} takes --bundle")
    if language is not None:
        raise LpaError("--language goes with --checkpoint; a bundle has the one it was made for")
    return _open_bundle(target, default_bundle(target) if bundle is None else Path(bundle))


def _open_bundle(target: str, folder: Path) -> _Recogniser:
    """A bundle in the runner that validation runs it in."""
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.formats.text import Vocabulary
    from lpa_export.runtimes import ArtifactError, pad
    from lpa_export.targets import target_named

    bundle = open_bundle(folder)
    _require_sound(bundle, target)
    manifest = bundle.manifest
    try:
        runner = target_named(target).runner_class()(bundle)
    except ArtifactError as error:
        raise LpaError(f"{folder}: {error}; export the bundle again") from error
    return _Recogniser(
        logits=lambda waveform: runner.run(*pad([waveform]))[0],
        vocabulary=Vocabulary.read(bundle.file(manifest.vocabulary.file)),
        hop=manifest.frames.hop,
        min_samples=runner.min_samples,
        max_samples=runner.max_samples,
    )


def _require_sound(bundle: Bundle, target: str) -> None:
    """Raise LpaError for a bundle of another target or with files that are not as exported."""
    from lpa_export.formats.bundle import damaged_files

    found = bundle.manifest.target
    if found != target:
        raise LpaError(f"{bundle.path}: a bundle for target {found!r}, expected {target!r}")
    if damaged := damaged_files(bundle):
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise LpaError(f"{bundle.path}: damaged: {damaged[0]}{more}; export the bundle again")


def _open_torch(source: str | Path | None, language: str | None) -> _Recogniser:
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.hosts.frames import FrameArithmetic
    from lpa_export.runtimes.torch import TorchReference

    checkpoint = load_checkpoint(source, language=language)
    frames = FrameArithmetic.of(checkpoint.model.config)
    return _Recogniser(
        logits=TorchReference(checkpoint).logits,
        vocabulary=checkpoint.vocabulary,
        hop=frames.hop,
        min_samples=frames.receptive_field,
    )
