"""What exporting and running a base model costs, 8 of 12 layers replaced beside none replaced.

Weights are random: time and memory do not depend on them. Run it from the repository's root:

    python tests/targets/measure_base_models.py [--family wav2vec2] [--seconds 10 30] [--threads 1]
    python tests/targets/measure_base_models.py --family all    # exports, 8 of 12 replaced
    python tests/targets/measure_base_models.py --export        # beside torch's plain exporter
    python tests/targets/measure_base_models.py --export --target coreml    # beside coremltools
    python tests/targets/measure_base_models.py --target mlx    # 8 of 12, a bucket for each length
    python tests/targets/measure_base_models.py --large     # 569 M parameters, nothing replaced
    python tests/targets/measure_base_models.py --save DIR --replaced 8     # keeps the checkpoint

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPLACED = (0, 1, 2, 3, 4, 5, 6, 7)
REPETITIONS = 3
LARGE = {
    "hidden_size": 1280,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
}
"""More weights than one file of a graph may hold, 2 GiB."""


def save_base_model(
    folder: Path,
    replaced: Sequence[int],
    family: str = "wav2vec2",
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Write a family's base model (transformers' default config, other `sizes` in it) with random
    weights.
    """
    import torch

    from lpa_export.formats.checkpoint import LPASection, save_checkpoint
    from lpa_export.formats.text import Vocabulary
    from lpa_export.hosts import HOSTS, replace_layers
    from lpa_export.layers import LPAConfig, Pulses

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    vocabulary = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", "'", *letters))
    torch.manual_seed(0)
    host = HOSTS[family]
    config: Any = host.config({"pad_token_id": 0, **(sizes or {})})
    model = host.build(config).eval()
    with torch.no_grad():
        # New ones make next to nothing of silence, which int8 has no digits for.
        for name, parameter in model.named_parameters():
            if "feature_extractor" in name and name.endswith("bias"):
                parameter.normal_()
    section = None
    if replaced:
        shape = (config.hidden_size, config.num_attention_heads)
        replace_layers(model, replaced, LPAConfig(*shape))
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


def _save_large(folder: str) -> dict[str, Any]:
    save_base_model(Path(folder), (), sizes=LARGE)
    return {}


def _export(checkpoint: str, out: str) -> dict[str, Any]:
    from lpa_export.commands.export import export
    from lpa_export.environment import quiet_libraries

    quiet_libraries()
    started = time.monotonic(), time.process_time()
    sizes = export(target="onnx", checkpoint=checkpoint, out=out).files.sizes
    return {
        "seconds": time.monotonic() - started[0],
        "cpu_seconds": time.process_time() - started[1],
        "bytes": sizes["model.onnx"] + sizes.get("model.onnx.data", 0),
        "nodes": _count_nodes(Path(out) / "model.onnx"),
    }


def _logits_alone(model: Any) -> Any:
    """A module with a tensor in and a tensor out, as exporters want it."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(waveform).logits
            return logits

    return Logits().eval()


def _plain(checkpoint: str, out: str) -> dict[str, Any]:
    """What a user's own export of the Hugging Face model takes, the model being loaded."""
    import torch
    from torch.export import Dim

    from lpa_export.environment import quiet, quiet_libraries
    from lpa_export.formats.checkpoint import load_checkpoint

    quiet_libraries()
    model = _logits_alone(load_checkpoint(checkpoint).model)
    started = time.process_time()
    with quiet(), torch.no_grad():
        example = (torch.randn(1, 64_000),)
        samples = Dim("samples", min=16_000)
        program = torch.onnx.export(
            model, example, dynamo=True, dynamic_shapes=({1: samples},), verbose=False
        )
        assert program is not None
        program.save(out)
    return {"cpu_seconds": time.process_time() - started}


