"""The ONNX graph in ONNX Runtime against Hugging Face's forward pass, and what the graph holds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lpa_export.hosts import parts_of
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.measures.arrays import psnr
from lpa_export.runtimes.onnx import every_graph, every_node, with_outputs
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.batched import BATCHED, BatchedModel
from lpa_export.targets.kit_in_pieces import IN_PIECES
from lpa_export.targets.onnx.attention import FusedAttention
from lpa_export.targets.onnx.external import save
from lpa_export.targets.onnx.lower import lower, tap_tensor
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.skeleton import Features, Kit

Make = Callable[..., Any]
Style = tuple[str, tuple[int, ...], Kit]
FUSED = replace(IN_PIECES, attention=FusedAttention)
PORTABLE = [
    ("pre", (0, 2), BATCHED),
    ("post", (0, 2), BATCHED),
    ("pre", (0, 1, 2), IN_PIECES),
    ("post", (), BATCHED),
    ("pre", (0, 2), IN_PIECES),
    ("post", (0, 2), IN_PIECES),
]
IN_ONE_NODE = ("pre", (0,), FUSED)
STYLES = [*PORTABLE, IN_ONE_NODE]
RECEPTIVE_FIELD, HOP = 720, 320


def _words(style: Style) -> str:
    norm, layers, kit = style
    form = "fused" if kit is FUSED else "pieces" if kit.features else "whole"
    return f"{norm}, {len(layers)} replaced, {form}"


@pytest.mark.parametrize("style", STYLES, ids=_words)
def test_any_length_and_batch_gives_what_the_reference_gives(
    lowered: Make, speech: Make, run_graph: Make, style: Style
) -> None:
    made = lowered(*style)
    reference = TorchReference(made.checkpoint)
    frames = FrameArithmetic.of(made.checkpoint.model.config)
    generator = np.random.default_rng(5)
    levels = []
    for batch in (1, 2, 5):
        waveforms = [
            speech(int(samples), int(samples))
            for samples in generator.integers(RECEPTIVE_FIELD, 60_000, batch)
        ]
        found = run_graph(made.optimised, waveforms, extra=int(generator.integers(0, 5_000)))
        assert found["frame_lengths"].tolist() == [frames.frames(len(w)) for w in waveforms]
        for row, waveform in enumerate(waveforms):
            expected = reference.logits(waveform)
            levels.append(psnr(expected, found["logits"][row, : len(expected)]))
    # One utterance may have an edge that float noise moves to the other side of a frame's centre.
    assert sorted(levels)[1] > 90
    assert min(levels) > 45


@pytest.mark.parametrize("samples", [RECEPTIVE_FIELD, RECEPTIVE_FIELD + HOP, 100_000])
def test_each_tap_is_there_under_its_name(
    lowered: Make, speech: Make, run_graph: Make, samples: int
) -> None:
    made = lowered()
    expected = TorchReference(made.checkpoint).taps(speech(samples))
    names = [tap_tensor(tap) for tap in expected]
    found = run_graph(made.optimised, [speech(samples)], names, garbage=float("nan"), extra=700)
    for tap, values in expected.items():
        assert psnr(values, found[tap_tensor(tap)][0, : len(values)]) > 80, tap


@pytest.mark.parametrize("style", [*PORTABLE[:2], *PORTABLE[4:], IN_ONE_NODE], ids=_words)
@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan")])
def test_padding_changes_nothing(
    lowered: Make, speech: Make, run_graph: Make, style: Style, garbage: float
) -> None:
    model, waveform = lowered(*style).optimised, speech(20_000)
    alone = run_graph(model, [waveform], ["logits"])["logits"][0]
    batch = [waveform, speech(50_000, 1), speech(800, 2)]
    padded = run_graph(model, batch, ["logits"], garbage=garbage, extra=9_000)["logits"][0]
    assert psnr(alone, padded[: len(alone)]) > 60
    assert (alone.argmax(1) == padded[: len(alone)].argmax(1)).all()


@pytest.mark.parametrize("style", STYLES, ids=_words)
def test_optimisation_changes_no_value(
    lowered: Make, speech: Make, run_graph: Make, style: Style
) -> None:
    made = lowered(*style)
    waveforms = [speech(16_000), speech(9_000, 1)]
    before = run_graph(made.traced, waveforms, optimise_more=False)
    after = run_graph(made.optimised, waveforms, optimise_more=False)
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert psnr(values, after[name]) > 120, name
    assert len(made.optimised.graph.node) <= len(made.traced.graph.node)


def test_fused_attention_is_one_node_a_layer_that_no_mask_slows_down(lowered: Make) -> None:
    nodes = list(every_node(lowered(*IN_ONE_NODE).optimised.graph))
    own = [node for node in nodes if node.domain == "com.microsoft"]
    assert [(node.op_type, len(node.input)) for node in own] == [("MultiHeadAttention", 3)] * 2
    assert not any(node.op_type == "Softmax" for node in nodes)


def test_attention_with_a_position_bias_is_written_head_by_head(tiny_host: Make) -> None:
    loaded: Any = SimpleNamespace(model=tiny_host("wavlm"), do_normalize=True)
    parts = parts_of(loaded)
    hidden = torch.randn(2, 30, parts.projection.out_features)
    valid = torch.arange(30) < torch.tensor([[30], [21]])
    with torch.no_grad():
        plain, fused = (
            BatchedModel(parts, kit).encode(hidden, valid) for kit in (IN_PIECES, FUSED)
        )
    assert all(torch.equal(one, other) for one, other in zip(fused, plain, strict=True))


@pytest.mark.parametrize("style", PORTABLE, ids=_words)
def test_only_standard_operators_are_used(lowered: Make, style: Style) -> None:
    model = lowered(*style).optimised
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in every_node(model.graph)} <= {"", "ai.onnx"}
    assert not model.functions
    assert {opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")} == {
        20
    }


def test_a_front_end_in_pieces_is_exact_to_float32(
    lowered: Make, speech: Make, run_graph: Make
) -> None:
    """Two utterances, one with an offset of many deviations, against the whole one in float64."""
    made = lowered("post", (0, 2), IN_PIECES)
    whole = Features(parts_of(made.checkpoint), BATCHED).double()
    waveforms = [speech(90_000), speech(70_001, 1) + np.float32(0.5)]
    found = run_graph(made.optimised, waveforms, ["stage.features"], garbage=float("nan"))
    for row, waveform in zip(found["stage.features"], waveforms, strict=True):
        samples = torch.tensor(waveform)[None].double()
        expected = whole(samples, torch.tensor([len(waveform)]))[0][0]
        assert psnr(expected.detach().numpy(), row[: len(expected)]) > 110


def test_bodies_of_loops_say_nothing_of_the_machine(lowered: Make) -> None:
    model = lowered("post", (0, 2), IN_PIECES).optimised
    graphs = list(every_graph(model.graph))
    # The model, and four loops: sums of the waveform, moments of what the first convolution sees,
    # the front end, the position embedding. Then two in each layer with LPA: sums, and the rest.
    assert len(graphs) == 5 + 2 * 2
    for graph in graphs:
        for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            assert not part.doc_string
            assert not part.metadata_props


# Growth with the square of the frames: twice the frames give four times the elements.


def _elements(model: onnx.ModelProto, run: Make, waveform: np.ndarray) -> dict[str, int]:
    """Number of elements of every value that a node puts out."""
    names = [name for node in model.graph.node for name in node.output if name]
    found = run(with_outputs(model, names), [waveform], names, optimise_more=False)
    return {name: values.size for name, values in found.items()}


def _quadratic(model: onnx.ModelProto, run: Make, speech: Make) -> set[str]:
    """Values that grow faster than the frames, found by running at two lengths."""
    short, long = (
        _elements(model, run, speech(RECEPTIVE_FIELD + (frames - 1) * HOP)) for frames in (90, 180)
    )
    return {name for name in short if long[name] > 3 * short[name]}


def _made_for(model: onnx.ModelProto, value: str) -> set[str]:
    """All values that `value` depends on, itself included."""
    makers = {name: node for node in model.graph.node for name in node.output}
    wanted, seen = [value], set[str]()
    while wanted:
        name = wanted.pop()
        if name in makers and name not in seen:
            seen.add(name)
            wanted.extend(makers[name].input)
    return seen


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_nothing_grows_with_the_square_of_the_frames_but_inside_kept_attention(
    lowered: Make, speech: Make, run_graph: Make, norm: str
) -> None:
    model = lowered(norm, (0, 2)).optimised
    quadratic = _quadratic(model, run_graph, speech)
    # Layer 1 was kept: were it not excepted, this test would fail.
    assert quadratic
    kept = _made_for(model, "stage.encoder.layers.1") - _made_for(model, "stage.encoder.layers.0")
    assert quadratic <= kept


def test_with_every_layer_replaced_nothing_grows_with_the_square_of_the_frames(
    lowered: Make, speech: Make, run_graph: Make
) -> None:
    assert _quadratic(lowered("pre", (0, 1, 2)).optimised, run_graph, speech) == set()


def test_layers_that_are_alike_are_traced_once_and_for_every_length(
    make_checkpoint: Make, traced: list[Any]
) -> None:
    """A length that the trace excludes makes torch's exporter trace again, in silence."""
    checkpoint = make_checkpoint("pre", (0, 2))
    parts = parts_of(checkpoint)
    model = BatchedModel(parts, BATCHED)
    lower(model, tuple(parts.taps), checkpoint.receptive_field)
    # The front end, what is in front of the layers, LPA, attention, the head.
    assert len(traced) == 5
    traced.clear()
    norm = model.layers[2].norm
    assert isinstance(norm, nn.LayerNorm)
    norm.eps *= 2
    lower(model, tuple(parts.taps), checkpoint.receptive_field)
    assert len(traced) == 6


