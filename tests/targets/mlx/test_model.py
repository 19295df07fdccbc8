"""The model in mlx against transformers itself, the layer itself, and without torch."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from lpa_export.formats.schemes import scheme_named
from lpa_export.hosts import host_of, lpa_layers, replace_layers
from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.windows import periodic_windows as torch_periodic
from lpa_export.layers.windows import positional_windows as torch_positional
from lpa_export.measures.arrays import psnr
from lpa_export.targets.mlx.lpa import Frames, mix
from lpa_export.targets.mlx.model import Model, load
from lpa_export.targets.mlx.operators import Weights, total
from lpa_export.targets.mlx.weights import kept
from lpa_export.targets.mlx.windows import periodic_windows, positional_windows
from lpa_export.targets.plain import plain_model
from tests.targets.in_float64 import logits_in_float64

FP32 = scheme_named("fp32")
INT8 = scheme_named("int8", compute="fp32", activations="fp32")
SAMPLES = (9000, 6123)


def in_mlx(model: Any, scheme: str = "fp32", *, fused: bool = True, sums: str = "blocks") -> Model:
    """A model of transformers in that scheme, quantised in groups of 32."""
    plain = plain_model(host_of(model).parts(model, do_normalize=False))
    wanted = scheme_named(scheme)
    quantised = {"int8": 8, "int4": 4}.get(wanted.weights)
    compute = "fp16" if quantised else wanted.compute
    config = {
        "model": plain.structure,
        "compute": compute,
        "sums": sums,
        "quantised": quantised and {"bits": quantised, "group_size": 32},
    }
    made = scheme_named(scheme, compute=compute)
    return Model(config, kept(plain.arrays, made, 32).arrays, fused=fused)


def replaced(model: Any) -> Any:
    torch.manual_seed(4)
    replace_layers(model, [0], LPAConfig(32, 2))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    return model.eval()


@pytest.fixture(scope="module")
def speech() -> tuple[Any, Any]:
    """Two waveforms, the second with something loud at its padding; their lengths."""
    waveforms = np.random.default_rng(2).normal(size=(2, SAMPLES[0])).astype(np.float32)
    waveforms[1, SAMPLES[1] :] = 10.0
    return waveforms, np.array(SAMPLES, np.int32)


def test_every_host_in_a_padded_batch_is_transformers_alone(
    tiny_host: Callable[..., Any], host_variant: str, speech: tuple[Any, Any]
) -> None:
    waveforms, lengths = speech
    for model in (tiny_host(host_variant), replaced(tiny_host(host_variant))):
        ours = in_mlx(model)
        batch = np.array(ours(mx.array(waveforms), mx.array(lengths)))
        for row, length in enumerate(SAMPLES):
            alone = torch.from_numpy(waveforms[row : row + 1, :length])
            with torch.inference_mode():
                expected = model(alone).logits[0].numpy()
            assert psnr(expected, batch[row, : len(expected)]) > 100
            exact = np.array(ours(mx.array(alone.numpy())))[0]
            assert exact.shape == expected.shape
            assert psnr(expected, exact) > 100


def test_attention_in_two_products_is_fused_attention(
    tiny_host: Callable[..., Any], speech: tuple[Any, Any]
) -> None:
    model = tiny_host("wavlm")
    given = tuple(map(mx.array, speech))
    fused, plain = (np.array(in_mlx(model, fused=fused)(*given)) for fused in (True, False))
    assert psnr(fused, plain) > 100


@pytest.mark.parametrize("shape", [(2, 480_000), (1, 480_123), (1, 30_000, 3), (1, 100)])
def test_sums_over_half_a_minute_keep_float32(shape: tuple[int, ...]) -> None:
    """The energy of speech, by which a model levels it: what it loses moves edges of windows."""
    values = np.square(np.random.default_rng(0).normal(0.001, 0.05, shape).astype(np.float32))
    expected = values.astype(np.float64).sum(axis=1, keepdims=True)
    with mx.stream(mx.cpu):
        found = np.array(total(mx.array(values)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("sums", "level"), [("blocks", 120.0), ("cumsum", 105.0)])
def test_a_layer_of_two_minutes_is_the_layer_in_float64(sums: str, level: float) -> None:
    """6,000 frames: float32 sums must not lose what a window holds; blocks lose less."""
    torch.manual_seed(1)
    lpa = LPA(LPAConfig(32, 2, aperiodic=2, periodic=2, positional=2)).eval()
    lpa.hard = True
    hidden = torch.randn(1, 6000, 32)
    structure = {
        **{name: getattr(lpa.config, name) for name in ("max_offset", "min_width", "max_width")},
        "heads": 2,
        "aperiodic": 2,
        "teeth": [part.detach().tolist() for part in lpa.fixed_windows()[0] or ()],
        "shares": [part.detach().tolist() for part in lpa.fixed_windows()[1] or ()],
    }
    arrays = {f"lpa.{name}": value.detach().numpy() for name, value in lpa.named_parameters()}
    weights = Weights(kept(arrays, FP32, 32).arrays, bits=None, group_size=None)
    with torch.inference_mode():
        expected = lpa.double()(hidden.double())[0].numpy()
    lengths, frames = mx.array([6000]), 6000
    for given in (Frames(frames, None, None), Frames(frames, lengths, mx.ones((1, frames)) > 0)):
        found = np.array(mix(mx.array(hidden.numpy()), "lpa", structure, weights, given, sums))[0]
        errors = np.square(found - expected).sum(axis=1)
        moved = errors > 1e-6  # an edge that float64 rounds to the other side
        assert moved.mean() < 0.005
        assert psnr(expected[~moved], found[~moved]) > level


def test_tables_of_windows_are_the_layers(tiny_host: Callable[..., Any]) -> None:
    lpa = LPA(LPAConfig(32, 2, periodic=3, positional=3))
    teeth, shares = lpa.fixed_windows()
    assert teeth is not None and shares is not None
    plain = [[part.detach().tolist() for part in windows] for windows in (teeth, shares)]
    for found, expected in zip(
        (*periodic_windows(plain[0], 700), *positional_windows(plain[1], 700)),
        (*torch_periodic(*teeth, 700), *torch_positional(*shares, torch.arange(1, 701))),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("scheme", "level"), [("fp16", 45.0), ("bf16", 25.0), ("int8", 30.0), ("int4", 8.0)]
)
def test_a_scheme_loses_what_its_bits_lose(
    tiny_host: Callable[..., Any], speech: tuple[Any, Any], scheme: str, level: float
) -> None:
    model = tiny_host("wav2vec2")
    given = tuple(map(mx.array, speech))
    exact, found = (np.array(in_mlx(model, name)(*given)) for name in ("fp32", scheme))
    assert found.dtype == np.float32
    assert level < psnr(exact[0], found[0]) < level + 40


@pytest.mark.parametrize("group_size", [32, 64])
def test_what_is_quantised_is_counted(tiny_host: Callable[..., Any], group_size: int) -> None:
    """All but the head and what leads to edges: 48 and 24 inputs are filled up to whole groups."""
    model = replaced(tiny_host("wav2vec2"))
    plain = plain_model(host_of(model).parts(model, do_normalize=False))
    made = kept(plain.arrays, scheme_named("int4"), group_size)
    names = {name.removesuffix(".scales") for name in made.arrays if name.endswith(".scales")}
    linears = ("expand", "contract")
    assert names == {
        "projection",
        *(f"layers.0.{name}" for name in ("value", "output", *linears)),
        *(f"layers.1.{name}" for name in ("query", "key", "value", "output", *linears)),
    }
    assert made.compression is not None
    assert made.compression.compressed == made.compression.eligible
    assert made.compression.eligible == 4 * (6 * 32 * 32 + 4 * 48 * 32 + 32 * 24)
    contract = made.arrays["layers.0.contract.scales"]
    assert contract.shape == (32, -(-48 // group_size))
    assert kept(plain.arrays, scheme_named("fp16"), 32).compression is None


def test_a_row_that_groups_would_make_larger_stays_as_it_is() -> None:
    arrays = {f"of.{width}.weight": np.ones((4, width), np.float32) for width in (8, 17, 18, 40)}
    made = kept(arrays, INT8, 64)
    # 64 bytes, a scale and a bias are 72: as many as 18 floats.
    assert {name for name in made.arrays if name.endswith("scales")} == {"of.40.scales"}
    assert made.compression is not None
    assert made.compression.compressed == 4 * 4 * 40
    assert made.compression.eligible == 4 * 4 * (8 + 17 + 18 + 40)


@pytest.mark.parametrize("width", [24, 48, 64, 144])
def test_a_width_between_groups_is_multiplied_as_if_it_were_dense(width: int) -> None:
    """Against the stored weights, dequantised and cut to their width, in float64."""
    generator = np.random.default_rng(width)
    weight = generator.normal(size=(5, width)).astype(np.float32)
    bias = generator.normal(size=5).astype(np.float32)
    hidden = generator.normal(size=(2, 3, width)).astype(np.float32)
    arrays = kept({"of.weight": weight, "of.bias": bias}, INT8, 64).arrays
    weights, scales, biases = (arrays[f"of.{name}"] for name in ("weight", "scales", "biases"))
    stored = mx.dequantize(weights, scales, biases, group_size=64, bits=8)
    dense = np.array(stored, np.float64)[:, :width]
    assert np.abs(dense - weight).max() < 0.02
    found = Weights(arrays, bits=8, group_size=64).linear(mx.array(hidden), "of")
    np.testing.assert_allclose(found, hidden @ dense.T + bias, rtol=1e-4, atol=1e-4)


def test_any_length_without_torch(mlx_bundle: Path, tmp_path: Path) -> None:
    """From two files, in a process that has no torch, longer than any bucket."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'safetensors')))\n"
        "import numpy as np, mlx.core as mx\n"
        "from lpa_export.targets.mlx.model import load\n"
        "noise = np.random.default_rng(0).normal(size=(1, 90_000)).astype(np.float32)\n"
        f"logits = load({str(mlx_bundle)!r})(mx.array(noise))\n"
        f"np.save({str(tmp_path / 'logits.npy')!r}, np.array(logits))"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    found = np.load(tmp_path / "logits.npy")
    noise = np.random.default_rng(0).normal(size=(1, 90_000)).astype(np.float32)
    expected = np.array(load(mlx_bundle, fused=False).logits(mx.array(noise)))
    assert found.shape[1] > 250
    assert psnr(expected, found) > 100


def test_an_offset_of_quiet_speech_and_the_bias_before_a_norm_over_time_cost_no_digits(
    tiny_host: Callable[..., Any],
) -> None:
    front = {"conv_bias": True, "conv_kernel": (10, 64), "conv_stride": (5, 64)}
    model = tiny_host("wavlm", **front)
    waveform = np.random.default_rng(3).normal(0.3, 0.002, (1, 8 * 16_000)).astype(np.float32)
    expected = logits_in_float64(model, waveform[0])
    ours = in_mlx(model)
    assert psnr(expected, np.array(ours(mx.array(waveform)))[0]) > 110
    padded = mx.pad(mx.array(waveform), [(0, 0), (0, 4_000)], constant_values=5.0)
    found = np.array(ours(padded, mx.array([waveform.shape[1]])))[0, : len(expected)]
    assert psnr(expected, found) > 110
