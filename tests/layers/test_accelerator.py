"""The accelerated hard mixture against the float64 one, which the slow loop holds."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.accelerator import accelerated_mix
from lpa_export.layers.block_sums import BLOCK, block_sums
from lpa_export.layers.controls import Controls
from lpa_export.layers.hard import hard_mix

REPOSITORY = Path(__file__).resolve().parents[2]
FAMILIES = ((2, 1, 1), (1, 0, 0), (0, 2, 0), (0, 0, 2), (2, 0, 1), (3, 2, 2))


def inputs(frames: int, families: tuple[int, int, int], dtype: torch.dtype, seed: int = 0) -> Any:
    """Arguments of the mixture: two utterances, one of them shorter; values with a mean."""
    counts: dict[str, Any] = dict(
        zip(("aperiodic", "periodic", "positional"), families, strict=True)
    )
    generator = torch.Generator().manual_seed(seed)
    layer = LPA(LPAConfig(hidden_size=12, num_heads=2, max_width=90.0, **counts))
    lengths = torch.tensor([frames, max(1, frames - 7)])
    valid = torch.arange(frames) < lengths[:, None]
    values = 1 + torch.randn(2, frames, 2, 6, generator=generator)
    values = (values * valid[..., None, None]).to(dtype)
    offset = 20 * torch.randn(2, frames, 2, families[0], generator=generator)
    half = 45 * torch.rand(2, frames, 2, families[0], generator=generator) + 0.5
    amplitudes = torch.rand(2, frames, 2, sum(families), generator=generator)
    controls = Controls(offset - half, offset + half, amplitudes)
    teeth, shares = layer.fixed_windows()
    named = {
        "teeth": None if teeth is None else type(teeth)(*(part.detach() for part in teeth)),
        "shares": None if shares is None else type(shares)(*(part.detach() for part in shares)),
    }
    return values, controls, lengths, named


def difference(
    frames: int, families: tuple[int, int, int], dtype: torch.dtype, fused: bool
) -> float:
    """The largest from the float64 form, at valid frames."""
    values, controls, lengths, named = inputs(frames, families, dtype)
    exact = Controls(controls.lower, controls.upper, controls.amplitudes.double())
    expected = hard_mix(values.double(), exact, lengths, **named)
    found = accelerated_mix(values, controls, lengths, fused=fused, **named)
    assert found.dtype == dtype and found.shape == expected.shape
    valid = torch.arange(frames) < lengths[:, None]
    return float((found.double() - expected)[valid].abs().max())


TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.03}
"""A sum of BLOCK values rounds to some BLOCK * 6e-8 of them; bfloat16 keeps three digits of it."""


@pytest.mark.parametrize("families", FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("frames", [1, BLOCK - 1, BLOCK, BLOCK + 1, 300])
def test_plain_torch_gives_the_float64_mixture(
    families: tuple[int, int, int], dtype: torch.dtype, frames: int
) -> None:
    assert difference(frames, families, dtype, fused=False) < TOLERANCE[dtype]


def test_an_hour_is_as_exact_as_a_minute() -> None:
    """Where a plain float32 prefix sum has lost the second digit behind the point."""
    values, controls, lengths, named = inputs(180_000, (1, 1, 1), torch.float32)
    expected = hard_mix(values.double(), controls, lengths, **named)
    found = accelerated_mix(values, controls, lengths, fused=False, **named)
    worst = float((found.double() - expected)[0].abs().max())
    sums = torch.nn.functional.pad(values.cumsum(1), (0, 0, 0, 0, 1, 0))
    naive = sums[:, 2:] - sums[:, :-2]
    true = values.double()[:, 1:] + values.double()[:, :-1]
    assert float((naive.double() - true).abs().max()) > 1e-3
    assert worst < 2e-5


def test_blocks_sum_up_to_every_prefix() -> None:
    values = torch.randn(1, 3 * BLOCK, 2, 4, dtype=torch.float64, generator=torch.Generator())
    sums = block_sums(values)
    exact = torch.nn.functional.pad(values.cumsum(1), (0, 0, 0, 0, 1, 0)).transpose(1, 2)
    index = torch.arange(3 * BLOCK + 1)
    found = (sums.local[:, :, index] + sums.high[:, :, index // BLOCK]).double()
    found += sums.low[:, :, index // BLOCK]
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)


def test_nothing_waits_for_the_device() -> None:
    """A tensor without data has nothing to wait for: a step that reads one fails."""
    values, controls, lengths, named = inputs(200, (2, 1, 1), torch.float32)
    moved = {name: type(part)(*(x.to("meta") for x in part)) for name, part in named.items()}
    mixed = accelerated_mix(
        values.to("meta"),
        Controls(*(part.to("meta") for part in controls)),
        lengths.to("meta"),
        fused=False,
        **moved,
    )
    assert mixed.shape == values.shape and mixed.is_meta


def test_it_compiles_as_one_graph() -> None:
    values, controls, lengths, named = inputs(150, (2, 1, 1), torch.float32)

    def mix(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return accelerated_mix(values, controls, lengths, fused=False, **named)

    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(values, lengths), mix(values, lengths))


INTERPRETED = """
import json, sys
import torch
import lpa_export.layers.fused_kernels as kernels
from tests.layers.test_accelerator import FAMILIES, difference
entered = []
for name in ("_scan", "_mix"):
    kernel = getattr(kernels, name)
    class Counting:
        def __init__(self, kernel, name): self.kernel, self.name = kernel, name
        def __getitem__(self, grid):
            entered.append(self.name)
            return self.kernel[grid]
    setattr(kernels, name, Counting(kernel, name))
found = {
    f"{frames} {families} {dtype}": difference(frames, families, dtype, fused=True)
    for frames, families in ((1, (2, 1, 1)), (64, (1, 0, 0)), (131, (3, 2, 2)), (70, (0, 2, 0)))
    for dtype in (torch.float32, torch.bfloat16)
}
print(json.dumps({"found": found, "entered": sorted(set(entered)), "count": len(entered)}))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernels_give_the_float64_mixture_in_tritons_interpreter() -> None:
    """In a process of its own: Triton reads the switch when it is imported."""
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["entered"] == ["_mix", "_scan"] and answer["count"] == 16
    for case, worst in answer["found"].items():
        assert worst < (0.03 if "bfloat16" in case else 2e-5), (case, worst)
