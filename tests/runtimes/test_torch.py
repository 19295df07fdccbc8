"""The reference model that artifacts are compared with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.runtimes.torch import TorchReference, tap_names


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_stages_lead_to_the_logits(tiny_checkpoint: Callable[..., Path], norm: str) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(norm))
    waveform = np.random.default_rng(0).standard_normal(12_000).astype(np.float32)
    stages = TorchReference(checkpoint).taps(waveform)
    assert tuple(stages) == tap_names(3)
    assert {stage.shape[0] for stage in stages.values()} == {(12_000 - 720) // 320 + 1}
    # The last stages, by hand from the one before: final norm (pre-norm only), then the head.
    hidden = torch.from_numpy(stages["encoder.layers.2"])
    host = checkpoint.model.wav2vec2.encoder
    with torch.inference_mode():
        hidden = host.layer_norm(hidden) if norm == "pre" else hidden
        by_hand = checkpoint.model.lm_head(hidden).numpy()
    np.testing.assert_allclose(stages["logits"], by_hand, atol=1e-6)


def test_the_waveform_is_normalised(tiny_checkpoint: Callable[..., Path]) -> None:
    reference = TorchReference(load_checkpoint(tiny_checkpoint()))
    waveform = np.random.default_rng(1).standard_normal(8_000).astype(np.float32)
    quieter = 0.05 * waveform + 0.01
    np.testing.assert_allclose(
        reference.logits(quieter.astype(np.float32)), reference.logits(waveform), atol=2e-3
    )


def test_tapping_stages_leaves_no_hook_behind(tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint())
    TorchReference(checkpoint).taps(np.ones(4_000, dtype=np.float32).cumsum())
    assert not any(module._forward_hooks for module in checkpoint.model.modules())
