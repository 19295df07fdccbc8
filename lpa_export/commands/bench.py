"""lpa-bench: how long a bundle takes and how much memory, beside another or a user's own export."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import PASSED, count, describe, run_command
from lpa_export.errors import LpaError, LpaWarning

if TYPE_CHECKING:
    from lpa_export.benchmark.result import Benchmark
    from lpa_export.benchmark.run import Entrant
    from lpa_export.formats.bundle import AnyBundle
    from lpa_export.formats.manifest import BundleManifest

__all__ = ["bench", "bench_all", "main"]

PROG = "lpa-bench"
TORCH = "torch"
SECONDS = (10.0, 30.0, 60.0, 120.0)
ROUNDS = 3
LEAST_SECONDS = 1.0


def bench(
    *,
    target: str,
    bundle: str | Path | None = None,
    against: str | Path | None = None,
    checkpoint: str | Path | None = None,
    seconds: Sequence[float] = SECONDS,
    threads: int | None = None,
    rounds: int = ROUNDS,
    least_seconds: float = LEAST_SECONDS,
    device: str = "cpu",
    announce: Callable[[str], None] = lambda step: None,
) -> Benchmark:
    """Time a bundle of `target`, of any task, and count its memory at several lengths of audio.

    `bundle` None: the only one under build/. `against`: another bundle, or the name of a baseline,
    such as "hub-export": what a user's own export of the untouched model makes. `checkpoint`: whose
    architecture that is (None: the shipped model, if the bundle was made from it), and with
    `target` "torch" the model that is timed, `against` another then. `threads` None: those that
    bundles run with everywhere in this package. `rounds`: processes per side and length; in each
    the timed runs last `least_seconds` at least. `device`: for torch, "cpu" or "cuda". The result
    is kept beside the bundle, and its figures in the bundle's model card.

    Raises LpaError for what cannot be run here, does not fit in memory, or cannot be compared.
    """
    (result,) = bench_all(
        target=target,
        bundles=() if bundle is None else (bundle,),
        against=against,
        checkpoint=checkpoint,
        seconds=seconds,
        threads=threads,
        rounds=rounds,
        least_seconds=least_seconds,
        device=device,
        announce=announce,
    )
    return result


def bench_all(
    *,
    target: str,
    bundles: Sequence[str | Path] = (),
    against: str | Path | None = None,
    checkpoint: str | Path | None = None,
    seconds: Sequence[float] = SECONDS,
    threads: int | None = None,
    rounds: int = ROUNDS,
    least_seconds: float = LEAST_SECONDS,
    device: str = "cpu",
    announce: Callable[[str], None] = lambda step: None,
) -> tuple[Benchmark, ...]:
    """The same of several bundles by turns, each beside `against`, which is timed once.

    A result for each; without `bundles` that of the only one under build/.
    """
    from lpa_export.benchmark.run import Plan, run_benchmark
    from lpa_export.runtimes import THREADS

    longest = max(seconds, default=0.0)
    asked = _Asked(target, tuple(bundles), against, checkpoint, device, longest, announce)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        opened = () if target == TORCH else asked.open()
        plan = Plan(
            target=target,
            entrants=tuple(map(_of_bundle, opened)) or (asked.of_torch(checkpoint),),
            rate=asked.rate(opened),
            seconds=tuple(seconds),
            threads=threads or THREADS,
            rounds=rounds,
            least_seconds=least_seconds,
            device=device,
            against=None if against is None else asked.other(opened, scratch),
        )
        results = run_benchmark(plan, announce)
    for bundle, result in zip(opened, results, strict=False):
        _keep(bundle, result)
    return results


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the arguments of :func:`bench`, and how to print."""
    from lpa_export.benchmark.sides import BASELINES, GROUPS
    from lpa_export.targets import known_targets

    describe(
        parser,
        "Time a bundle and count its memory, alone or beside another, each figure from a process "
        "of its own. Times under foreign load, or that vary by more than 5 %, are marked unusable.",
        examples=(
            f"{PROG} --target onnx --against hub-export --seconds 10,60",
            f"{PROG} --target onnx --bundle build/m/onnx --against build/n/onnx --threads 4 --json",
        ),
        interrupted="nothing was kept",
    )
    parser.add_argument(
        "--target",
        required=True,
        metavar="NAME",
        help=f"{', '.join(known_targets())} or {TORCH}",
    )
    parser.add_argument(
        "--bundle",
        action="append",
        metavar="DIR",
        help="the bundle to time (default: the one under build/); may be given several times",
    )
    parser.add_argument(
        "--against",
        metavar="DIR|NAME",
        help=f"another bundle (with {TORCH}: a checkpoint), or {', '.join(BASELINES)}: the "
        f"untouched architecture, random weights; {', '.join(GROUPS)}: two of them, and one table",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help=f"the model of a baseline, and of --target {TORCH} (default: the shipped one)",
    )
    parser.add_argument(
        "--seconds",
        type=_lengths,
        default=SECONDS,
        metavar="LIST",
        help=f"lengths of audio (default: {','.join(f'{s:g}' for s in SECONDS)})",
    )
    parser.add_argument("--threads", type=count, metavar="N", help="of each side (default: 2)")
    parser.add_argument(
        "--rounds",
        type=count,
        default=ROUNDS,
        metavar="N",
        help=f"processes per side and length (default: {ROUNDS})",
    )
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help=f"with {TORCH}: cpu (default) or cuda"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, a list of several"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw time and memory, as .svg, .png or .pdf"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.benchmark.picture import draw, require_drawing
    from lpa_export.benchmark.sides import GROUPS
    from lpa_export.benchmark.text import render_frame, render_text
    from lpa_export.formats.manifest import as_json

    baselines = GROUPS.get(arguments.against, (arguments.against,))
    if arguments.picture is not None:
        require_drawing(arguments.picture)
        if len(baselines) > 1:
            raise LpaError(f"--picture is of one baseline; give one of {', '.join(baselines)}")
    runs = [
        bench_all(
            target=arguments.target,
            bundles=arguments.bundle or (),
            against=against,
            checkpoint=arguments.checkpoint,
            seconds=arguments.seconds,
            threads=arguments.threads,
            rounds=arguments.rounds,
            device=arguments.device,
            announce=_announced if sys.stderr.isatty() else lambda step: None,
        )
        for against in baselines
    ]
    results = [result for run in runs for result in run]
    if arguments.json:
        print(as_json(results if len(results) > 1 else results[0]), end="")
    else:
        print("\n".join(map(render_text, runs)), end="")
        print(render_frame(runs) if len(runs) > 1 else "", end="")
    if arguments.picture is not None:
        draw(results, arguments.picture)
    return PASSED


