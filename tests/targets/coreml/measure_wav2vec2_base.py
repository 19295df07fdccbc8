"""What exporting wav2vec2-base to Core ML costs, beside a plain conversion of the same weights.

Weights are random: time and memory do not depend on them. Run it from the repository's root:

    python tests/targets/coreml/measure_wav2vec2_base.py [--buckets 10 30]

The first column is `CoremlTarget` with 8 of 12 layers replaced, all its checks included; the
second `coremltools.convert` of Hugging Face's own module, nothing replaced, traced at 10 s. Each
comes from a process of its own, whose peak memory is the system's own count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lpa_export.formats.schemes import scheme_named

REPLACED = (0, 1, 2, 3, 4, 5, 6, 7)
PLAIN_SECONDS = 10.0


def measure(step: str, *arguments: str) -> dict[str, Any]:
    """Run one step of this script in a fresh process; its figures, peak memory among them."""
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _model(replaced: tuple[int, ...]) -> Any:
    """A wav2vec2-base (transformers' default config) with random weights."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    from lpa_export.hosts import lpa_layers, replace_layers
    from lpa_export.layers import LPAConfig

    torch.manual_seed(0)
    config = Wav2Vec2Config()
    model = Wav2Vec2ForCTC(config).eval()
    sizes = (config.hidden_size, config.num_attention_heads)
    replace_layers(model, replaced, LPAConfig(*sizes))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    return model


def _export(out: str, *buckets: str) -> dict[str, Any]:
    from lpa_export.environment import quiet_libraries
    from lpa_export.formats.checkpoint import Checkpoint, LPASection

    quiet_libraries()
    from lpa_export.formats.text import Vocabulary
    from lpa_export.layers import Pulses
    from lpa_export.targets import Job
    from lpa_export.targets.coreml.settings import CoremlSettings
    from lpa_export.targets.coreml.target import CoremlTarget
    from lpa_export.targets.golden import golden_clips

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    checkpoint = Checkpoint(
        model=_model(REPLACED),
        vocabulary=Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", "'", *letters)),
        lpa=LPASection(layers=REPLACED, pulses=Pulses(), temperature=0.1),
        name="wav2vec2-base",
        sha256="0" * 64,
        do_normalize=True,
    )
    clips = golden_clips(checkpoint)
    settings = CoremlSettings(buckets=tuple(float(bucket) for bucket in buckets))
    steps: list[tuple[str, float]] = []
    started = time.monotonic(), time.process_time()
    job = Job(
        checkpoint,
        scheme_named("fp16"),
        settings,
        clips,
        lambda step: steps.append((step, time.monotonic())),
    )
    written = CoremlTarget().write(job, Path(out))
    ended = time.monotonic()
    ends = [begun for _, begun in steps[1:]] + [ended]
    for (step, begun), end in zip(steps, ends, strict=True):
        print(f"{end - begun:6.1f} s  {step}", file=sys.stderr)
    return {
        "seconds": ended - started[0],
        "cpu_seconds": time.process_time() - started[1],
        "bytes": {name: _size(Path(out) / name) for name in written.artifacts},
    }


def _plain(out: str) -> dict[str, Any]:
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    import numpy as np
    import torch

    from lpa_export.environment import quiet

    class Logits(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(waveform).logits
            return logits

    waveform = torch.zeros(1, int(PLAIN_SECONDS * 16_000))
    model = Logits(_model(())).eval()
    package = Path(out) / "plain.mlpackage"
    started = time.monotonic(), time.process_time()
    with quiet(), torch.no_grad():
        import coremltools

        converted = coremltools.convert(
            torch.jit.trace(model, (waveform,), check_trace=False),
            inputs=[coremltools.TensorType("waveform", tuple(waveform.shape), dtype=np.float32)],
            minimum_deployment_target=coremltools.target.iOS18,
            convert_to="mlprogram",
            skip_model_load=True,
        )
        converted.save(str(package))
    return {
        "seconds": time.monotonic() - started[0],
        "cpu_seconds": time.process_time() - started[1],
        "bytes": {package.name: _size(package)},
    }


def _size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {"export": _export, "plain": _plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buckets", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](*options.arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(figures | {"peak_mb": peak / 1024}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("export", "plain"):
            os.mkdir(os.path.join(scratch, folder))
        ours = measure("export", f"{scratch}/export", *map(str, options.buckets))
        plain = measure("plain", f"{scratch}/plain")
    buckets = " and ".join(f"{bucket:g}" for bucket in options.buckets)
    print(f"| what | 8 of 12 replaced, {buckets} s | plain conversion, {PLAIN_SECONDS:g} s |")
    print("| --- | ---: | ---: |")
    for name, key, digits in (
        ("time, s", "seconds", 1),
        ("CPU time, s", "cpu_seconds", 1),
        ("peak memory, MB", "peak_mb", 0),
    ):
        print(f"| {name} | {ours[key]:.{digits}f} | {plain[key]:.{digits}f} |")
    sizes = (
        ", ".join(f"{name} {size / 1e6:.1f}" for name, size in figures["bytes"].items())
        for figures in (ours, plain)
    )
    print(f"| packages, MB | {' | '.join(sizes)} |")


if __name__ == "__main__":
    main()
