"""Models in memory and their exported graphs, made once: an export takes seconds."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lpa_export.formats.checkpoint import Checkpoint, LPASection
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import lpa_layers, parts_of, replace_layers
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.targets.batched import BatchedModel
from lpa_export.targets.kit_in_pieces import IN_PIECES
from lpa_export.targets.onnx.lower import lower
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.skeleton import Kit

Make = Callable[..., Checkpoint]


@dataclass(frozen=True)
class Lowered:
    """A checkpoint, the model that was traced, and its graphs, the taps as outputs of both."""

    checkpoint: Checkpoint
    model: BatchedModel
    traced: onnx.ModelProto
    optimised: onnx.ModelProto


@pytest.fixture(scope="session")
def make_checkpoint(tiny_config: Callable[..., Any]) -> Make:
    """`make_checkpoint(norm, layers, do_normalize=)`: random weights at the scale of trained ones.

    Fresh transformers have zero biases, unit norms and layers that add little: mistakes hide there.
    """

    def make(
        norm: str = "pre",
        layers: tuple[int, ...] = (0, 2),
        *,
        do_normalize: bool = True,
        **changes: Any,
    ) -> Checkpoint:
        from transformers import Wav2Vec2ForCTC

        torch.manual_seed(11)
        config = tiny_config(norm, **changes)
        model = Wav2Vec2ForCTC(config).eval()
        pulses = LPAConfig(config.hidden_size, config.num_attention_heads)
        replace_layers(model, layers, pulses)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "layer_norm" in name:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                elif "encoder.layers" in name and name.endswith("weight") and parameter.dim() == 2:
                    # From std 0.02, at which no layer adds much to its residual, to unit gain.
                    parameter.mul_(8)
            for lpa in lpa_layers(model).values():
                lpa.controls.weight.mul_(2)
                lpa.hard = True
        return Checkpoint(
            model=model,
            vocabulary=Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
            lpa=LPASection(layers, Pulses(), temperature=0.1) if layers else None,
            name="tiny",
            sha256="0" * 64,
            do_normalize=do_normalize,
        )

    return make


@pytest.fixture(scope="session")
def checkpoints(make_checkpoint: Make) -> Mapping[str, Checkpoint]:
    """One checkpoint per norm style."""
    return {norm: make_checkpoint(norm) for norm in ("pre", "post")}


@pytest.fixture(scope="session")
def lowered(
    make_checkpoint: Make, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Lowered]:
    """`lowered(norm, layers, kit)`: the graphs of such a checkpoint, made at the first call."""

    @functools.cache
    def made(norm: str, layers: tuple[int, ...], kit: Kit) -> Lowered:
        checkpoint = make_checkpoint(norm, layers)
        parts = parts_of(checkpoint)
        model = BatchedModel(parts, kit)
        traced = lower(model, tuple(parts.taps), checkpoint.receptive_field)
        optimised = optimise(copy.deepcopy(traced), tmp_path_factory.mktemp("scratch"))
        return Lowered(checkpoint, model, traced, optimised)

    def make(norm: str = "pre", layers: tuple[int, ...] = (0, 2), kit: Kit = IN_PIECES) -> Lowered:
        return made(norm, layers, kit)

    return make


@pytest.fixture(scope="session")
def speech() -> Callable[..., np.ndarray]:
    """`speech(samples, seed)`: noise whose loudness and pitch change, not centred on zero."""

    def make(samples: int, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        time = np.arange(samples) / 16_000
        loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time + seed)
        tone = np.sin(2 * np.pi * (300 + 200 * time) * time)
        noise = generator.standard_normal(samples)
        return (loudness * (0.1 * tone + 0.05 * noise) + 0.01).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def run_graph() -> Callable[..., dict[str, np.ndarray]]:
    """`run_graph(model, waveforms, names)`: outputs by name, all of them by default.

    Waveforms are padded to the longest and `extra` samples more with `garbage`; without
    `optimise_more` the graph runs as it is.
    """

    def run(
        model: onnx.ModelProto,
        waveforms: Sequence[np.ndarray],
        names: Sequence[str] | None = None,
        *,
        garbage: float = 0.0,
        extra: int = 0,
        optimise_more: bool = True,
    ) -> dict[str, np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if not optimise_more:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        lengths = [len(waveform) for waveform in waveforms]
        padded = np.full((len(waveforms), max(lengths) + extra), garbage, np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        wanted = list(names or [output.name for output in model.graph.output])
        inputs = {"waveform": padded, "lengths": np.array(lengths, np.int64)}
        return dict(zip(wanted, session.run(wanted, inputs), strict=True))

    return run
