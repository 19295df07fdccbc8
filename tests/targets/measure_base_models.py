"""What exporting and running a base model costs, 8 of 12 layers replaced beside none replaced.

Weights are random: time and memory do not depend on them. Run it from the repository's root:

    python tests/targets/measure_base_models.py [--family wav2vec2] [--seconds 10 30] [--threads 1]
    python tests/targets/measure_base_models.py --family all    # exports, 8 of 12 replaced

Each figure comes from a process of its own, whose peak memory is the system's own count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPLACED = (0, 1, 2, 3, 4, 5, 6, 7)
REPETITIONS = 3


def save_base_model(folder: Path, replaced: Sequence[int], family: str = "wav2vec2") -> None:
    """Write a family's base model (transformers' default config) with random weights."""
    import torch

    from lpa_export.formats.checkpoint import LPASection, save_checkpoint
    from lpa_export.formats.text import Vocabulary
    from lpa_export.hosts import HOSTS, replace_layers
    from lpa_export.layers import LPAConfig, Pulses

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    vocabulary = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", "'", *letters))
    torch.manual_seed(0)
    host = HOSTS[family]
    config: Any = host.config({"pad_token_id": 0})
    model = host.build(config).eval()
    section = None
    if replaced:
        sizes = (config.hidden_size, config.num_attention_heads)
        replace_layers(model, replaced, LPAConfig(*sizes))
        section = LPASection(layers=tuple(replaced), pulses=Pulses(), temperature=0.1)
    save_checkpoint(folder, model, vocabulary, section)


def measure(step: str, *arguments: str) -> dict[str, Any]:
    """Run one step of this script in a fresh process; its figures, peak memory among them."""
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _save(folder: str, replaced: str, family: str = "wav2vec2") -> dict[str, Any]:
    layers = [int(index) for index in replaced.split(",") if index]
    save_base_model(Path(folder), layers, family)
    return {}


def _export(checkpoint: str, out: str) -> dict[str, Any]:
    from lpa_export.commands.export import export
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    started = time.monotonic(), time.process_time()
    result = export(target="onnx", checkpoint=checkpoint, out=out)
    return {
        "seconds": time.monotonic() - started[0],
        "cpu_seconds": time.process_time() - started[1],
        "bytes": result.files.sizes["model.onnx"],
        "nodes": _count_nodes(Path(out) / "model.onnx"),
    }


def _count_nodes(path: Path) -> int:
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def _run(bundle: str, seconds: str, threads: str) -> dict[str, Any]:
    import numpy as np

    from lpa_export.runtimes.onnx import open_session

    model = (Path(bundle) / "model.onnx").read_bytes()
    session = open_session(model, threads=int(threads))
    noise = np.random.default_rng(0).standard_normal(int(float(seconds) * 16_000))
    waveform = 0.1 * noise.astype(np.float32)[None]
    inputs = {"waveform": waveform, "lengths": np.array([waveform.shape[1]], np.int64)}
    times = []
    for _ in range(REPETITIONS):
        started = time.monotonic(), time.process_time()
        session.run(["logits"], inputs)
        times.append((time.monotonic() - started[0], time.process_time() - started[1]))
    return {"seconds": min(t[0] for t in times), "cpu_seconds": min(t[1] for t in times)}


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {"save": _save, "export": _export, "run": _run}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--family", default="wav2vec2")
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](*options.arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(figures | {"peak_mb": peak / 1024}))
        return
    if options.family == "all":
        _every_family()
        return
    print("| what | none replaced | 8 of 12 replaced |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        columns = [_column(Path(scratch), replaced, options) for replaced in ((), REPLACED)]
    for name in columns[0]:
        print(f"| {name} | {columns[0][name]} | {columns[1][name]} |")


def _every_family() -> None:
    from lpa_export.hosts import HOSTS

    print("| base model of | time, s | CPU, s | peak MB | model.onnx, MB | nodes |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for family in HOSTS:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = str(Path(scratch) / f"base-{family}")
            measure("save", checkpoint, ",".join(map(str, REPLACED)), family)
            found = measure("export", checkpoint, str(Path(scratch) / "bundle"))
        print(
            f"| `{family}` | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} "
            f"| {found['peak_mb']:.0f} | {found['bytes'] / 1e6:.1f} | {found['nodes']} |",
            flush=True,
        )


def _column(scratch: Path, replaced: Sequence[int], options: argparse.Namespace) -> dict[str, str]:
    name = f"base-{len(replaced)}"
    checkpoint, bundle = str(scratch / name), str(scratch / f"{name}-bundle")
    measure("save", checkpoint, ",".join(map(str, replaced)), options.family)
    exported = measure("export", checkpoint, bundle)
    column = {
        "export, s": f"{exported['seconds']:.1f}",
        "export, CPU s": f"{exported['cpu_seconds']:.1f}",
        "export, peak MB": f"{exported['peak_mb']:.0f}",
        "model.onnx, MB": f"{exported['bytes'] / 1e6:.1f}",
        "nodes": str(exported["nodes"]),
    }
    for seconds in options.seconds:
        ran = measure("run", bundle, str(seconds), str(options.threads))
        column[f"{seconds:g} s of audio, s"] = f"{ran['seconds']:.2f}"
        column[f"{seconds:g} s of audio, CPU s"] = f"{ran['cpu_seconds']:.2f}"
        column[f"{seconds:g} s of audio, peak MB"] = f"{ran['peak_mb']:.0f}"
    return column


if __name__ == "__main__":
    main()
