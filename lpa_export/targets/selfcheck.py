"""The exporter's own check of its work: the written artifact, run, against the reference.

At the end of every export the files that were written are opened by the runtime that will run
them (or the evaluator that stands for it), in a process of its own, and every tap of every golden
clip is compared with the reference. What a rewrite, a converter or an optimiser broke shows there,
and so does an artifact that takes its process down. How far words may move is another question,
which `lpa-validate` answers on real speech.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lpa_export.environment import child_environment
from lpa_export.errors import LpaError
from lpa_export.formats.audio import Waveform
from lpa_export.formats.manifest import SelfCheck
from lpa_export.measures.arrays import psnr

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle
    from lpa_export.formats.separation_bundle import SeparatorBundle
    from lpa_export.runtimes import Bucketed, Runner

__all__ = ["FLIPPED_SHARE", "Levels", "level", "lowest_levels", "self_check"]

FLIPPED_SHARE = 0.02
"""A hard gate is a step: an edge within float noise of a frame's centre falls to one side in torch
and to the other in a runtime. That is no mistake and moves one frame of its layer; a wrong rewrite
moves far more. So the worst frames, this share of a clip's, are left out."""

_TIMEOUT_SECONDS = 3600
_REPORT = "please report it with the checkpoint"


@dataclass(frozen=True)
class Levels:
    """The lowest PSNR of each tap over so many clips and all buckets, in dB, and how it was run."""

    label: str
    taps: Mapping[str, float]
    clips: int


def self_check(folder: Path, runner: str, floor_db: float) -> SelfCheck:
    """Run the bundle in `folder` by `runner` ("module:class") and hold it to the floor.

    Raises LpaError when the artifact does not open, breaks, takes an hour, or has a tap below
    `floor_db` or none at all where the manifest names one.
    """
    levels = _in_a_process(folder, runner)
    if not levels.clips:
        return SelfCheck(
            status="not_run", reason="every golden clip is longer than the largest bucket"
        )
    below = {tap: value for tap, value in levels.taps.items() if not value >= floor_db}
    if below:
        # In the order of the model: what lies behind the first one only inherits from it.
        tap, value = next(iter(below.items()))
        raise LpaError(
            f"the exported artifact is not the model: {tap} has a PSNR of {value:.1f} dB on a "
            f"golden clip, at least {floor_db:g} are required ({len(below)} of "
            f"{len(levels.taps)} taps are below); nothing was written, {_REPORT}"
        )
    return SelfCheck(
        status="passed",
        label="emulated" if levels.label == "emulated" else "measured",
        floor_db=floor_db,
        taps=dict(levels.taps),
    )


def _in_a_process(folder: Path, runner: str) -> Levels:
    command = [sys.executable, "-m", __name__, str(folder), runner]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise LpaError(
            f"the exported artifact ran for {_TIMEOUT_SECONDS} s without an end; nothing was "
            f"written, {_REPORT}"
        ) from None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise LpaError(
            f"the exported artifact took its process down ({_ending(done)}); nothing was written, "
            f"{_REPORT}"
        ) from None
    if "error" in answer:
        raise LpaError(
            f"the exported artifact does not run: {answer['error']}; nothing was written, {_REPORT}"
        )
    taps = {tap: float(value) for tap, value in answer["taps"].items()}
    return Levels(answer["label"], taps, answer["clips"])


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that the process said, or the signal that ended it."""
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


class Golden(Protocol):
    """A golden clip of any task. `bucket_size`: what a bucket has to hold, as buckets count."""

    @property
    def waveform(self) -> Waveform: ...

    @property
    def taps(self) -> Mapping[str, np.ndarray]: ...

    @property
    def bucket_size(self) -> int: ...


def lowest_levels(clips: Iterable[Golden], taps: Sequence[str], runner: Runner) -> Levels:
    """Run every clip that fits, all `taps` and every bucket, of which the last tap comes out."""
    from lpa_export.runtimes import Bucketed

    lowest, head = dict.fromkeys(taps, math.inf), taps[-1]
    longest = math.inf if runner.max_samples is None else runner.max_samples
    fitting = [clip for clip in clips if len(clip.waveform) <= longest]
    for clip in fitting:
        found = dict(runner.taps(clip.waveform))
        for tap in lowest:
            lowest[tap] = _lower(lowest[tap], level(clip.taps[tap], found.get(tap)))
        if isinstance(runner, Bucketed):
            for found_in_bucket in _in_buckets(runner, clip):
                lowest[head] = _lower(lowest[head], level(clip.taps[head], found_in_bucket))
    return Levels(runner.label, lowest, len(fitting))


def _in_buckets(runner: Bucketed, clip: Golden) -> list[np.ndarray]:
    # Something loud at padding: it must not be heard.
    return [
        runner.run_in(clip.waveform, bucket, garbage=10.0)
        for bucket in runner.buckets
        if bucket >= clip.bucket_size
    ]


def _lower(first: float, second: float) -> float:
    """The lower level; NaN, which nothing can be said of, before all."""
    return second if math.isnan(second) or second < first else first


def level(expected: np.ndarray, found: np.ndarray | None) -> float:
    """PSNR in dB without the worst frames; NaN where the shapes differ or a value is not finite.

    Both (frames, width).
    """
    if found is None or found.shape != expected.shape:
        return math.nan
    errors = np.square(expected.astype(np.float64) - found).sum(axis=1)
    if not np.isfinite(errors).all():
        return math.nan
    kept = np.argsort(errors)[: max(1, len(errors) - math.ceil(FLIPPED_SHARE * len(errors)))]
    return psnr(expected[kept], found[kept])


def _golden(bundle: Bundle | SeparatorBundle) -> Sequence[Golden]:
    from lpa_export.formats.bundle import OpenedBundle
    from lpa_export.formats.golden import read_golden
    from lpa_export.formats.separation_bundle import SeparationManifest, read_golden_mixtures

    manifest = bundle.manifest
    if isinstance(manifest, SeparationManifest):
        return read_golden_mixtures(OpenedBundle(bundle.path, manifest))
    return read_golden(OpenedBundle(bundle.path, manifest))


def main(folder: str, runner: str) -> None:
    """The process: one line of JSON, what was found or why nothing was."""
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    from importlib import import_module

    from lpa_export.formats.separation_bundle import open_any_bundle
    from lpa_export.runtimes import ArtifactError

    module, name = runner.split(":")
    try:
        bundle = open_any_bundle(Path(folder))
        taps = [tap.name for tap in bundle.manifest.taps]
        runs = getattr(import_module(module), name)(bundle)
        levels = lowest_levels(_golden(bundle), taps, runs)
    except (ArtifactError, LpaError) as error:
        answer: dict[str, object] = {"error": str(error)}
    else:
        # JSON has no infinity, which two equal arrays have for a PSNR; as text it passes.
        found = {tap: repr(value) for tap, value in levels.taps.items()}
        answer = {"label": levels.label, "taps": found, "clips": levels.clips}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
