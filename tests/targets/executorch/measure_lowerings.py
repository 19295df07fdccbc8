"""The two forms of an LPA layer in ExecuTorch, side by side: what each costs.

`prefix_sum` is a cumulative sum and look-ups, in portable kernels between XNNPACK's subgraphs, for
any length up to the longest; `local_dense_mask` is products with stored ramps and masks, all in
XNNPACK, with a method per length. Both are measured on the model that ships and on wav2vec2-base
with 8 of 12 layers replaced, beside the same wav2vec2-base with its attention untouched. The
weights of wav2vec2-base are random: time and memory do not depend on them. From the
repository's root:

    python tests/targets/executorch/measure_lowerings.py [--models an4-tiny] [--threads 1]

Exports take minutes: programs are kept in `--folder` and are not made again, so that a second
call measures runs alone. Times are of the CPU, the least of several runs after a first one: with
one thread that is the latency of a machine with nothing else to do. Each figure comes from a
process of its own, and its peak memory is what the system counts for all of it, torch and the
runtime included. Nothing here was run on a phone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.formats.schemes import scheme_named

SECONDS = (5.0, 10.0, 30.0)
REPETITIONS = 4
FOLDER = "build/lowerings"
# Its step "save" writes a wav2vec2-base with random weights.
WAV2VEC2_BASE = str(Path(__file__).parents[1] / "measure_base_models.py")


@dataclass(frozen=True)
class Subject:
    """A model, and the form that its LPA layers are given; `replaced`: layers of wav2vec2-base,
    None for the model that ships."""

    model: str
    replaced: tuple[int, ...] | None
    lowering: str

    @property
    def name(self) -> str:
        return f"{self.model}-{self.lowering}"


SUBJECTS = (
    Subject("an4-tiny", None, "prefix_sum"),
    Subject("an4-tiny", None, "local_dense_mask"),
    Subject("base-8-of-12", tuple(range(8)), "prefix_sum"),
    Subject("base-8-of-12", tuple(range(8)), "local_dense_mask"),
    Subject("base-0-of-12", (), "prefix_sum"),
)
MODELS = tuple(dict.fromkeys(subject.model for subject in SUBJECTS))


def measure(step: str, *arguments: str, script: str = __file__) -> dict[str, Any]:
    """Run one step of a script in a fresh process; its figures, peak memory among them."""
    command = [sys.executable, script, "--step", step, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} {' '.join(arguments)} failed:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _export(checkpoint: str, lowering: str, out: str) -> dict[str, Any]:
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.targets import Job
    from lpa_export.targets.executorch.settings import ExecutorchSettings
    from lpa_export.targets.executorch.target import ExecutorchTarget
    from lpa_export.targets.golden import golden_clips

    loaded = load_checkpoint(checkpoint or None)
    settings = ExecutorchSettings(lowering=lowering, buckets=SECONDS)  # type: ignore[arg-type]
    clips = golden_clips(loaded)
    started = time.process_time()
    job = Job(loaded, scheme_named("fp32"), settings, clips, lambda step: None)
    written = ExecutorchTarget().write(job, Path(out))
    spent = time.process_time() - started
    described = json.loads((Path(out) / "delegation.json").read_text("utf-8"))
    *_, method = described["methods"].values()
    macs = sum(node["macs"] for node in method["nodes"])
    delegated = sum(node["macs"] for node in method["nodes"] if node["delegate"] is not None)
    return {
        "cpu_seconds": spent,
        "bytes": (Path(out) / "model.pte").stat().st_size,
        "delegated": delegated / macs,
        "subgraphs": len(method["delegates"]),
        "runtime": written.runtime,
    }


def _run(bundle: str, method: str, samples: str, fixed: str, threads: str) -> dict[str, Any]:
    import numpy as np
    import torch
    from executorch.extension.pybindings import _portable_lib as runtime

    runtime._unsafe_reset_threadpool(int(threads))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = runtime._load_for_executorch(str(Path(bundle) / "model.pte"))
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, int(samples)))
    inputs = [torch.from_numpy(noise.astype(np.float32))]
    if int(fixed):
        inputs.append(torch.tensor([int(samples)], dtype=torch.int32))
    program.run_method(method, inputs)
    times = []
    for _ in range(REPETITIONS):
        started = time.process_time()
        program.run_method(method, inputs)
        times.append(time.process_time() - started)
    return {"seconds": min(times), "bare_mb": before / 1024}


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {"export": _export, "run": _run}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--folder", type=Path, default=Path(FOLDER))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](*options.arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(figures | {"peak_mb": peak / 1024}))
        return
    chosen = [subject for subject in SUBJECTS if subject.model in options.models]
    made = {subject: _made(subject, options.folder) for subject in chosen}
    lengths = [f"{seconds:g} s: ms | peak MB" for seconds in SECONDS]
    titles = ["model", "lowering", "export: CPU s", "peak MB", "file MB"]
    titles += ["MACs delegated", "subgraphs", *lengths]
    print(_row(titles))
    print(_row(["---"] * (len(titles) + len(SECONDS))))
    for subject, export in made.items():
        print(_row(_cells(subject, export, options)), flush=True)


def _made(subject: Subject, folder: Path) -> dict[str, Any]:
    """Figures of the export, which is made where it is not there yet."""
    program, figures = folder / subject.name, folder / f"{subject.name}.json"
    if not figures.is_file():
        checkpoint = ""
        if subject.replaced is not None:
            checkpoint = str(folder / f"{subject.model}-checkpoint")
            if not Path(checkpoint).is_dir():
                layers = ",".join(map(str, subject.replaced))
                measure("save", checkpoint, layers, script=WAV2VEC2_BASE)
        program.mkdir(parents=True, exist_ok=True)
        found = measure("export", checkpoint, subject.lowering, str(program))
        figures.write_text(json.dumps(found), "utf-8")
    read: dict[str, Any] = json.loads(figures.read_text("utf-8"))
    return read


def _cells(subject: Subject, export: dict[str, Any], options: argparse.Namespace) -> list[str]:
    cells = [
        subject.model,
        subject.lowering if subject.replaced != () else "attention",
        f"{export['cpu_seconds']:.0f}",
        f"{export['peak_mb']:.0f}",
        f"{export['bytes'] / 1e6:.1f}",
        f"{100 * export['delegated']:.1f} %",
        str(export["subgraphs"]),
    ]
    buckets = export["runtime"]["buckets"]
    for number, seconds in enumerate(SECONDS):
        method = buckets[number]["method"] if buckets else export["runtime"]["method"]
        samples = str(int(seconds * 16_000))
        bundle = str(options.folder / subject.name)
        ran = measure("run", bundle, method, samples, str(int(bool(buckets))), str(options.threads))
        cells += [f"{1000 * ran['seconds']:.0f}", f"{ran['peak_mb']:.0f}"]
    return cells


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
