"""lpa-transcribe: sound files in, text out, from a bundle or from the model in torch."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.cli import describe, run_command
from lpa_export.commands.sound_files import Refuse, for_each, print_all, require_target, runner_of
from lpa_export.errors import LpaError, LpaWarning

if TYPE_CHECKING:
    import numpy as np

    from lpa_export.formats.audio import Waveform
    from lpa_export.formats.manifest import Frames
    from lpa_export.formats.text import Vocabulary, Word
    from lpa_export.runtimes.pieces import Piece

__all__ = ["Transcript", "main", "transcribe"]

PROG = "lpa-transcribe"
STANDARD_INPUT = "-"

AUTO_SECONDS = 20.0
"""A recording that is longer is cut by `--cut auto`, even where it would fit in one pass."""

_LONG_SECONDS = 60.0
"""From here on a recording has a progress bar of its own."""


@dataclass(frozen=True)
class Transcript:
    """What was heard in one file; all times are in seconds.

    `missing_seconds`: what the file's header promises and the file does not hold, 0 mostly.
    `seams`: where the recording was cut, since it was too long for one pass.
    """

    file: Path
    text: str
    words: tuple[Word, ...]
    duration: float
    missing_seconds: float = 0.0
    seams: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, times in whole milliseconds; `seams` only where there are some."""
        words = [
            {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in self.words
        ]
        content = {
            "file": str(self.file),
            "text": self.text,
            "words": words,
            "duration": round(self.duration, 3),
            "missing_seconds": round(self.missing_seconds, 3),
        }
        seams = [round(seam, 3) for seam in self.seams]
        return content | ({"seams": seams} if seams else {})


@dataclass(frozen=True)
class _Recogniser:
    """A model, ready to run; all numbers are in samples. `max_samples` None: any length.

    `require_memory`: raises LpaError where so many seconds of a recording of that name are too
    much for this machine.
    """

    logits: Callable[[Waveform], np.ndarray]
    vocabulary: Vocabulary
    frames: Frames
    min_samples: int
    max_samples: int | None = None
    require_memory: Callable[[float, str], None] = lambda seconds, name: None


def transcribe(
    files: Sequence[str | Path],
    *,
    target: str = "onnx",
    bundle: str | Path | None = None,
    checkpoint: str | Path | None = None,
    language: str | None = None,
    cut: str | float = "auto",
    lm: str | Path | None = None,
    lm_weight: float | None = None,
    word_score: float | None = None,
    beam: int | None = None,
    refused: Refuse | None = None,
) -> tuple[Transcript, ...]:
    """CTC transcripts of sound files of any rate, channel count and length, in their order.

    A file called "-" is read from standard input. `target` "torch" runs a checkpoint (folder or
    hub id), by default the model that ships with the package, and of several languages the one of
    `language`; any other runs a bundle, by default the one under build/. Core ML programs run in
    the evaluator that validation runs them in. `cut`: where a long recording is cut at its quietest
    moments into pieces that overlap: "auto" into pieces of AUTO_SECONDS, "never" (what the artifact
    does not take in one pass is refused), or a number of seconds; never longer pieces than the
    artifact takes. Texts are greedy, or with `lm`, an ARPA file, those of a beam search with it;
    the three after it are as in `lpa_export.decoding.settings`. `refused` is told of each file that
    cannot be transcribed, and the others are; without it the first such file ends the call.

    Raises LpaError for a bundle, checkpoint, language model or file that cannot be used.
    """
    from lpa_export.decoding.language_model import open_decoder
    from lpa_export.decoding.settings import Settings
    from lpa_export.formats.audio import SAMPLE_RATE

    longest = _longest(cut)
    settings = Settings.of(lm, lm_weight=lm_weight, word_score=word_score, beam=beam)
    model = _open(target, bundle, checkpoint, language)
    if cut != "auto" and longest and model.max_samples and longest > model.max_samples:
        most = model.max_samples / SAMPLE_RATE
        said = f"pieces are of {most:.3g} s at most: this artifact takes no more"
        warnings.warn(said, LpaWarning, stacklevel=2)
    decode = open_decoder(settings, model.vocabulary)
    paths = [Path(file) for file in files]
    if [str(path) for path in paths].count(STANDARD_INPUT) > 1:
        raise LpaError("standard input (-) can be read once only; name it once")
    return for_each(paths, lambda path: _transcript(path, model, decode, longest), refused, PROG)


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the arguments of :func:`transcribe`, and how to print."""
    from lpa_export.decoding.settings import add_flags
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
    parser.add_argument(
        "--cut",
        default="auto",
        metavar="auto|never|SECONDS",
        help="cut long recordings at their quietest moments, into pieces of so many seconds "
        f"(auto: {AUTO_SECONDS:g}); times go on across the seams",
    )
    add_flags(parser)
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with the times of words and seams"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.decoding.settings import given_flags

    several = len(arguments.files) > 1
    return print_all(
        PROG,
        lambda refuse: transcribe(
            arguments.files,
            target=arguments.target,
            bundle=arguments.bundle,
            checkpoint=arguments.checkpoint,
            language=arguments.language,
            cut=arguments.cut,
            **given_flags(arguments),
            refused=refuse,
        ),
        Transcript.to_json if arguments.json else None,
        lambda item: f"{item.file}: {item.text}" if several else item.text,
    )


def _longest(cut: str | float) -> int | None:
    """Samples of the longest piece that `cut` asks for; None: no cutting.

    Raises LpaError for anything else than auto, never or a positive number of seconds.
    """
    from lpa_export.formats.audio import SAMPLE_RATE

    if cut == "never":
        return None
    try:
        seconds = AUTO_SECONDS if cut == "auto" else float(cut)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise LpaError(f"--cut must be auto, never or a number of seconds, found {cut!r}")
    return round(seconds * SAMPLE_RATE)


def _transcript(
    path: Path,
    model: _Recogniser,
    decode: Callable[[np.ndarray], np.ndarray],
    longest: int | None,
) -> Transcript:
    from lpa_export.formats.audio import SAMPLE_RATE, read_audio, require_frames, require_within
    from lpa_export.formats.text import path_text, path_words
    from lpa_export.runtimes.pieces import cut_pieces, logits_in_pieces

    most = math.inf if longest is None else longest / SAMPLE_RATE
    piped = str(path) == STANDARD_INPUT
    name = "standard input" if piped else str(path)
    recording = read_audio(
        sys.stdin.buffer.read() if piped else path,
        name=name,
        ahead=lambda seconds: model.require_memory(min(seconds, most), name),
    )
    waveform = recording.waveform
    require_frames(waveform, model.min_samples, name)
    if longest is None and model.max_samples is not None:
        require_within(waveform, model.max_samples, name)
    seconds = len(waveform) / SAMPLE_RATE
    whole = len(waveform) if longest is None else longest
    pieces = cut_pieces(
        waveform, longest=min(whole, model.max_samples or whole), frames=model.frames
    )
    hop = model.frames.hop
    try:
        logits = logits_in_pieces(
            waveform, _shown(pieces, seconds, name), hop=hop, logits=model.logits
        )
    except Exception as error:  # runtimes raise their own types, mostly when memory ends
        longest_piece = max(end - start for start, end in (piece.samples for piece in pieces))
        raise LpaError(
            f"{name}: the model broke on {longest_piece / SAMPLE_RATE:.1f} s of audio ({error}); "
            "give shorter pieces (--cut SECONDS)"
        ) from error
    spoken = decode(logits)
    return Transcript(
        path,
        path_text(spoken, model.vocabulary),
        tuple(path_words(spoken, model.vocabulary, hop_seconds=hop / SAMPLE_RATE)),
        seconds,
        recording.missing_seconds,
        tuple(piece.frames[0] * hop / SAMPLE_RATE for piece in pieces[1:]),
    )


def _shown(pieces: Sequence[Piece], seconds: float, name: str) -> Iterator[Piece]:
    """The pieces; those of a long recording move a bar of seconds, with the time that remains."""
    from tqdm import tqdm

    from lpa_export.formats.audio import SAMPLE_RATE

    # A terminal only, as everywhere (None); a short recording has none in any case.
    hidden = None if seconds > _LONG_SECONDS and len(pieces) > 1 else True
    form = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    done = 0.0
    with tqdm(total=seconds, disable=hidden, leave=False, desc=name, bar_format=form) as bar:
        for piece in pieces:
            yield piece
            bar.update(min(piece.samples[1] / SAMPLE_RATE, seconds) - done)
            done = piece.samples[1] / SAMPLE_RATE


def _open(
    target: str, bundle: str | Path | None, checkpoint: str | Path | None, language: str | None
) -> _Recogniser:
    """The model of `target`. Raises LpaError for a source that belongs to the other kind."""
    from lpa_export.formats.bundle import default_bundle

    if target == "torch":
        if bundle is not None:
            raise LpaError("--bundle goes with an exported target; torch takes --checkpoint")
        return _open_torch(checkpoint, language)
    require_target(target, checkpoint)
    if language is not None:
        raise LpaError("--language goes with --checkpoint; a bundle has the one it was made for")
    return _open_bundle(target, default_bundle(target) if bundle is None else Path(bundle))


def _open_bundle(target: str, folder: Path) -> _Recogniser:
    """A bundle in the runner that validation runs it in."""
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.formats.text import Vocabulary
    from lpa_export.runtimes import pad
    from lpa_export.runtimes.memory import require_memory

    bundle = open_bundle(folder)
    runner, manifest = runner_of(bundle, target), bundle.manifest
    return _Recogniser(
        logits=lambda waveform: runner.run(*pad([waveform]))[0],
        vocabulary=Vocabulary.read(bundle.file(manifest.vocabulary.file)),
        frames=manifest.frames,
        min_samples=runner.min_samples,
        max_samples=runner.max_samples,
        require_memory=lambda seconds, name: require_memory(manifest, seconds, name),
    )


def _open_torch(source: str | Path | None, language: str | None) -> _Recogniser:
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.formats.manifest import Frames
    from lpa_export.hosts.frames import FrameArithmetic
    from lpa_export.runtimes.torch import TorchReference

    checkpoint = load_checkpoint(source, language=language)
    frames = Frames(**FrameArithmetic.of(checkpoint.model.config).to_json())
    return _Recogniser(
        logits=TorchReference(checkpoint).logits,
        vocabulary=checkpoint.vocabulary,
        frames=frames,
        min_samples=frames.receptive_field,
    )