def _wide(model: onnx.ModelProto, run: Make, speech: Make) -> set[str]:
    """Values that at 180,000 frames are wider than the hidden states, 32 channels.

    Sizes grow by as much for every 1,024 frames more, four blocks of the sums, which overlap by
    their reach, a quarter of a block at most. Pieces of the front end are of 100 frames at both
    lengths.
    """
    short, long = (
        _elements(model, run, speech(RECEPTIVE_FIELD + (frames - 1) * HOP))
        for frames in (3_072, 4_096)
    )
    grown = {name: (long[name] - short[name]) / 1_024 for name in short}
    return {
        name for name, each in grown.items() if short[name] + 176_928 * each > 1.3 * 32 * 180_000
    }


def test_nothing_is_wider_than_the_hidden_states_in_an_hour(
    make_checkpoint: Make, speech: Make, run_graph: Make, tmp_path: Path
) -> None:
    """A first convolution of wav2vec2-base's size, 64 times as many frames as hidden states."""
    kernels = {"conv_kernel": (10, 64), "conv_stride": (5, 64)}
    checkpoint = make_checkpoint("post", (0, 1, 2), **kernels)
    parts = parts_of(checkpoint)
    wide = {}
    for name, kit in (("pieces", IN_PIECES), ("whole", BATCHED)):
        model = lower(BatchedModel(parts, kit), tuple(parts.taps), checkpoint.receptive_field)
        wide[name] = _wide(optimise(model, tmp_path), run_graph, speech)
    assert wide["pieces"] == set()
    # The convolutions of a whole front end are, and what lies between the maps of a feed-forward.
    assert len(wide["whole"]) > 10


def test_a_graph_written_weight_by_weight_is_what_protobuf_writes(tmp_path: Path) -> None:
    kernel = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "kernel")
    body = onnx.helper.make_graph([], "body", [], [], [kernel])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("If", ["a"], ["b"], then_branch=body, else_branch=body)],
        "graph",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.BOOL, [])],
        [onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)],
        # Lengths of one byte, two, three.
        [
            onnx.numpy_helper.from_array(np.arange(size, dtype=np.uint8), f"of {size}")
            for size in (0, 1, 127, 128, 20_000)
        ],
        doc_string="behind the weights",
    )
    imports = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=imports, producer_name="before the graph")
    model.metadata_props.add(key="behind", value="the graph")
    expected = model.SerializeToString(deterministic=True)
    save(model, tmp_path / "model.onnx", external=False)
    assert (tmp_path / "model.onnx").read_bytes() == expected
