"""A whole bundle in miniature: a recogniser of whistled letters, as ONNX and as numpy.

Each letter is a tone of its own, the convolution holds a matched filter per letter: transcripts
are right by construction, so damage shows as wrong words. The numpy side stands in for torch
and shares no code with the graph. ``damage`` builds the same bundle with one thing wrong and
its hashes right, so that the intended check has to find it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lpa_validate.report import Reference, Report
from lpa_validate.run import open_validation, run_checks
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.bundle import Bundle, open_bundle, write_manifest
from lpa_export.formats.golden import GoldenClip, write_golden
from lpa_export.formats.manifest import Frames, Tap, VocabularyEntry
from lpa_export.formats.schemes import SCHEMES
from lpa_export.formats.speech import Utterance, load_utterances
from lpa_export.formats.text import Vocabulary, greedy_text
from tests.manifests import CHECKPOINT, stated

RATE, KERNEL, HOP = 16_000, 400, 160
TOKENS = ("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
WIDTH = len(TOKENS)
WINDOW = 5
SCALE, BLANK_BIAS = 40.0, 3.0
TEXTS = {"one": "ONE TWO", "city": "NEW YORK CITY", "name": "IT'S JANE", "digits": "SEVEN SIX NINE"}

TAPS = (
    Tap(name="features", kind="frontend", tensor="stage.features"),
    Tap(name="projection", kind="frontend", tensor="stage.projection"),
    Tap(name="encoder.layers.0", kind="lpa", tensor="stage.encoder.layers.0"),
    Tap(name="encoder.layers.1", kind="attention", tensor="stage.encoder.layers.1"),
    Tap(name="logits", kind="head", tensor="logits"),
)


def filters() -> np.ndarray[Any, Any]:
    """(2 * tokens, samples): a cosine and a sine per token; the blank has none."""
    time = np.arange(KERNEL) / RATE
    rows = np.zeros((2 * WIDTH, KERNEL))
    for token in range(1, WIDTH):
        angle = 2 * np.pi * (400 + 100 * token) * time
        rows[2 * token] = np.cos(angle) * 2 / KERNEL
        rows[2 * token + 1] = np.sin(angle) * 2 / KERNEL
    return rows.astype(np.float32)


def whistle(text: str) -> np.ndarray[Any, Any]:
    """Audio (samples,) of a text: 0.1 s of its tone per letter, 0.06 s of silence between."""
    pieces = [np.zeros(800)]
    for letter in text.replace(" ", "|"):
        time = np.arange(1600) / RATE
        pieces += [0.5 * np.sin(2 * np.pi * (400 + 100 * TOKENS.index(letter)) * time)]
        pieces += [np.zeros(960)]
    return np.concatenate(pieces).astype(np.float32)


class NumpyModel:
    """The reference: the same recogniser in float64 numpy, frame by frame."""

    vocabulary = Vocabulary(TOKENS)
    identity = Reference("torch", "whistle", CHECKPOINT)

    def logits(self, waveform: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self.taps(waveform)["logits"]

    def text(self, logits: np.ndarray[Any, Any]) -> str:
        return greedy_text(logits, self.vocabulary)

    def taps(self, waveform: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        frames = (len(waveform) - KERNEL) // HOP + 1
        speech, bank = waveform.astype(np.float64), filters().astype(np.float64)
        features = np.array([bank @ speech[t * HOP : t * HOP + KERNEL] for t in range(frames)])
        energy = (features**2).reshape(frames, WIDTH, 2).sum(axis=2)
        windowed = np.zeros_like(energy)
        for t in range(frames):
            start, end = max(0, t - WINDOW // 2), min(frames, t + WINDOW // 2 + 1)
            windowed[t] = energy[start:end].sum(axis=0) / WINDOW
        attended = windowed + 0.01 * windowed.mean(axis=0)
        logits = attended * SCALE
        logits[:, 0] += BLANK_BIAS
        found = (features, energy, windowed, attended, logits)
        names = [tap.name for tap in TAPS]
        return {n: values.astype(np.float32) for n, values in zip(names, found, strict=True)}


@dataclass
class Parts:
    """What a damage may change before the bundle is written."""

    bank: np.ndarray[Any, Any] = field(default_factory=filters)
    window_pads: tuple[int, int] = (WINDOW // 2, WINDOW // 2)
    masked: bool = True
    half_precision: bool = False
    noisy: bool = False
    louder: bool = False
    extra: list[onnx.NodeProto] = field(default_factory=list)
    extra_output: str | None = None
    opset: int = 17
    tokens: tuple[str, ...] = TOKENS
    metadata_tokens: tuple[str, ...] | None = None
    gates: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


def model(parts: Parts) -> onnx.ModelProto:
    """The recogniser as a graph: waveform (batch, samples), lengths (batch,) in, logits out."""
    pairs = np.zeros((2 * WIDTH, WIDTH), np.float32)
    pairs[np.arange(2 * WIDTH), np.arange(2 * WIDTH) // 2] = 1
    bias = np.zeros(WIDTH, np.float32)
    bias[0] = BLANK_BIAS
    weights = {
        "bank": parts.bank[:, None, :],
        "pairs": pairs,
        "taps": np.full((WIDTH, 1, WINDOW), 1 / WINDOW, np.float32),
        "head": np.eye(WIDTH, dtype=np.float32) * np.float32(SCALE),
        "bias": bias,
        "one_axis": np.array([1]),
        "last_axis": np.array([2]),
        "kernel": np.array(KERNEL),
        "hop": np.array(HOP),
        "zero": np.array(0),
        "one": np.array(1),
        "two": np.array([1]),
        "little": np.array(0.01, np.float32),
        "huge": np.array(1e7, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["waveform", "one_axis"], ["channel"]),
        node("Conv", ["channel", "bank"], ["convolved"], name="conv", strides=[HOP]),
        node("Transpose", ["convolved"], ["stage.features"], perm=[0, 2, 1]),
        node("Mul", ["stage.features", "stage.features"], ["squared"]),
        node("MatMul", ["squared", "pairs"], ["summed"]),
        *_maybe_half(parts),
        # The mask of valid frames, (batch, frames, 1).
        node("Sub", ["lengths", "kernel"], ["whole"]),
        node("Div", ["whole", "hop"], ["hops"]),
        node("Add", ["hops", "one"], ["frame_lengths"]),
        node("Shape", ["stage.projection"], ["frames_shape"], start=1, end=2),
        node("Squeeze", ["frames_shape"], ["frames"]),
        node("Range", ["zero", "frames", "one"], ["ramp"]),
        node("Unsqueeze", ["frame_lengths", "one_axis"], ["ends"]),
        node("Less", ["ramp", "ends"], ["valid"]),
        node("Cast", ["valid"], ["valid_float"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["valid_float", "last_axis"], ["mask"]),
        node("Mul", ["stage.projection", "mask"], ["masked"])
        if parts.masked
        else node("Identity", ["stage.projection"], ["masked"]),
        node("Transpose", ["masked"], ["by_channel"], perm=[0, 2, 1]),
        node("Conv", ["by_channel", "taps"], ["means"], group=WIDTH, pads=parts.window_pads),
        node("Transpose", ["means"], ["stage.encoder.layers.0"], perm=[0, 2, 1]),
        node("Mul", ["stage.encoder.layers.0", "mask"], ["heard"]),
        node("ReduceSum", ["heard", "one_axis"], ["total"], keepdims=1),
        node("ReduceSum", ["mask", "one_axis"], ["count"], keepdims=1),
        node("Div", ["total", "count"], ["mean"]),
        node("Mul", ["mean", "little"], ["glance"]),
        node("Add", ["stage.encoder.layers.0", "glance"], ["stage.encoder.layers.1"]),
        node("MatMul", ["stage.encoder.layers.1", "head"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["quiet" if parts.noisy or parts.louder else "logits"]),
    ]
    if parts.noisy:
        nodes += [
            node("RandomNormalLike", ["quiet"], ["noise"], scale=1e-6),
            node("Add", ["quiet", "noise"], ["logits"]),
        ]
    nodes += parts.extra
    graph = helper.make_graph(
        nodes,
        "whistle",
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "frames", WIDTH]),
            helper.make_tensor_value_info("frame_lengths", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", parts.opset)])
    made.ir_version = 10
    if parts.extra_output:
        made.graph.output.append(onnx.ValueInfoProto(name=parts.extra_output))
    helper.set_model_props(
        made,
        {
            "vocabulary": json.dumps(list(parts.metadata_tokens or parts.tokens)),
            "blank_id": "0",
            "word_delimiter": "|",
            "sample_rate": str(RATE),
            "hop": str(HOP),
            "receptive_field": str(KERNEL),
        },
    )
    return made


def _maybe_half(parts: Parts) -> list[onnx.NodeProto]:
    """The projection as it is, or through fp16 at a scale that overflows it."""
    node = helper.make_node
    if not parts.half_precision:
        return [node("Identity", ["summed"], ["stage.projection"])]
    return [
        node("Mul", ["summed", "huge"], ["grown"]),
        node("Cast", ["grown"], ["half"], to=TensorProto.FLOAT16),
        node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        node("Div", ["full", "huge"], ["stage.projection"]),
    ]


def write_bundle(folder: Path, parts: Parts, speech: list[Utterance]) -> Bundle:
    """The bundle an export would write, with golden tensors of the first two utterances."""
    folder.mkdir(parents=True)
    onnx.save(model(parts), folder / "model.onnx")
    Vocabulary(parts.tokens).write(folder / "tokens.json")
    clips = []
    for utterance in speech[:2]:
        waveform = load_audio(utterance.audio)
        taps = NumpyModel().taps(waveform)
        heard = greedy_text(taps["logits"], NumpyModel.vocabulary)
        clips.append(GoldenClip(utterance.id, utterance.text, waveform, taps, heard))
    write_golden(folder, clips)
    manifest = stated(
        model="whistle",
        taps=TAPS,
        vocabulary=VocabularyEntry(size=WIDTH, blank_id=0, word_delimiter="|", file="tokens.json"),
        gates=replace(SCHEMES["fp32"].gates, **parts.gates),
        frames=Frames(kernels=(KERNEL,), strides=(HOP,), hop=HOP, receptive_field=KERNEL),
    )
    write_manifest(folder, replace(manifest, **parts.manifest))
    return open_bundle(folder)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of a few whistled utterances."""
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for name, text in TEXTS.items():
        write_flac(folder / f"{name}.flac", whistle(text))
        lines.append(json.dumps({"audio_filepath": f"{name}.flac", "text": text}))
    (folder / "speech.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "speech.jsonl"


@pytest.fixture
def make_bundle(tmp_path: Path, speech: Path) -> Callable[..., Bundle]:
    """``make_bundle(**parts)``: a sound bundle, but for the parts named."""

    def make(**changes: Any) -> Bundle:
        folder = tmp_path / "build" / "whistle" / "onnx"
        return write_bundle(folder, Parts(**changes), load_utterances(speech))

    return make


@pytest.fixture
def run(speech: Path) -> Callable[..., Report]:
    """``run(bundle, "parity", ..., reference=NumpyModel())``: those checks, as a report."""

    def validated(bundle: Bundle, *names: str, reference: Any = None, asked: bool = True) -> Report:
        validation = open_validation(
            bundle, load_utterances(speech), reference, "no torch reference here"
        )
        return run_checks(validation, names, data="whistled", asked=names if asked else ())

    return validated


@pytest.fixture
def reference() -> NumpyModel:
    """The model that stands in for torch."""
    return NumpyModel()
