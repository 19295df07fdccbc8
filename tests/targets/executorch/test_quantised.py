"""int8 by PT2E: smaller, finite, near; what must stay in float does."""

import json
from collections.abc import Callable
from typing import Any

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import TorchReference
from tests.targets.executorch.running import run_program

Make = Callable[..., Any]


def test_logits_are_finite_and_near_at_every_length(exported: Make, noise: Make) -> None:
    made = exported(scheme="int8")
    waveforms = {str(samples): noise(samples) for samples in (1_040, 16_000, 40_001)}
    found = run_program(
        made.folder / "model.pte",
        "forward",
        {name: [waveform[None]] for name, waveform in waveforms.items()},
    )
    reference = TorchReference(made.checkpoint)
    for name, waveform in waveforms.items():
        assert psnr(reference.logits(waveform), found[name][0][0]) > 20


def test_large_weights_are_int8_and_delegated(exported: Make) -> None:
    made = exported(scheme="int8")
    described = json.loads((made.folder / "delegation.json").read_text("utf-8"))
    nodes = described["methods"]["forward"]["nodes"]
    assert not [node for node in nodes if node["macs"] and node["delegate"] is None]
    quantised = [node for node in nodes if "dequantize_per_channel" in node["op"]]
    assert len(quantised) > 10
    assert not [node for node in quantised if "controls" in node["module"]]
    floats = sum(weights.nbytes for weights in made.checkpoint.model.state_dict().values())
    # The program of so small a model weighs as much as half of them.
    assert (made.folder / "model.pte").stat().st_size < floats


def test_the_manifest_offers_the_logits_alone(exported: Make) -> None:
    written = exported(scheme="int8").written
    assert written.runtime.taps_method is None
    assert [tap.name for tap in written.taps] == ["logits"]


def test_the_bytes_that_are_int8_are_counted(exported: Make) -> None:
    """All linear maps and convolutions of the program but those that stay in float."""
    made = exported(scheme="int8")
    found = made.written.compression
    assert found.eligible == found.compressed > 0
    head = made.checkpoint.model.lm_head.weight.nbytes
    assert head <= found.total - found.eligible < 0.2 * found.total
