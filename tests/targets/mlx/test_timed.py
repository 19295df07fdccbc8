"""What a benchmark runs: the bundle's model at any length, and the untouched architecture."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from lpa_export.benchmark.hub_export import original_model
from lpa_export.benchmark.process import measure
from lpa_export.benchmark.sides import BASELINES, Side, open_side
from lpa_export.commands.bench import bench
from lpa_export.commands.bench import main as bench_main
from lpa_export.errors import LpaError
from lpa_export.measures.arrays import psnr
from lpa_export.targets.mlx.timed import original

NAMES = [name for name in BASELINES if name.startswith("mlx-")]


@pytest.fixture(scope="module")
def waveform() -> Any:
    return np.random.default_rng(0).normal(0.2, 0.1, 20_000).astype(np.float32)


@pytest.mark.parametrize("fused", [True, False])
def test_a_baseline_gives_the_logits_of_the_untouched_model(
    mlx_checkpoint: Path, waveform: Any, fused: bool
) -> None:
    centred = waveform - waveform.mean()
    with torch.no_grad():
        values = torch.from_numpy(centred / np.sqrt(centred.var() + 1e-7))[None]
        expected = original_model(mlx_checkpoint, attention="eager")(values).logits[0].numpy()
    model = original(mlx_checkpoint, "fp32", fused=fused)
    found = np.array(model(mx.array(waveform[None])))[0]
    assert psnr(expected, found) > 100
    assert all(layer["lpa"] is None for layer in model.structure["layers"])


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_opens_and_runs(mlx_checkpoint: Path, waveform: Any, name: str) -> None:
    row = BASELINES[name]
    side = Side(name=name, kind=row.kind, path=str(mlx_checkpoint))
    timed = open_side(side, threads=1)
    assert timed.run(waveform) > 0 and timed.peak() > 0
    assert row.scheme == ("bf16" if name.endswith("bf16") else "fp32")


def test_a_bundle_is_timed_beyond_its_buckets(mlx_bundle: Path, mlx_checkpoint: Path) -> None:
    result = bench(
        target="mlx",
        bundle=mlx_bundle,
        against="mlx-fused",
        checkpoint=mlx_checkpoint,
        seconds=(1.0, 6.0),
        rounds=1,
        least_seconds=0.01,
    )
    assert [point.seconds for point in result.ours.points] == [1.0, 6.0]
    assert result.theirs is not None and result.theirs.scheme == "fp32"
    assert "mlx" in result.machine.tools


def test_attention_is_both_baselines_and_one_table(
    mlx_bundle: Path,
    mlx_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process: a fresh one for each time is another test's."""
    monkeypatch.setattr("lpa_export.benchmark.run.measure_in_process", measure)
    given = ["--bundle", str(mlx_bundle), "--checkpoint", str(mlx_checkpoint)]
    flags = ["--target", "mlx", *given, "--seconds", "0.5,1", "--rounds", "1", "--threads", "1"]
    assert bench_main([*flags, "--against", "attention"]) == 0
    *_, names, _, first, second, end = capsys.readouterr().out.split("\n")
    assert names == f"| audio | {mlx_bundle} | mlx-unfused | mlx-fused |"
    assert first.startswith("| 0.5 s | ") and second.startswith("| 1 s | ")
    assert first.count(" times") == 2 and end == ""
    picture = ["--against", "attention", "--picture", "time.svg"]
    assert bench_main([*flags, *picture]) == 2
    assert "--picture is of one baseline" in capsys.readouterr().err
    with pytest.raises(LpaError, match="attention stands for several"):
        bench(target="mlx", bundle=mlx_bundle, against="attention", checkpoint=mlx_checkpoint)
