"""Fit what memory a model takes to measured peaks: `lpa_export/runtimes/memory.json`.

Run it from the repository's root, after whatever changes the memory of a target:

    python tests/runtimes/measure_memory.py [--target onnx] [--front-end pieces]    # write the file
    python tests/runtimes/measure_memory.py --check     # measure, hold the file against it

Small models of several shapes and wav2vec2-base, random weights, and the shipped one; every peak
is that of `transcribe` in a process of its own. `--keep DIR` leaves the bundles there and uses
those that it finds; `--cases` are some of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

WORST = 0.2
REPOSITORY = Path(__file__).resolve().parents[2]
PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "conv_dim": [128] * 7,
    "num_conv_pos_embedding_groups": 8,
}
NARROW = SMALL | PRE_NORM | {"hidden_size": 256, "conv_dim": [64] * 7}
LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Case:
    """A model and the seconds of audio that its peaks are measured at; no family: the shipped."""

    seconds: tuple[float, ...]
    family: str = "wav2vec2"
    config: dict[str, Any] = field(default_factory=dict)
    replaced: tuple[int, ...] = ()
    quantize: str | None = None


CASES = {
    "shipped": Case((5, 60, 120, 240), family=""),
    "shipped-int8": Case((5, 60, 120, 240), family="", quantize="int8"),
    "small-0of4": Case((2, 20, 60, 120), config=SMALL),
    "small-2of4": Case((2, 20, 60, 120), config=SMALL, replaced=(0, 1)),
    "small-4of4": Case((2, 20, 60, 240, 3600), config=SMALL, replaced=(0, 1, 2, 3)),
    "narrow-0of4": Case((2, 20, 60, 120), config=NARROW),
    "narrow-4of4": Case((2, 20, 60, 240, 3600), config=NARROW, replaced=(0, 1, 2, 3)),
    "narrow-2of4-int8": Case((2, 20, 60, 120), config=NARROW, replaced=(0, 1), quantize="int8"),
    "wavlm-0of4": Case((2, 20, 60), family="wavlm", config=SMALL),
    "base-0of12": Case((5, 30, 60)),
    "base-8of12": Case((5, 30, 60, 120), replaced=tuple(range(8))),
    "base-12of12": Case((5, 30, 120, 900), replaced=tuple(range(12))),
}


def make(folder: Path, target: str, front_end: str, case: Case) -> None:
    """Export the model of a case into `folder`."""
    from lpa_export.commands.export import export
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    if not case.family:
        export(target=target, out=folder, quantize=case.quantize, front_end=front_end)
        return
    import torch

    from lpa_export.formats.checkpoint import LPASection, save_checkpoint
    from lpa_export.formats.text import Vocabulary
    from lpa_export.hosts import HOSTS, replace_layers
    from lpa_export.layers import LPAConfig, Pulses

    torch.manual_seed(0)
    host = HOSTS[case.family]
    config: Any = host.config({"pad_token_id": 0, **case.config})
    model = host.build(config).eval()
    section = None
    if case.replaced:
        sizes = (config.hidden_size, config.num_attention_heads)
        replace_layers(model, case.replaced, LPAConfig(*sizes))
        section = LPASection(layers=case.replaced, pulses=Pulses(), temperature=0.1)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = save_checkpoint(Path(scratch) / "model", model, Vocabulary(LETTERS), section)
        export(
            target=target,
            checkpoint=checkpoint,
            out=folder,
            quantize=case.quantize,
            front_end=front_end,
        )


def run(recording: str, target: str, bundle: str) -> None:
    """Transcribe in this process and print its peak."""
    from lpa_export.commands.transcribe import transcribe
    from lpa_export.measures.machine import peak_memory

    transcribe([recording], target=target, bundle=bundle, cut="never")
    print(peak_memory())


def peak_of(bundle: Path, target: str, seconds: float, scratch: Path) -> int:
    """Peak bytes of a process that transcribes so many seconds of noise."""
    from lpa_export.formats.audio import SAMPLE_RATE, write_flac

    recording = scratch / f"{seconds:g}.flac"
    if not recording.exists():
        noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
        write_flac(recording, (0.1 * noise).astype(np.float32))
    return int(_step("run", str(recording), target, str(bundle)))


def measured(
    cases: Sequence[str], target: str, front_end: str, folder: Path
) -> list[tuple[str, float, int]]:
    """(case, seconds, peak bytes), printed as they come."""
    found = []
    for name in cases:
        bundle = folder / name
        if not bundle.exists():
            _step("make", str(bundle), target, front_end, name)
        for seconds in CASES[name].seconds:
            peak = peak_of(bundle, target, seconds, folder)
            print(f"{name:>18} {seconds:>5g} s  {peak / 1e6:>7.0f} MB", flush=True)
            found.append((name, seconds, peak))
    return found


def fitted(peaks: Sequence[tuple[str, float, int]], whole: bool, folder: Path) -> Any:
    """The factors whose estimates are nearest to the peaks, as shares; none is negative."""
    from scipy.optimize import least_squares

    from lpa_export.formats.bundle import open_bundle
    from lpa_export.runtimes.memory import TERMS, Factors, Load, terms_of

    always = ["waveform"]
    parted = ["piece", "features"]
    front_end = ["convolution"] if whole else parted
    encoder = [name for name in TERMS if name not in (*always, "convolution", *parted)]
    rows = []
    for name, seconds, _ in peaks:
        manifest = open_bundle(folder / name).manifest
        load = Load.of(manifest)
        assert load is not None
        terms = terms_of(load, round(seconds * manifest.sample_rate))
        rows.append([1e6, load.artifact_bytes, *(terms[n] for n in always + front_end + encoder)])
    parts, wanted = np.array(rows, float), np.array([peak for *_, peak in peaks], float)

    def error(factors: Any) -> Any:
        counted = parts * factors
        first, second = (part.sum(axis=1) for part in np.split(counted[:, 3:], [len(front_end)], 1))
        larger = np.maximum(first, second)
        return np.log((counted[:, :3].sum(axis=1) + larger) / wanted)

    def worst_counts(factors: Any) -> Any:
        return np.abs(error(factors)) ** 3

    # The larger of two sums has several nearest places: the best of a few starts, from which then
    # the worst misses count most.
    best, least = None, np.inf
    for seed in range(12):
        start = np.random.default_rng(seed).uniform(0.2, 3.0, parts.shape[1])
        near = least_squares(error, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=0.05).x
        nearer = least_squares(worst_counts, near, bounds=(0.0, np.inf), xtol=1e-12, ftol=1e-12).x
        miss = float(np.abs(error(nearer)).max())
        if miss < least:
            best, least = nearer, miss
    assert best is not None
    values = [round(float(value), 3) for value in best]
    named = dict(zip(always + front_end + encoder, values[2:], strict=True))
    return Factors(
        process=round(values[0] * 1e6),
        artifact=values[1],
        always={name: named[name] for name in always},
        front_end={name: named[name] for name in front_end},
        encoder={name: named[name] for name in encoder if named[name]},
        made_on=f"{platform.system()} {platform.machine()}, onnxruntime {version('onnxruntime')}",
        worst=round(float(np.abs(np.exp(error(np.array(values))) - 1).max()), 3),
    )


def held(peaks: Sequence[tuple[str, float, int]], folder: Path) -> float:
    """The worst share by which an estimate of the present file misses a peak, each printed."""
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.runtimes.memory import estimate_memory

    worst = 0.0
    for name, seconds, peak in peaks:
        estimate = estimate_memory(open_bundle(folder / name).manifest, seconds)
        assert estimate is not None
        share = estimate / peak - 1
        worst = max(worst, abs(share))
        print(f"{name:>18} {seconds:>5g} s  {peak / 1e6:>7.0f} MB, estimate {100 * share:+.1f} %")
    return worst


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--front-end", default="pieces", choices=("pieces", "whole"))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--cases", default=",".join(CASES), help=",".join(CASES))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, *arguments = options.step
        if step == "run":
            run(*arguments)
        else:
            folder, target, front_end, name = arguments
            make(Path(folder), target, front_end, CASES[name])
        return
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.runtimes.memory import FACTORS, form_of

    cases = options.cases.split(",")
    if not options.check and {*CASES} - {*cases}:
        parser.error("--cases goes with --check: every term needs a model that has it")
    kept = nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory()
    with kept as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        peaks = measured(cases, options.target, options.front_end, folder)
        if not options.check:
            factors = json.loads(FACTORS.read_bytes()) if FACTORS.exists() else {}
            found = fitted(peaks, options.front_end == "whole", folder)
            form = form_of(open_bundle(folder / cases[0]).manifest)
            factors[form] = msgspec.to_builtins(found)
            FACTORS.write_text(json.dumps(factors, indent=1, sort_keys=True) + "\n", "utf-8")
        worst = held(peaks, folder)
    print(f"worst {100 * worst:.1f} %, {100 * WORST:.0f} % allowed")
    sys.exit(worst > WORST)


def _step(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, "--step", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


if __name__ == "__main__":
    main()
