"""lpa-enhance: noisy sound files in, cleaned ones out; or mixtures in, a file per speaker out."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import describe, run_command
from lpa_export.commands.sound_files import Refuse, for_each, print_all, require_target, runner_of
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.formats.audio import Recording, Waveform

__all__ = ["Enhanced", "enhance", "main"]

PROG = "lpa-enhance"


@dataclass(frozen=True)
class Enhanced:
    """What was made of one file. `remarks`: what happened to the audio on its way in, in words."""

    file: str
    written: tuple[str, ...]
    seconds: float
    sample_rate: int
    segments: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Separator:
    """A model, ready to run: (samples,) -> (samples, sources). `max_samples` None: any length."""

    separate: Callable[[Waveform], Waveform]
    sources: int
    sample_rate: int
    min_samples: int
    max_samples: int | None = None


def enhance(
    files: Sequence[str | Path],
    *,
    target: str = "onnx",
    bundle: str | Path | None = None,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    segment: str | float = "auto",
    overwrite: bool = False,
    refused: Refuse | None = None,
) -> tuple[Enhanced, ...]:
    """Clean sound files of any rate, channel count and length; in their order.

    Each becomes `NAME.clean.wav` beside it or in the folder `out`, of 32-bit floats at the model's
    rate, as loud as the model gives it (several sources: `NAME.source-1.wav` and so on). Channels
    are averaged. `target` "torch" runs a checkpoint, any other a bundle, by default the one under
    build/. `segment`: seconds that are heard at a time where a file is longer, "auto" (10), or
    "never". `refused` is told of each file that cannot be cleaned, and the others are; without it
    the first such file ends the call.

    Raises LpaError for a bundle, checkpoint or file that cannot be used, and for files that would
    take each other's place.
    """
    seconds = _seconds(segment)
    model = _open(target, bundle, checkpoint)
    paths, folder = [Path(file) for file in files], None if out is None else Path(out)
    outputs = [_places(path, folder, model.sources) for path in paths]
    _require_places_of_their_own(paths, outputs)
    places = dict(zip(paths, outputs, strict=True))
    return for_each(
        paths,
        lambda path: _enhanced(path, model, places[path], seconds, overwrite),
        refused,
        PROG,
    )


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the arguments of :func:`enhance`, and how to print."""
    from lpa_export.targets import known_targets

    describe(
        parser,
        "Take noise out of speech, or part speakers, with an exported bundle or with the model in "
        "torch. Files that cannot be read are listed, the others are cleaned, and the exit code is "
        "2 then.",
        examples=(
            f"{PROG} --target onnx noisy.wav",
            f"{PROG} --bundle build/m/onnx --out cleaned *.flac",
        ),
        interrupted="files that were not cleaned yet have no output",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, Ogg or MP3")
    parser.add_argument(
        "--target",
        default="onnx",
        metavar="NAME",
        help=f"{', '.join(known_targets())} or torch (default: onnx)",
    )
    parser.add_argument(
        "--bundle", metavar="DIR", help="the bundle to run (default: the one under build/)"
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR|HUB_ID", help="with --target torch: the separator"
    )
    parser.add_argument("--out", metavar="DIR", help="where to write (default: beside each file)")
    parser.add_argument(
        "--segment",
        default="auto",
        metavar="auto|never|SECONDS",
        help="longer files are heard so many seconds at a time, overlapping by one (auto: 10)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace older outputs")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return print_all(
        PROG,
        lambda refuse: enhance(
            arguments.files,
            target=arguments.target,
            bundle=arguments.bundle,
            checkpoint=arguments.checkpoint,
            out=arguments.out,
            segment=arguments.segment,
            overwrite=arguments.overwrite,
            refused=refuse,
        ),
        asdict if arguments.json else None,
        _line,
    )


def _line(item: Enhanced) -> str:
    count = "one pass" if item.segments == 1 else f"{item.segments} segments"
    facts = (f"{item.seconds:.1f} s in {count}", *item.remarks)
    return f"{item.file} -> {', '.join(item.written)}: {'; '.join(facts)}"


def _seconds(segment: str | float) -> float:
    """Of the longest segment; infinite: no cutting. Raises LpaError for anything else."""
    from lpa_export.runtimes.separation.segments import OVERLAP_SECONDS, SEGMENT_SECONDS

    if segment == "never":
        return math.inf
    try:
        seconds = SEGMENT_SECONDS if segment == "auto" else float(segment)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 2 * OVERLAP_SECONDS):
        raise LpaError(
            f"--segment must be auto, never or {2 * OVERLAP_SECONDS:g} seconds at least, found "
            f"{segment!r}"
        )
    return seconds


