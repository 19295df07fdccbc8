"""Where the soft gates' forms cross: forward and backward of one layer over clips of 1 to 120 s.

    OMP_NUM_THREADS=1 python tests/layers/measure_soft_forms.py

The layer has the shape of the model that ships (width 160, 4 heads, pulses 2 + 1 + 1). A batch
holds 28 s of audio, or one clip where that is longer. Each figure is the median CPU time, in
milliseconds, of several repeats on one thread:

- aperiodic: dense is one block with all keys, band are blocks of 64 queries with their band;
- periodic: dense weighs all frames for every tooth, near only those that its gate reaches;
- layer: the whole layer with either of them, and as `lpa_export.layers.soft` chooses by length.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from lpa_export.layers import LPA, LPAConfig, soft

SECONDS = (1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 60, 120)
FRAMES_PER_SECOND = 50
BATCH_SECONDS = 28
NEVER = 10**9
LONGEST_DENSE = 30  # seconds; beyond, dense aperiodic gates take gigabytes


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the gates, in frames")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = LPA(LPAConfig(hidden_size=160, num_heads=4))
    layer.temperature = arguments.temperature
    print(f"{'clip':>7} {'clips':>5} | {'aperiodic':^16} | {'periodic':^16} | {'layer':^24}")
    print(f"{'s':>7} {'':>5} | {'dense':>8}{'band':>8} | {'dense':>8}{'near':>8} | ", end="")
    print(f"{'dense':>8}{'near':>8}{'chosen':>8}")
    for seconds in SECONDS:
        clips = max(1, BATCH_SECONDS // seconds)
        cells = [
            f"{'-':>8}" if run is None else f"{_median(run, arguments.repeats):8.1f}"
            for run in _forms(layer, clips, seconds)
        ]
        groups = ("".join(cells[:2]), "".join(cells[2:4]), "".join(cells[4:]))
        print(f"{seconds:7d} {clips:5d} | {' | '.join(groups)}", flush=True)


def _forms(layer: LPA, clips: int, seconds: int) -> list[Callable[[], None] | None]:
    """The columns of one row, None where a form needs too much memory."""
    frames = seconds * FRAMES_PER_SECOND
    hidden = torch.randn(clips, frames, layer.config.hidden_size)
    values, controls, lengths = layer.read(hidden, None)
    ones = torch.ones(*values.shape[:3], 1)
    weighted = torch.cat([values, ones], -1).transpose(1, 2).contiguous().detach().requires_grad_()
    edges = [edge.detach().requires_grad_() for edge in layer.soft_edges(controls, lengths)]

    def aperiodic() -> None:
        band, temperature = layer.config.band, layer.temperature
        means = soft.aperiodic_means(weighted, *edges, temperature=temperature, band=band)
        means.sum().backward()

    def periodic() -> None:
        assert layer.periodic is not None
        teeth = layer.periodic.teeth(weighted.dtype)
        soft.periodic_means(weighted, *teeth, temperature=layer.temperature).sum().backward()

    def whole() -> None:
        layer(hidden).sum().backward()

    one_block = None if seconds > LONGEST_DENSE else _with(aperiodic, QUERY_BLOCK=frames)
    return [
        one_block,
        aperiodic,
        _with(periodic, DENSE_FRAMES=NEVER),
        _with(periodic, DENSE_FRAMES=0),
        _with(whole, DENSE_FRAMES=NEVER),
        _with(whole, DENSE_FRAMES=0),
        whole,
    ]


def _with(run: Callable[[], None], **settings: Any) -> Callable[[], None]:
    """`run` under other settings of the module."""

    def changed() -> None:
        with patch.multiple(soft, **settings):
            run()

    return changed


def _median(run: Callable[[], None], repeats: int) -> float:
    """Milliseconds of CPU time."""
    run()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
