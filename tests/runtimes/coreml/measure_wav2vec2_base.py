"""What evaluating wav2vec2-base as a Core ML program costs, beside torch itself.

Weights are random: time and memory do not depend on them. Run it from the repository's root:

    python tests/runtimes/coreml/measure_wav2vec2_base.py [--seconds 10] [--threads 1]

The model is traced and converted at a fixed length, fp16, for iOS 18. Each figure comes from a
process of its own, whose peak memory is the system's own count. "loaded" is that count before
the first run: libraries and the model as read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPETITIONS = 3


def measure(step: str, *arguments: str) -> dict[str, Any]:
    """Run one step of this script in a fresh process; its figures, peak memory among them."""
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _model() -> Any:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config()
    config._attn_implementation = "eager"
    return Wav2Vec2ForCTC(config).eval()


def _waveform(seconds: str) -> Any:
    import numpy as np

    noise = np.random.default_rng(0).standard_normal((1, int(float(seconds) * 16_000)))
    return noise.astype(np.float32)


def _convert(package: str, seconds: str) -> dict[str, Any]:
    import coremltools
    import numpy as np
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _model()

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(waveform).logits
            return logits

    waveform = torch.from_numpy(_waveform(seconds))
    with torch.no_grad():
        traced = torch.jit.trace(Logits(), waveform, check_trace=False)
    program = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType("waveform", waveform.shape, np.float32)],
        outputs=[coremltools.TensorType("logits", dtype=np.float32)],
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT16,
        minimum_deployment_target=coremltools.target.iOS18,
    )
    program.save(package)
    return {}


def _torch(seconds: str, threads: str, logits: str) -> dict[str, Any]:
    import numpy as np
    import torch

    torch.set_num_threads(int(threads))
    model, waveform = _model(), torch.from_numpy(_waveform(seconds))

    def run() -> Any:
        with torch.no_grad():
            return model(waveform).logits.numpy()

    figures = _timed(run)
    np.save(logits, figures.pop("result"))
    return figures


def _evaluator(
    package: str, seconds: str, threads: str, logits: str, precision: str
) -> dict[str, Any]:
    import numpy as np
    import torch

    from lpa_export.runtimes.coreml import Arithmetic, Evaluator, load_package
    from lpa_export.runtimes.coreml.divergence import agreement_db

    torch.set_num_threads(int(threads))
    loaded = load_package(Path(package))
    evaluator = Evaluator(loaded, arithmetic=getattr(Arithmetic, precision))
    inputs = {"waveform": _waveform(seconds)}
    figures = _timed(lambda: evaluator.run(inputs)["logits"])
    return figures | {"db": agreement_db(np.load(logits), figures.pop("result"))}


def _timed(run: Callable[[], Any]) -> dict[str, Any]:
    loaded, times, result = _peak_mb(), [], None
    for _ in range(REPETITIONS):
        started = time.monotonic()
        result = run()
        times.append(time.monotonic() - started)
    return {"first": times[0], "seconds": min(times), "loaded_mb": loaded, "result": result}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "convert": _convert,
    "torch": _torch,
    "evaluator": _evaluator,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--package", type=Path, help="keep the converted package here")
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](*options.arguments)
        print(json.dumps(figures | {"peak_mb": _peak_mb()}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        _print_table(Path(scratch), options)


def _print_table(scratch: Path, options: argparse.Namespace) -> None:
    seconds, threads = str(options.seconds), str(options.threads)
    package = options.package or scratch / "wav2vec2-base.mlpackage"
    logits = str(scratch / "logits.npy")
    if not package.exists():
        measure("convert", str(package), seconds)
    rows = {"torch eager, fp32": measure("torch", seconds, threads, logits)}
    for name in ("FP32", "FP16"):
        row = measure("evaluator", str(package), seconds, threads, logits, name)
        rows[f"evaluator, {name}"] = row
    print(f"wav2vec2-base, {seconds} s of audio, {threads} threads, fp16 program\n")
    print("| | first run, s | best run, s | loaded, MB | peak, MB | PSNR against torch, dB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, row in rows.items():
        psnr = f"{row['db']:.1f}" if "db" in row else ""
        print(
            f"| {name} | {row['first']:.2f} | {row['seconds']:.2f} | {row['loaded_mb']:.0f} "
            f"| {row['peak_mb']:.0f} | {psnr} |"
        )


if __name__ == "__main__":
    main()
