"""The real configuration of each family's base model, 8 of 12 replaced: a minute and 3 GB each.

Time and memory: `python tests/targets/measure_base_models.py --family all`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lpa_export.formats.checkpoint import Checkpoint, LPASection
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import HOSTS, lpa_layers, parts_of, replace_layers
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.batched import BatchedModel
from lpa_export.targets.onnx.lower import lower
from lpa_export.targets.onnx.optimise import optimise

REPLACED = tuple(range(8))
TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.fixture(params=HOSTS)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    torch.manual_seed(0)
    host = HOSTS[request.param]
    config: Any = host.config({"pad_token_id": 0})
    model = host.build(config).eval()
    replace_layers(model, REPLACED, LPAConfig(config.hidden_size, config.num_attention_heads))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    section = LPASection(REPLACED, Pulses(), temperature=0.1)
    return Checkpoint(model, Vocabulary(TOKENS), section, "base", "0" * 64, do_normalize=True)


@pytest.mark.slow
def test_a_base_model_with_8_of_12_layers_replaced_exports_and_is_equal(
    checkpoint: Checkpoint,
    speech: Callable[..., Any],
    run_graph: Callable[..., Any],
    tmp_path: Path,
) -> None:
    parts = parts_of(checkpoint)
    traced = lower(BatchedModel(parts), tuple(parts.taps), checkpoint.receptive_field)
    model = optimise(traced, tmp_path)
    waveforms = [speech(24_000), speech(11_111, 1)]
    found = run_graph(model, waveforms, ["logits", "frame_lengths"], garbage=float("nan"), extra=99)
    reference = TorchReference(checkpoint)
    levels = []
    for row, waveform in enumerate(waveforms):
        expected = reference.logits(waveform)
        assert found["frame_lengths"][row] == len(expected)
        levels.append(psnr(expected, found["logits"][row, : len(expected)]))
    # Fifty thousand window edges: float noise may turn one, in one of the two.
    assert max(levels) > 90
    assert min(levels) > 60
