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
from lpa_export.formats.schemes import scheme_named
from lpa_export.runtimes import ArtifactError, pad
from lpa_export.runtimes import onnx as onnx_runtime
from lpa_export.runtimes.onnx import (
    OnnxRunner,
    clips_int8,
    open_session,
    with_unsigned_products,
)
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


def products_of(weight: np.ndarray, zeros: tuple[str, ...]) -> onnx.ModelProto:
    """``bytes`` (turns, rows, width) times int8 weights: in a loop, turn by turn, and at once."""
    make = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["turn", "weight", *zeros], ["made"])],
        "turn",
        [make("turn", onnx.TensorProto.UINT8, (None, len(weight)))],
        [make("made", onnx.TensorProto.INT32, None)],
    )
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Scan", ["bytes"], ["by_turns"], body=body, num_scan_inputs=1),
            onnx.helper.make_node("MatMulInteger", ["bytes", "weight", *zeros], ["at_once"]),
        ],
        "products",
        [make("bytes", onnx.TensorProto.UINT8, (None, None, len(weight)))],
        [make(name, onnx.TensorProto.INT32, None) for name in ("by_turns", "at_once")],
        [
            onnx.numpy_helper.from_array(weight, "weight"),
            onnx.numpy_helper.from_array(np.array(120, np.uint8), "zero"),
            onnx.numpy_helper.from_array(np.zeros(weight.shape[1], np.int8), "none"),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize("zeros", [(), ("zero",), ("zero", "none")])
def test_unsigned_products_are_those_of_a_product_of_integers(zeros: tuple[str, ...]) -> None:
    """The largest bytes too, whose sums 16 bits do not hold."""
    generator = np.random.default_rng(0)
    weight = generator.integers(-127, 128, (40, 7)).astype(np.int8)
    weight[:, 0] = 127
    given = generator.integers(0, 256, (3, 5, 40)).astype(np.uint8)
    given[0, 0] = 255
    model = products_of(weight, zeros)
    before = model.SerializeToString(deterministic=True)
    session = open_session(with_unsigned_products(model).SerializeToString())
    assert model.SerializeToString(deterministic=True) == before
    expected = (given.astype(np.int64) - (120 if zeros else 0)) @ weight.astype(np.int64)
    for found in session.run(["by_turns", "at_once"], {"bytes": given}):
        np.testing.assert_array_equal(found, expected)


def test_whether_a_processor_clips_is_what_its_products_say() -> None:
    weight = np.full((2, 1), 127, np.int8)
    session = open_session(products_of(weight, ()).SerializeToString())
    (found,) = session.run(["at_once"], {"bytes": np.full((1, 4, 2), 255, np.uint8)})
    assert clips_int8() == bool((found != 2 * 255 * 127).all())


@pytest.mark.parametrize("clips, weights", [(True, "int8"), (False, "int8"), (True, "fp32")])
def test_a_runner_of_int8_is_exact_where_the_processor_clips(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch, clips: bool, weights: str
) -> None:
    plain = make_bundle()
    opened: list[onnx.ModelProto] = []

    def replaced(model: onnx.ModelProto) -> onnx.ModelProto:
        opened.append(model)
        return with_unsigned_products(model)

    monkeypatch.setattr(onnx_runtime, "clips_int8", lambda: clips)
    monkeypatch.setattr(onnx_runtime, "with_unsigned_products", replaced)
    runner = OnnxRunner(restated(plain, scheme=scheme_named(weights)))
    found = runner.taps(noise(4_000))
    both = clips and weights == "int8"
    assert len(opened) == (2 if both else 0)  # the session, and that of the taps
    for name, expected in OnnxRunner(plain).taps(noise(4_000)).items():
        np.testing.assert_array_equal(found[name], expected)
