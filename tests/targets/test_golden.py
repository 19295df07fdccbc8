"""Golden clips: what the reference heard is what lies in the file, and it is stable."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import write_golden
from lpa_export.hosts import encoder_layers, lpa_layers
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.golden import edge_margins, golden_clips

Make = Callable[..., Checkpoint]


def test_stored_audio_gives_the_stored_taps(make_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("pre")
    write_golden(tmp_path, golden_clips(checkpoint))
    index = json.loads((tmp_path / "golden" / "index.json").read_text())
    assert len(index) == 3
    for entry in index:
        taps = TorchReference(checkpoint).taps(load_audio(tmp_path / entry["audio"]))
        assert list(taps) == sorted(entry["taps"], key=list(taps).index)
        for name, file in entry["taps"].items():
            np.testing.assert_array_equal(np.load(tmp_path / file), taps[name])


def test_the_margin_is_the_distance_of_the_nearest_edge_to_a_whole_frame(
    make_checkpoint: Make,
) -> None:
    checkpoint = make_checkpoint("pre", (1,))
    lpa = lpa_layers(checkpoint.model)[1]
    with torch.no_grad():
        # No content: offset 0, and a width of exactly 2 * 3.25 frames from the bias alone.
        lpa.controls.weight.zero_()
        lpa.controls.bias.zero_()
        share = (6.5 - lpa.config.min_width) / (lpa.config.max_width - lpa.config.min_width)
        pulses = lpa.config.num_heads * lpa.config.aperiodic
        lpa.controls.bias[pulses : 2 * pulses] = float(np.log(share / (1 - share)))
    with edge_margins(checkpoint.model) as margins:
        TorchReference(checkpoint).logits(np.sin(np.arange(8000)).astype(np.float32))
    assert margins == [pytest.approx(0.25, abs=1e-5)]


def test_no_hook_stays_on_the_model(make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint("pre")
    golden_clips(checkpoint)
    assert not any(module._forward_hooks for module in checkpoint.model.modules())


def test_a_model_that_gives_nan_is_refused_and_the_tap_named(make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint("pre")
    with torch.no_grad():
        encoder_layers(checkpoint.model)[1].get_parameter("final_layer_norm.bias")[0] = torch.inf
    with pytest.raises(LpaError, match=r"NaN or infinite values from encoder\.layers\.1 on"):
        golden_clips(checkpoint)