def _enhanced(
    path: Path, model: _Separator, places: Sequence[Path], seconds: float, overwrite: bool
) -> Enhanced:
    import numpy as np

    from lpa_export.formats.audio import read_audio
    from lpa_export.runtimes.separation.segments import (
        OVERLAP_SECONDS,
        cut_segments,
        joined_segments,
    )

    _require_free(places, overwrite)
    rate = model.sample_rate
    recording = read_audio(path, sample_rate=rate, silence=True)
    waveform = recording.waveform
    if len(waveform) < model.min_samples:
        raise LpaError(
            f"{path}: {len(waveform)} samples at {rate} Hz, the model takes {model.min_samples} at "
            "least; give a longer recording"
        )
    most = model.max_samples or len(waveform)
    if math.isinf(seconds) and len(waveform) > most:
        raise LpaError(
            f"{path}: {len(waveform) / rate:.1f} s of audio, this bundle takes {most / rate:.1f} s "
            "in one pass; leave out --segment never"
        )
    longest = min(most, len(waveform) if math.isinf(seconds) else round(seconds * rate))
    overlap = min(round(OVERLAP_SECONDS * rate), longest // 2)
    segments = cut_segments(len(waveform), longest, overlap)
    try:
        made = joined_segments(waveform, segments, overlap, model.separate)
    except Exception as error:  # runtimes raise their own types, mostly when memory ends
        raise LpaError(
            f"{path}: the model broke on {longest / rate:.1f} s of audio ({error}); give shorter "
            "segments (--segment SECONDS)"
        ) from error
    if not np.isfinite(made).all():
        raise LpaError(
            f"{path}: the model makes NaN or infinite samples of it, whose peak is "
            f"{np.abs(waveform).max():g}; full scale is 1, give it at that level"
        )
    _write(places, made, rate)
    return Enhanced(
        file=str(path),
        written=tuple(map(str, places)),
        seconds=len(waveform) / rate,
        sample_rate=rate,
        segments=len(segments),
        remarks=_remarks(recording, rate),
    )


def _remarks(recording: Recording, rate: int) -> tuple[str, ...]:
    """What the model was not given as it is."""
    facts = {
        f"{recording.sample_rate} Hz brought to the model's {rate} Hz": (
            recording.sample_rate != rate
        ),
        f"the mean of {recording.channels} channels": recording.channels > 1,
        f"clipped in {recording.clipped} places, which no model mends": recording.clipped,
    }
    return tuple(said for said, holds in facts.items() if holds)


def _places(path: Path, folder: Path | None, sources: int) -> list[Path]:
    """Where what is made of a file goes."""
    names = [f"source-{number}" for number in range(1, sources + 1)] if sources > 1 else ["clean"]
    return [(folder or path.parent) / f"{path.stem}.{name}.wav" for name in names]


def _require_places_of_their_own(files: Sequence[Path], outputs: Sequence[list[Path]]) -> None:
    """Raise LpaError where one file's output would take the place of another's."""
    taken: dict[Path, Path] = {}
    for file, places in zip(files, outputs, strict=True):
        if places[0] in taken:
            raise LpaError(
                f"{taken[places[0]]} and {file} would both become {places[0]}; clean them by calls "
                "of their own, with another --out"
            )
        taken[places[0]] = file


def _require_free(places: Sequence[Path], overwrite: bool) -> None:
    for place in places:
        if place.exists() and not overwrite:
            raise LpaError(f"{place}: already exists; pass --overwrite or give another --out")


def _write(places: Sequence[Path], made: Waveform, rate: int) -> None:
    """(samples, sources) as files, all of them or none. Raises LpaError where that cannot be."""
    import soundfile

    beside = [place.with_name(f".{place.name}.new") for place in places]
    try:
        places[0].parent.mkdir(parents=True, exist_ok=True)
        try:
            for temporary, source in zip(beside, made.T, strict=True):
                soundfile.write(temporary, source, rate, format="WAV", subtype="FLOAT")
            for temporary, place in zip(beside, places, strict=True):
                temporary.replace(place)
        finally:
            for temporary in beside:
                temporary.unlink(missing_ok=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise LpaError(f"{places[0].parent}: cannot write audio there ({error})") from error


def _open(target: str, bundle: str | Path | None, checkpoint: str | Path | None) -> _Separator:
    """The model of `target`. Raises LpaError for a source that belongs to the other kind."""
    from lpa_export.formats.bundle import default_bundle

    if target == "torch":
        if bundle is not None or checkpoint is None:
            raise LpaError("--target torch takes the separator with --checkpoint, and no --bundle")
        return _open_torch(checkpoint)
    require_target(target, checkpoint)
    return _open_bundle(target, default_bundle(target) if bundle is None else Path(bundle))


def _open_bundle(target: str, folder: Path) -> _Separator:
    """A bundle in the runner that validation runs it in."""
    from lpa_export.formats.separation_bundle import open_separator_bundle
    from lpa_export.runtimes import pad

    bundle = open_separator_bundle(folder)
    runner = runner_of(bundle, target, separates=True)
    return _Separator(
        separate=lambda waveform: runner.run(*pad([waveform]))[0],
        sources=bundle.manifest.sources,
        sample_rate=bundle.manifest.sample_rate,
        min_samples=runner.min_samples,
        max_samples=runner.max_samples,
    )


def _open_torch(source: str | Path) -> _Separator:
    from lpa_export.formats.separator import load_separator
    from lpa_export.runtimes.separation.torch import SeparatorReference

    model = load_separator(source).model
    return _Separator(
        separate=SeparatorReference(model).sources,
        sources=model.config.sources,
        sample_rate=model.config.sampling_rate,
        min_samples=model.config.kernel_size,
    )