def _announced(step: str) -> None:
    sys.stderr.write(f"\r\x1b[K{PROG}: {step} ...")
    sys.stderr.flush()


def _lengths(text: str) -> tuple[float, ...]:
    """ "10,30.5" as numbers above 0."""
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not all(0 < number < float("inf") for number in found):
        raise argparse.ArgumentTypeError(f"expected seconds as 10,30; found {text!r}")
    return found


@dataclass(frozen=True)
class _Asked:
    """What the user named, and what it means."""

    target: str
    bundles: tuple[str | Path, ...]
    against: str | Path | None
    checkpoint: str | Path | None
    device: str
    longest: float
    announce: Callable[[str], None]

    def rate(self, opened: Sequence[AnyBundle]) -> int:
        """Samples a second of the audio. Raises LpaError for bundles of several rates."""
        from lpa_export.benchmark.sides import BASELINES

        rates = {bundle.manifest.sample_rate for bundle in opened}
        if not opened:
            rates.add(_rate_of(self.checkpoint))
            if self.against is not None and str(self.against) not in BASELINES:
                rates.add(_rate_of(self.against))
        if len(rates) > 1:
            rated = " and ".join(map(str, sorted(rates)))
            raise LpaError(f"models of {rated} Hz are not timed together: give one at a time")
        return rates.pop()

    def open(self) -> tuple[AnyBundle, ...]:
        """The bundles. Raises LpaError where one is unsound or too large for the longest audio."""
        from lpa_export.formats.bundle import default_bundle, require_sound
        from lpa_export.formats.manifest import Manifest
        from lpa_export.formats.separation_bundle import open_any_bundle
        from lpa_export.runtimes.memory import require_memory
        from lpa_export.targets import target_named

        target_named(self.target)
        if self.device != "cpu":
            raise LpaError(f"--device goes with --target {TORCH}; a bundle runs where it was for")
        opened = []
        for place in self.bundles or (default_bundle(self.target),):
            bundle: AnyBundle = open_any_bundle(place)
            require_sound(bundle, self.target)
            if isinstance(bundle.manifest, Manifest):
                require_memory(bundle.manifest, self.longest, str(bundle.path))
            opened.append(bundle)
        return tuple(opened)

    def other(self, opened: Sequence[AnyBundle], scratch: Path) -> Entrant:
        """What they are beside; a baseline's export lies in `scratch`."""
        from lpa_export.benchmark.compare import require_comparable
        from lpa_export.benchmark.sides import BASELINES, GROUPS
        from lpa_export.formats.bundle import require_sound
        from lpa_export.formats.separation_bundle import open_any_bundle

        if names := GROUPS.get(str(self.against)):
            raise LpaError(f"{self.against} stands for several; name one of {', '.join(names)}")
        if str(self.against) in BASELINES:
            return self._baseline(opened, str(self.against), scratch)
        if not opened:
            return self.of_torch(self.against)
        assert self.against is not None
        if not Path(self.against).is_dir():
            raise LpaError(
                f"--against {self.against}: no such bundle, and no baseline either; known: "
                f"{', '.join((*BASELINES, *GROUPS))}"
            )
        other: AnyBundle = open_any_bundle(self.against)
        require_sound(other, other.manifest.target)
        for bundle in opened:
            require_comparable(bundle, other)
        return _of_bundle(other)

    def _baseline(self, opened: Sequence[AnyBundle], name: str, scratch: Path) -> Entrant:
        from lpa_export.benchmark.compare import require_same_task
        from lpa_export.benchmark.run import Entrant
        from lpa_export.benchmark.sides import BASELINES, Side, write_baseline
        from lpa_export.formats.separator import is_separator
        from lpa_export.formats.source import checkpoint_folder

        for bundle in opened:
            if self.checkpoint is None and not bundle.manifest.checkpoint.shipped:
                made_from = bundle.manifest.checkpoint.name
                raise LpaError(f"{name} is made of a checkpoint: give that of {made_from!r}")
        folder = checkpoint_folder(self.checkpoint)
        for bundle in opened:
            require_same_task(bundle, folder)
        if is_separator(folder):
            raise LpaError(f"{name} recognises speech, {folder} separates it: name a checkpoint")
        row = BASELINES[name]
        path = folder
        if row.writes:
            path = scratch / f"{name}.onnx"
            self.announce(f"exporting {name}")
            write_baseline(row, folder, path)
        side = Side(name=name, kind=row.kind, path=str(path), device=self.device)
        return Entrant(side, f"{folder.name}, untouched, random weights", row.scheme)

    def of_torch(self, source: str | Path | None) -> Entrant:
        """The model of a checkpoint in torch."""
        from lpa_export.benchmark.run import Entrant
        from lpa_export.benchmark.sides import Side
        from lpa_export.formats.source import checkpoint_folder, checkpoint_name

        if self.bundles:
            raise LpaError("--bundle goes with an exported target; torch takes --checkpoint")
        folder = checkpoint_folder(source)
        name = checkpoint_name(source, folder)
        side = Side(name=f"torch {name}", kind=TORCH, path=str(folder), device=self.device)
        return Entrant(side, name, "fp32")


