"""The program in fp32 for XNNPACK, as the runtime runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.executorch.target import ExecutorchTarget
from tests.targets.executorch.running import run_program
from tests.targets.in_float64 import logits_in_float64

Make = Callable[..., Any]


def _nodes(exported: Any, method: str = "forward") -> list[dict[str, Any]]:
    described = json.loads((exported.folder / "delegation.json").read_text("utf-8"))
    nodes: list[dict[str, Any]] = described["methods"][method]["nodes"]
    return nodes


@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
def test_every_length_gives_the_references_logits(
    exported: Make, noise: Make, backend: str
) -> None:
    made = exported(backend)
    shortest = made.written.runtime.min_samples
    lengths = (shortest, shortest + 319, shortest + 320, 12 * 16_000, 33_333, 16_000)
    waveforms = {str(samples): noise(samples) for samples in lengths}
    found = run_program(
        made.folder / "model.pte",
        "forward",
        {name: [waveform[None]] for name, waveform in waveforms.items()},
    )
    reference = TorchReference(made.checkpoint)
    for name, waveform in waveforms.items():
        expected = reference.logits(waveform)
        np.testing.assert_allclose(found[name][0][0], expected, atol=2e-4, err_msg=name)


def test_the_second_method_gives_every_tap_and_costs_no_second_copy_of_the_weights(
    exported: Make, noise: Make
) -> None:
    made = exported()
    waveform = noise(16_000)
    values = run_program(made.folder / "model.pte", "taps", {"clip": [waveform[None]]})["clip"]
    expected = TorchReference(made.checkpoint).taps(waveform)
    assert [tap.name for tap in made.written.taps] == list(expected)
    for (name, stage), value in zip(expected.items(), values, strict=True):
        np.testing.assert_allclose(value[0], stage, atol=1e-4 * np.abs(stage).max(), err_msg=name)
    weights = sum(node["weight_bytes"] for node in _nodes(made))
    assert weights > 100_000
    assert (made.folder / "model.pte").stat().st_size < weights + 200_000


def test_all_products_and_convolutions_are_delegated(exported: Make) -> None:
    nodes = _nodes(exported())
    assert sum(node["macs"] for node in nodes) > 1e6
    assert not [node for node in nodes if node["macs"] and node["delegate"] is None]


def test_what_is_not_quantised_counts_no_bytes(exported: Make) -> None:
    assert exported().written.compression is None


def test_each_lpa_layer_costs_one_cut_and_nothing_else_does(exported: Make) -> None:
    # One of two layers is LPA.
    assert exported().written.runtime.delegates == {"XnnpackBackend": 2}


def test_what_stays_outside_is_windows_prefix_sums_and_the_norm_of_the_waveform(
    exported: Make,
) -> None:
    outside = {node["module"] for node in _nodes(exported()) if node["delegate"] is None}
    assert outside <= {"", "features.normalise", "windows", "layers.0.lpa"}


def test_the_delegation_map_names_no_path_of_this_machine(exported: Make) -> None:
    sources = {node["source"] for node in _nodes(exported())}
    assert any(source.startswith("lpa_export/targets/executorch/kit.py:") for source in sources)
    text = (exported().folder / "delegation.json").read_text("utf-8")
    assert "site-packages" not in text and '"/' not in text


def test_the_program_tells_an_app_what_it_needs(exported: Make) -> None:
    from executorch.runtime import Runtime

    made = exported()
    program = Runtime.get().load_program(made.folder / "model.pte")
    told = {
        name: program.load_method(name).execute([])[0]
        for name in ("sample_rate", "hop", "receptive_field", "blank_id", "vocabulary")
    }
    assert told["sample_rate"] == 16_000
    assert told["hop"] == 320
    assert told["receptive_field"] == made.checkpoint.receptive_field
    assert json.loads(told["vocabulary"]) == list(made.checkpoint.vocabulary.tokens)


def test_the_bundled_program_replays_its_clips(exported: Make) -> None:
    from executorch.extension.pybindings import portable_lib

    content = (exported().folder / "model.bpte").read_bytes()
    bundled = portable_lib._load_bundled_program_from_buffer(content)
    for case in range(2):
        # Raises when the outputs are not the expected ones.
        bundled.verify_result_with_bundled_expected_output("forward", case, 1e-3, 1e-3)


def test_an_offset_of_quiet_speech_and_the_bias_before_a_norm_over_time_cost_no_digits(
    make_checkpoint: Make, job: Make, noise: Make, tmp_path: Path
) -> None:
    """XNNPACK adds a mean up frame by frame: nothing that all frames share may be in it."""
    front = {"conv_bias": True, "conv_kernel": (10, 64), "conv_stride": (5, 64)}
    checkpoint = make_checkpoint("post", (), do_normalize=False, num_hidden_layers=1, **front)
    ExecutorchTarget().write(job(checkpoint), tmp_path)
    waveform = 0.002 * noise(8 * 16_000) + np.float32(0.3)
    found = run_program(tmp_path / "model.pte", "forward", {"quiet": [waveform[None]]})["quiet"]
    assert psnr(logits_in_float64(checkpoint.model, waveform), found[0][0]) > 110
