"""Time and memory of the published configuration, attention beside LPA: 25.7 M random weights.

python tests/separation/measure_published.py --target torch --seconds 4,10,30
python tests/separation/measure_published.py --target onnx --seconds 4,10,30,120
"""

import argparse
import tempfile
from pathlib import Path

import torch

from lpa_export.benchmark.text import render_text
from lpa_export.cli import count
from lpa_export.commands.bench import bench, bench_all
from lpa_export.commands.export import export
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.separator import save_separator
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig
from lpa_export.layers import LPAConfig, Pulses

PUBLISHED = SepFormerConfig(
    sampling_rate=8000,
    sources=2,
    filters=256,
    kernel_size=16,
    hidden_size=256,
    chunk=250,
    blocks=2,
    intra_layers=8,
    inter_layers=8,
    num_attention_heads=8,
    intermediate_size=1024,
)
"""Subakan et al. 2021, as SpeechBrain's recipes for WSJ0-2mix have it."""


def main() -> None:
    """Print a table for each way of replacing attention."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--seconds", default="4,10,30")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--threads", type=count, default=2)
    arguments = parser.parse_args()
    kinds = _kinds()
    how = {
        "seconds": tuple(float(part) for part in arguments.seconds.split(",")),
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "announce": lambda step: print(step, flush=True),
    }
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: _saved(Path(scratch) / name, layers) for name, layers in kinds.items()}
        attention = made.pop("attention")
        if arguments.target == "torch":
            results = [
                bench(target="torch", checkpoint=lpa, against=attention, **how)
                for lpa in made.values()
            ]
        else:
            bundles = {
                path: export(target="onnx", checkpoint=path, out=path.with_suffix(".onnx")).bundle
                for path in (attention, *made.values())
            }
            beside = bundles.pop(attention)
            results = list(
                bench_all(target="onnx", bundles=[*bundles.values()], against=beside, **how)
            )
        print(render_text(results), end="")


def _kinds() -> dict[str, tuple[int, ...]]:
    """Which layers are LPA; in each block those within chunks come first."""
    stack = PUBLISHED.intra_layers + PUBLISHED.inter_layers
    every = range(PUBLISHED.blocks * stack)
    within = tuple(index for index in every if index % stack < PUBLISHED.intra_layers)
    return {"attention": (), "intra": within, "all": tuple(every)}


def _saved(folder: Path, layers: tuple[int, ...]) -> Path:
    torch.manual_seed(0)
    model = SepFormer(PUBLISHED).eval()
    pulses = Pulses()
    replace_layers(
        model,
        layers,
        LPAConfig(PUBLISHED.hidden_size, PUBLISHED.num_attention_heads, **pulses.shape),
    )
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    section = LPASection(layers, pulses, 0.1, name=folder.name) if layers else None
    return save_separator(folder, model, section)


if __name__ == "__main__":
    main()
