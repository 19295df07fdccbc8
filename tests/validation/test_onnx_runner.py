"""The ONNX runner: what it feeds the graph, and what it says when the graph does not fit."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import Bundle
from lpa_export.formats.golden import read_golden
from lpa_export.formats.manifest import Normalisation
from lpa_export.runtimes import ArtifactError, pad
from lpa_export.runtimes import onnx as onnx_runtime
from lpa_export.runtimes.onnx import OnnxRunner
from tests.manifests import restated

Make = Callable[..., Bundle]


def noise(samples: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0.2, 0.3, samples).astype(np.float32)


def test_only_valid_frames_come_back_from_a_padded_batch(make_bundle: Make) -> None:
    runner = OnnxRunner(make_bundle())
    found = runner.run(*pad([noise(4_000), noise(2_000), noise(400)]))
    assert [len(logits) for logits in found] == [23, 11, 1]


def test_stages_are_the_manifests_in_order_and_end_in_the_logits(
    make_bundle: Make, reference: Any
) -> None:
    bundle = make_bundle()
    runner = OnnxRunner(bundle)
    taps = runner.taps(noise(4_000))
    assert list(taps) == [tap.name for tap in bundle.manifest.taps]
    for name, expected in reference.taps(noise(4_000)).items():
        np.testing.assert_allclose(taps[name], expected, atol=1e-4)
    np.testing.assert_array_equal(taps["logits"], runner.run(*pad([noise(4_000)]))[0])


def test_normalisation_outside_the_graph_is_over_the_valid_samples(make_bundle: Make) -> None:
    plain = make_bundle()
    outside = Normalisation(kind="zero_mean_unit_variance", where="app", epsilon=1e-7)
    bundle = restated(plain, normalisation=outside)
    waveforms = [noise(4_000), noise(2_500, seed=1)]
    normalised = [(w - w.mean()) / np.sqrt(w.var() + 1e-7) for w in waveforms]
    found = OnnxRunner(bundle).run(*pad(waveforms, extra=700))
    for ours, waveform in zip(found, normalised, strict=True):
        expected = OnnxRunner(plain).run(*pad([waveform]))[0]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_long_recording_is_heard_without_the_runtimes_arena(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "_LONG_SAMPLES", 4_000)
    bundle = make_bundle()
    runner = OnnxRunner(bundle)

    def arena() -> bool:
        return bool(runner.session.get_session_options().enable_cpu_mem_arena)

    short, long = noise(3_999), noise(4_000)
    before = runner.run(*pad([short]))[0]
    assert arena()
    heard = runner.run(*pad([long]))[0]
    assert not arena()
    np.testing.assert_array_equal(runner.run(*pad([short]))[0], before)
    monkeypatch.undo()
    np.testing.assert_array_equal(OnnxRunner(bundle).run(*pad([long]))[0], heard)


def test_a_graph_with_other_inputs_is_refused_by_name(make_bundle: Make) -> None:
    bundle = make_bundle()
    path = bundle.path / "model.onnx"
    model = onnx.load(path)
    model.graph.output[1].name = "hops"
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="no input or output frame_lengths"):
        OnnxRunner(bundle)


def test_a_graph_that_breaks_while_running_says_so_in_one_line(make_bundle: Make) -> None:
    runner = OnnxRunner(make_bundle())
    with pytest.raises(ArtifactError, match="broke while running") as caught:
        runner.run(noise(300)[None], [300])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index",
    ["[]", "{}", "no json", '[{"id": "one"}]', '[{"id": 1, "audio": "a", "taps": {}}]', "[1]"],
)
def test_a_golden_index_of_another_form_is_refused(make_bundle: Make, index: str) -> None:
    bundle = make_bundle()
    (bundle.path / "golden" / "index.json").write_text(index)
    with pytest.raises(LpaError, match=r"golden/index\.json"):
        read_golden(bundle)


def test_golden_files_outside_the_bundle_are_refused(make_bundle: Make) -> None:
    bundle = make_bundle()
    place = bundle.path / "golden" / "index.json"
    index = json.loads(place.read_text())
    index[0]["audio"] = "../../../../../etc/hostname"
    place.write_text(json.dumps(index))
    with pytest.raises(LpaError):
        read_golden(bundle)