def _rate_of(checkpoint: str | Path | None) -> int:
    """Samples a second of what a checkpoint hears; None is the shipped recogniser."""
    from lpa_export.formats.audio import SAMPLE_RATE
    from lpa_export.formats.separator import is_separator, separator_config

    if checkpoint is None or not is_separator(checkpoint):
        return SAMPLE_RATE
    return separator_config(checkpoint).sampling_rate


def _of_bundle(bundle: AnyBundle) -> Entrant:
    from lpa_export.benchmark.run import Entrant
    from lpa_export.benchmark.sides import Side
    from lpa_export.formats.bundle import artifact_digest

    manifest = bundle.manifest
    digests = {name: artifact_digest(manifest, name) for name in manifest.artifacts}
    side = Side(name=str(bundle.path), kind="bundle", path=str(bundle.path))
    return Entrant(side, manifest.model, manifest.scheme.name, digests)


def _keep(bundle: AnyBundle, result: Benchmark) -> None:
    """Put the result beside the bundle and its figures into the model card.

    The measurement is not lost where that cannot be written: a warning says so.
    """
    from lpa_export.benchmark.result import write_result
    from lpa_export.benchmark.text import figures
    from lpa_export.formats.bundle import replace_text
    from lpa_export.targets import target_named
    from lpa_export.targets.model_card import CARD

    manifest = bundle.manifest
    try:
        write_result(bundle.path, result)
        usage = target_named(manifest.target).usage_of(manifest)
        replace_text(bundle, CARD, _card(manifest, usage, figures(result)))
    except OSError as error:
        warnings.warn(
            f"{bundle.path}: the figures are not kept there ({error.strerror})",
            LpaWarning,
            stacklevel=2,
        )


def _card(manifest: BundleManifest, usage: str, measured: Mapping[str, str]) -> str:
    from lpa_export.formats.manifest import Manifest
    from lpa_export.formats.separation_bundle import SeparationManifest
    from lpa_export.targets.model_card import model_card
    from lpa_export.targets.separation.assemble import separator_card

    if isinstance(manifest, SeparationManifest):
        return separator_card(manifest, usage, measured=measured)
    assert isinstance(manifest, Manifest)
    return model_card(manifest, usage, measured=measured)


if __name__ == "__main__":
    sys.exit(main())