def _plain_coreml(checkpoint: str, out: str, seconds: str) -> dict[str, Any]:
    """What coremltools takes for the Hugging Face model at one length, the model being loaded."""
    import coremltools as ct
    import torch

    from lpa_export.environment import quiet, quiet_libraries
    from lpa_export.formats.checkpoint import load_checkpoint

    quiet_libraries()
    model = _logits_alone(load_checkpoint(checkpoint).model)
    started = time.process_time()
    with quiet(), torch.no_grad():
        example = torch.randn(1, int(float(seconds) * 16_000))
        traced = torch.jit.trace(model, example)
        ct.convert(
            traced,
            inputs=[ct.TensorType("waveform", example.shape)],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(out)
    return {"cpu_seconds": time.process_time() - started}


def _lower(checkpoint: str, out: str) -> dict[str, Any]:
    """The same of ours: trace, rewrite and write, without reading, describing and self-check."""
    from lpa_export.environment import quiet_libraries
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.hosts import parts_of
    from lpa_export.targets.batched import BatchedModel
    from lpa_export.targets.kit_in_pieces import IN_PIECES
    from lpa_export.targets.onnx.external import save
    from lpa_export.targets.onnx.lower import lower
    from lpa_export.targets.onnx.optimise import optimise

    quiet_libraries()
    loaded = load_checkpoint(checkpoint)
    parts = parts_of(loaded)
    started = time.process_time()
    model, taps = BatchedModel(parts, IN_PIECES), tuple(parts.taps)
    graph = optimise(lower(model, taps, loaded.receptive_field), Path(out).parent)
    save(graph, Path(out), external=False)
    return {"cpu_seconds": time.process_time() - started}


def _export_buckets(checkpoint: str, out: str, target: str, seconds: str) -> dict[str, Any]:
    from lpa_export.commands.export import export
    from lpa_export.environment import quiet_libraries
    from lpa_export.formats.bundle import open_bundle

    quiet_libraries()
    buckets = tuple(map(float, seconds.split(",")))
    started = _cpu_seconds()
    result = export(target=target, checkpoint=checkpoint, out=out, buckets=buckets)
    program = open_bundle(out).manifest.artifacts[0]
    sizes = result.files.sizes
    found = sum(size for name, size in sizes.items() if name.split("/")[0] == program)
    return {"cpu_seconds": _cpu_seconds() - started, "bytes": found}


def _run_bundle(bundle: str, seconds: str, threads: str) -> dict[str, Any]:
    """One pass after another through a target's own runner, its process counted in."""
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.measures.machine import peak_memory
    from lpa_export.targets import target_named

    opened = open_bundle(bundle)
    runner = target_named(opened.manifest.target).runner_class()(opened, threads=int(threads))
    waveform = _noise(seconds)
    spent = []
    for _ in range(REPETITIONS):
        started = _cpu_seconds()
        runner.run(waveform, [waveform.shape[1]])
        spent.append(_cpu_seconds() - started)
    return {"cpu_seconds": min(spent), "peak_mb": peak_memory() / 1024**2}


def _compare(checkpoint: str, bundle: str, seconds: str) -> dict[str, Any]:
    """The bundle's logits beside transformers' own."""
    from lpa_export.environment import quiet_libraries
    from lpa_export.formats.bundle import open_bundle
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.measures.arrays import psnr
    from lpa_export.runtimes.torch import TorchReference
    from lpa_export.targets import target_named

    quiet_libraries()
    opened = open_bundle(bundle)
    waveform = _noise(seconds)
    runner = target_named(opened.manifest.target).runner_class()(opened)
    (found,) = runner.run(waveform, [waveform.shape[1]])
    expected = TorchReference(load_checkpoint(checkpoint)).logits(waveform[0])
    agreement = float((found.argmax(-1) == expected.argmax(-1)).mean())
    return {"psnr": psnr(expected, found), "agreement": agreement}


def _noise(seconds: str) -> Any:
    """(1, samples) float32, the same each time."""
    import numpy as np

    noise = np.random.default_rng(0).standard_normal(int(float(seconds) * 16_000))
    return 0.1 * noise.astype(np.float32)[None]


def _cpu_seconds() -> float:
    """Of this process, with those that it started, ended or not."""
    import psutil

    running = psutil.Process().children(recursive=True)
    times = [psutil.Process().cpu_times(), *(process.cpu_times() for process in running)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def _count_nodes(path: Path) -> int:
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def _run(bundle: str, seconds: str, threads: str) -> dict[str, Any]:
    import numpy as np

    from lpa_export.runtimes.onnx import open_session

    model = (Path(bundle) / "model.onnx").read_bytes()
    session = open_session(model, threads=int(threads))
    waveform = _noise(seconds)
    inputs = {"waveform": waveform, "lengths": np.array([waveform.shape[1]], np.int64)}
    times = []
    for _ in range(REPETITIONS):
        started = time.monotonic(), time.process_time()
        session.run(["logits"], inputs)
        times.append((time.monotonic() - started[0], time.process_time() - started[1]))
    return {"seconds": min(t[0] for t in times), "cpu_seconds": min(t[1] for t in times)}


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "save": _save,
    "save-large": _save_large,
    "export": _export,
    "run": _run,
    "export-buckets": _export_buckets,
    "run-bundle": _run_bundle,
    "compare": _compare,
    "plain": _plain,
    "plain-coreml": _plain_coreml,
    "lower": _lower,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--family", default="wav2vec2")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--target", help="one with buckets; CPU seconds, memory and parity of it")
    parser.add_argument("--save", metavar="DIR", help="write the checkpoint alone")
    parser.add_argument("--replaced", type=int, default=8, help="with --save: the first so many")
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = _STEPS[options.step](*options.arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"peak_mb": peak / 1024} | figures))
        return
    if options.save:
        save_base_model(Path(options.save), range(options.replaced), options.family)
        return
    if options.family == "all":
        _every_family()
        return
    if options.target == "coreml" and options.export:
        _beside_coremltools(options.family)
        return
    if options.target:
        _of_target(options)
        return
    if options.large:
        _large()
        return
    if options.export:
        _beside_the_plain_exporter(options.family)
        return
    print("| what | none replaced | 8 of 12 replaced |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        columns = [_column(Path(scratch), replaced, options) for replaced in ((), REPLACED)]
    for name in columns[0]:
        print(f"| {name} | {columns[0][name]} | {columns[1][name]} |")


def _of_target(options: argparse.Namespace) -> None:
    """8 of 12 replaced in one target, line by line as they are known."""
    print("| what | 8 of 12 replaced |\n| --- | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, bundle = str(Path(scratch, "base")), str(Path(scratch, "bundle"))
        measure("save", checkpoint, ",".join(map(str, REPLACED)), options.family)
        lengths = ",".join(f"{seconds:g}" for seconds in options.seconds)
        made = measure("export-buckets", checkpoint, bundle, options.target, lengths)
        print(f"| export with its self-check, CPU s | {made['cpu_seconds']:.0f} |")
        print(f"| export, peak MB | {made['peak_mb']:.0f} |")
        print(f"| the program, MB | {made['bytes'] / 1e6:.1f} |", flush=True)
        for seconds in options.seconds:
            length = f"{seconds:g} s of audio"
            ran = measure("run-bundle", bundle, str(seconds), str(options.threads))
            print(f"| {length}, CPU s | {ran['cpu_seconds']:.1f} |")
            print(f"| {length}, peak MB | {ran['peak_mb']:.0f} |", flush=True)
            beside = measure("compare", checkpoint, bundle, str(seconds))
            print(f"| {length}, PSNR of the logits, dB | {beside['psnr']:.1f} |")
            agreement = 100 * beside["agreement"]
            print(f"| {length}, argmax agreement | {agreement:.2f} % |", flush=True)


def _large() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = str(Path(scratch) / "large")
        measure("save-large", checkpoint)
        found = measure("export", checkpoint, str(Path(scratch) / "bundle"))
    share = found["peak_mb"] * 1024**2 / found["bytes"]
    print(f"weights {found['bytes'] / 1e6:.0f} MB, CPU {found['cpu_seconds']:.0f} s")
    print(f"peak {found['peak_mb'] * 1.048576:.0f} MB, {share:.2f} times the weights")


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


def _beside_the_plain_exporter(family: str) -> None:
    print("| export of | CPU, s | peak MB |\n| --- | ---: | ---: |")
    rows: tuple[tuple[str, str, Sequence[int]], ...] = (
        ("the untouched Hugging Face model, plain", "plain", ()),
        ("the untouched model", "lower", ()),
        ("8 of 12 replaced", "lower", REPLACED),
    )
    for name, step, replaced in rows:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = str(Path(scratch) / "base")
            measure("save", checkpoint, ",".join(map(str, replaced)), family)
            found = measure(step, checkpoint, str(Path(scratch) / "model.onnx"))
        print(f"| {name} | {found['cpu_seconds']:.1f} | {found['peak_mb']:.0f} |", flush=True)


def _beside_coremltools(family: str) -> None:
    """A bucket of 20 s: what two buckets take more than one."""
    print("| export of | CPU, s | peak MB |\n| --- | ---: | ---: |")
    for replaced in ((), REPLACED):
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint, out = str(Path(scratch) / "base"), str(Path(scratch) / "out")
            measure("save", checkpoint, ",".join(map(str, replaced)), family)
            if not replaced:
                plain = measure("plain-coreml", checkpoint, f"{out}.mlpackage", "20")
                what = "the untouched Hugging Face model at 20 s, coremltools"
                print(
                    f"| {what} | {plain['cpu_seconds']:.1f} | {plain['peak_mb']:.0f} |", flush=True
                )
            one, two = (
                measure("export-buckets", checkpoint, f"{out}-{count}", "coreml", lengths)
                for count, lengths in enumerate(("10", "10,20"))
            )
            more = two["cpu_seconds"] - one["cpu_seconds"]
            what = f"{len(replaced)} of 12 replaced, a bucket of 20 s more"
            print(f"| {what} | {more:.1f} | {two['peak_mb']:.0f} |", flush=True)


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
