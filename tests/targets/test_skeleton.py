"""Every kit in the skeleton, for every host: each tap is that of transformers' own forward pass."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from lpa_export.hosts import host_of, lpa_layers, parts_of, replace_layers
from lpa_export.hosts.parts import Parts
from lpa_export.layers import LPAConfig
from lpa_export.measures.arrays import psnr
from lpa_export.targets.batched import BATCHED, BatchedModel
from lpa_export.targets.bucketed import BucketModel
from lpa_export.targets.coreml.limits import BLOCK
from lpa_export.targets.coreml.programs import Encoder, FrontEnd, WholeModel
from lpa_export.targets.executorch.model import ExactModel
from lpa_export.targets.kit_in_pieces import IN_PIECES
from lpa_export.targets.skeleton import Kit, keeps_float

EQUAL_DB = 100.0
SAMPLES = 12_077
PULSES = LPAConfig(hidden_size=32, num_heads=2)

Taps = Mapping[str, np.ndarray]
Run = Callable[[Parts, np.ndarray], Taps]


@dataclass
class Loaded:
    """The little of a checkpoint that `parts_of` reads."""

    model: Any
    do_normalize: bool = True


@pytest.fixture(scope="session")
def waveform() -> np.ndarray:
    """A tone that moves, in noise, not centred on zero."""
    generator = np.random.default_rng(4)
    time = np.arange(SAMPLES) / 16_000
    tone = 0.1 * np.sin(2 * np.pi * (300 + 200 * time) * time)
    return (tone + 0.05 * generator.standard_normal(SAMPLES) + 0.01).astype(np.float32)


@pytest.fixture(scope="session")
def hosted(tiny_host: Callable[..., Any]) -> Callable[..., Loaded]:
    """`hosted(variant, replaced, do_normalize=)`: such a model, its gates hard."""

    def make(variant: str, replaced: tuple[int, ...], *, do_normalize: bool = True) -> Loaded:
        model = tiny_host(variant)
        torch.manual_seed(6)
        replace_layers(model, replaced, PULSES)
        for lpa in lpa_layers(model).values():
            with torch.no_grad():
                lpa.controls.weight.mul_(2)
            lpa.hard = True
        return Loaded(model, do_normalize)

    return make


def reference(loaded: Loaded, waveform: np.ndarray) -> Taps:
    """Every tap (frames, width) by hooks on transformers' own modules, the utterance alone."""
    seen: dict[str, np.ndarray] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            values = output[0].T if name == "features" else output[0]
            seen[name] = values.float().numpy().copy()

        return note

    extract = Wav2Vec2FeatureExtractor(do_normalize=loaded.do_normalize)
    inputs = extract(waveform, sampling_rate=16_000, return_tensors="pt").input_values
    places = host_of(loaded.model).taps(loaded.model)
    handles = [module.register_forward_hook(hook(name)) for name, module in places.items()]
    try:
        with torch.inference_mode():
            seen["logits"] = loaded.model(inputs).logits[0].numpy()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _named(parts: Parts, first: list[Tensor], logits: Tensor, inner: list[Tensor]) -> Taps:
    values = [*first, *inner, logits]
    return {name: value.numpy() for name, value in zip(parts.taps, values, strict=True)}


def batched(parts: Parts, waveform: np.ndarray, kit: Kit = BATCHED) -> Taps:
    """Beside a longer row, garbage behind the utterance."""
    rows = torch.full((2, len(waveform) + 5_000), 3.0)
    rows[0, : len(waveform)] = torch.from_numpy(waveform)
    model = BatchedModel(parts, kit)
    logits, counts, *taps = model(rows, torch.tensor([len(waveform), rows.shape[1]]))
    frames = parts.front_end.frames(len(waveform))
    return _named(
        parts,
        [tap[0, :frames] for tap in taps[:2]],
        logits[0, : int(counts[0])],
        [tap[0, :frames] for tap in taps[2:]],
    )


def _rows(values: Tensor, count: int) -> Tensor:
    """(1, C, 1, T) -> (count, C)."""
    return values[0, :, 0, :count].T


def _output_frames(parts: Parts, frames: int) -> int:
    for conv in parts.length_adapter.convolutions if parts.length_adapter else ():
        frames = (frames + 2 * int(conv.padding[0]) - conv.kernel_size[0]) // conv.stride[0] + 1
    return frames


