"""The named baselines are the untouched model: transformers' numbers, in the graphs promised."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from lpa_export.benchmark.hub_export import TimedExport, original_model
from lpa_export.benchmark.sides import BASELINES, write_baseline

LAYERS = 3


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(12_345)
    return (0.1 * noise + 0.2).astype(np.float32)


@pytest.mark.parametrize(("name", "fused"), [("hub-export", 0), ("hub-export-fused", LAYERS)])
def test_a_baseline_gives_the_logits_of_the_untouched_model(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, waveform: Any, name: str, fused: int
) -> None:
    """Of another length than was traced; the checkpoint has LPA in two of its layers."""
    checkpoint, file = tiny_checkpoint(), tmp_path / "model.onnx"
    write_baseline(BASELINES[name], checkpoint, file)
    kinds = Counter(node.op_type for node in onnx.load(file).graph.node)
    assert kinds["MultiHeadAttention"] == fused
    assert (kinds["Softmax"] >= LAYERS) == (not fused)
    timed = TimedExport(file, threads=1)
    found = timed.logits(waveform)
    model = original_model(checkpoint)
    assert not [name for name, _ in model.named_parameters() if "lpa" in name]
    centred = waveform - waveform.mean()
    with torch.no_grad():
        values = torch.from_numpy(centred / np.sqrt(centred.var() + 1e-7))[None]
        expected = model(values).logits[0].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert timed.run(waveform) > 0 and timed.peak() > 0


def test_eager_and_fused_attention_in_torch_are_two(tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = tiny_checkpoint()
    chosen = [
        original_model(checkpoint, attention=kind).config._attn_implementation
        for kind in ("eager", "sdpa")
    ]
    assert chosen == ["eager", "sdpa"]