def _bucket(frames: int) -> int:
    return -(-(frames + 1) // BLOCK) * BLOCK


def split(parts: Parts, waveform: np.ndarray) -> Taps:
    """The front end on the exact samples, the encoder of a longer bucket, garbage at padding."""
    projected, features = FrontEnd(parts)(torch.from_numpy(waveform)[None])
    frames = projected.shape[-1]
    size = _bucket(frames)
    padded = torch.full((1, projected.shape[1], 1, size), 10.0)
    padded[..., :frames] = projected
    mask = (torch.arange(size) < frames).float().view(1, 1, 1, -1)
    logits, *inner = Encoder(parts, size)(padded, mask)
    return _named(
        parts,
        [_rows(features, frames), _rows(projected, frames)],
        _rows(logits, _output_frames(parts, frames)),
        [_rows(tap, frames) for tap in inner],
    )


def whole(parts: Parts, waveform: np.ndarray) -> Taps:
    """One program, the waveform zero behind its end."""
    arithmetic = parts.front_end
    frames = arithmetic.frames(len(waveform))
    size = _bucket(frames)
    samples = arithmetic.receptive_field + (size - 1) * arithmetic.hop
    padded = torch.zeros(1, samples)
    padded[0, : len(waveform)] = torch.from_numpy(waveform)
    model = WholeModel(parts, size, samples)
    logits, *inner = model(padded, torch.tensor([float(len(waveform))]))
    *inner, features, projected = inner
    return _named(
        parts,
        [_rows(features, frames), _rows(projected, frames)],
        _rows(logits, _output_frames(parts, frames)),
        [_rows(tap, frames) for tap in inner],
    )


def exact(parts: Parts, waveform: np.ndarray) -> Taps:
    """One utterance of exact length."""
    found = ExactModel(parts).taps(torch.from_numpy(waveform)[None])
    return {name: tap[0].numpy() for name, tap in zip(parts.taps, found, strict=True)}


def bucket(parts: Parts, waveform: np.ndarray) -> Taps:
    """A fixed length with dense masks, garbage behind the utterance; it gives logits alone."""
    samples = len(waveform) + 7_000
    frames = parts.front_end.frames(samples)
    padded = torch.full((1, samples), 3.0)
    padded[0, : len(waveform)] = torch.from_numpy(waveform)
    lengths = torch.tensor([len(waveform)], dtype=torch.int32)
    logits = BucketModel(parts, frames)(padded, lengths)
    count = _output_frames(parts, parts.front_end.frames(len(waveform)))
    return {"logits": logits[0, :count].numpy()}


KITS: dict[str, Run] = {
    "batched": batched,
    "in pieces": partial(batched, kit=IN_PIECES),
    "split": split,
    "whole": whole,
    "exact": exact,
    "bucket": bucket,
}


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Iterator[Run]:
    with torch.inference_mode():
        yield KITS[request.param]


def assert_equal(expected: Taps, found: Taps) -> None:
    assert set(found) <= set(expected)
    for name, values in found.items():
        assert values.shape == expected[name].shape, name
        assert psnr(expected[name], values) > EQUAL_DB, name


@pytest.mark.parametrize("replaced", [(0,), (1,)])
def test_every_tap_is_that_of_transformers(
    hosted: Callable[..., Loaded],
    host_variant: str,
    kit: Run,
    waveform: np.ndarray,
    replaced: tuple[int, ...],
) -> None:
    loaded = hosted(host_variant, replaced)
    assert_equal(reference(loaded, waveform), kit(parts_of(loaded), waveform))


@pytest.mark.parametrize("replaced", [(), (0, 1)])
def test_all_or_nothing_replaced_without_normalisation(
    hosted: Callable[..., Loaded], kit: Run, waveform: np.ndarray, replaced: tuple[int, ...]
) -> None:
    loaded = hosted("wav2vec2 pre-norm", replaced, do_normalize=False)
    assert_equal(reference(loaded, waveform), kit(parts_of(loaded), waveform))


@pytest.mark.parametrize("variant", ["wav2vec2", "wavlm"])
def test_the_callers_model_stays_as_it_is(
    hosted: Callable[..., Loaded], variant: str, waveform: np.ndarray
) -> None:
    loaded = hosted(variant, (0,))
    parts = parts_of(loaded)
    before = copy.deepcopy(loaded.model.state_dict())
    batched = [BatchedModel(parts, kit) for kit in (BATCHED, IN_PIECES)]
    models = [*batched, ExactModel(parts), FrontEnd(parts), Encoder(parts, BLOCK)]
    with torch.no_grad():
        for model in models:
            for parameter in model.parameters():
                parameter.zero_()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_head_and_what_moves_windows_stay_in_float(hosted: Callable[..., Loaded]) -> None:
    parts = parts_of(hosted("wavlm", (0,)))
    for model in (BatchedModel(parts), ExactModel(parts), Encoder(parts, BLOCK)):
        kept = {path for path, _ in model.named_modules() if path and keeps_float(path)}
        assert "head" in kept
        assert any("layers.0.lpa" in path for path in kept)
        assert any("layers.1.attention.gate" in path for path in kept)
        assert not any("feed_forward" in path or "value" in path for path in kept)


@pytest.mark.parametrize("frames", [1, 2, 3, 201])
@pytest.mark.parametrize("variant", ["wav2vec2", "wav2vec2 pre-norm", "wavlm"])
def test_an_exact_program_at_any_length(
    hosted: Callable[..., Loaded], variant: str, frames: int
) -> None:
    loaded = hosted(variant, (0,))
    parts = parts_of(loaded)
    arithmetic = parts.front_end
    samples = arithmetic.receptive_field + (frames - 1) * arithmetic.hop + 7
    noise = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    with torch.inference_mode():
        assert_equal(reference(loaded, noise), exact(parts, noise))


@pytest.mark.parametrize("counts", [(2, 0, 0), (0, 1, 0), (0, 0, 2), (1, 2, 1), (0, 2, 2)])
def test_any_mixture_of_pulse_families(
    tiny_host: Callable[..., Any], kit: Run, waveform: np.ndarray, counts: tuple[int, int, int]
) -> None:
    model = tiny_host("wav2vec2")
    torch.manual_seed(3)
    aperiodic, periodic, positional = counts
    pulses = LPAConfig(32, 2, aperiodic=aperiodic, periodic=periodic, positional=positional)
    replace_layers(model, (0, 1), pulses)
    for lpa in lpa_layers(model).values():
        lpa.hard = True
        with torch.no_grad():
            lpa.controls.weight.mul_(4)
    loaded = Loaded(model)
    assert_equal(reference(loaded, waveform), kit(parts_of(loaded), waveform))


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_and_a_constant_offset_stay_finite(
    hosted: Callable[..., Loaded], kit: Run, level: float
) -> None:
    parts = parts_of(hosted("wav2vec2", (0,)))
    found = kit(parts, np.full(SAMPLES, level, np.float32))
    assert np.isfinite(found["logits"]).all()
