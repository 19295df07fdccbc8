"""A small separator with LPA within chunks, and its bundle: an export takes seconds."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from lpa_export.commands.export import export
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.separation_bundle import open_separator_bundle
from lpa_export.formats.separator import load_separator, save_separator
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.measures.separation import snr_db
from lpa_export.runtimes.separation.torch import SeparatorReference
from lpa_export.targets import target_named

RATE = 8000
PULSES = Pulses(kernel_size=5, max_offset=6.0, max_width=10.0, max_period=20.0)
CONFIG = SepFormerConfig(
    sampling_rate=RATE,
    sources=1,
    filters=32,
    kernel_size=16,
    hidden_size=32,
    chunk=50,
    blocks=1,
    intra_layers=1,
    inter_layers=1,
    num_attention_heads=2,
    intermediate_size=48,
)

Build = Callable[..., SepFormer]


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(config, layers)`: random weights, hard gates, none of them at its neutral start."""

    def made(config: SepFormerConfig = CONFIG, layers: tuple[int, ...] = (0,)) -> SepFormer:
        torch.manual_seed(0)
        model = SepFormer(config).eval()
        shape = LPAConfig(config.hidden_size, config.num_attention_heads, **PULSES.shape)
        replace_layers(model, layers, shape)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        for lpa in lpa_layers(model).values():
            lpa.hard = True
        return model

    return made


@pytest.fixture(scope="session")
def checkpoint(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder; its intra-chunk layer is an LPA."""
    folder = tmp_path_factory.mktemp("separator") / "quiet"
    return save_separator(folder, build(), LPASection((0,), PULSES, 0.25, name="quiet"))


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle for ONNX Runtime."""
    out = tmp_path_factory.mktemp("bundle") / "onnx"
    return export(target="onnx", checkpoint=checkpoint, out=out).bundle


@pytest.fixture
def noisy() -> Callable[..., np.ndarray]:
    """`noisy(seconds, rate)`: a tone that swells, in noise."""

    def made(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
        time = np.arange(round(seconds * rate)) / rate
        tone = np.sin(2 * np.pi * 220 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * time))
        noise = np.random.default_rng(0).standard_normal(len(time))
        return (0.2 * tone + 0.05 * noise).astype(np.float32)

    return made


@pytest.fixture
def require_the_module(checkpoint: Path, noisy: Callable[..., np.ndarray]) -> Callable[..., None]:
    """`require_the_module(bundle, lengths, least)`: it gives what the module gives, to `least` dB:
    sources in every bucket that holds so many samples, loud garbage behind them, and taps.

    `of`: another checkpoint than the small one. `gains`: of mixtures that are tried.
    """

    def require(
        bundle: Path,
        lengths: Sequence[int],
        least: float,
        *,
        of: Path = checkpoint,
        gains: Sequence[float] = (1.0,),
    ) -> None:
        opened = open_separator_bundle(bundle)
        target = opened.manifest.target
        label = "emulated" if target == "coreml" else "measured"
        assert opened.manifest.selfcheck.label == label
        runner = target_named(target).runner_class(separates=True)(opened)
        reference = SeparatorReference(load_separator(of).model)
        for samples, gain in product(lengths, gains):
            mixture = np.float32(gain) * noisy(1.4)[:samples]
            expected = reference.taps(mixture)
            for bucket in runner.buckets:
                if samples <= bucket:
                    found = runner.run_in(mixture, bucket, garbage=9.0)
                    assert found.shape == expected["sources"].shape
                    assert snr_db(expected["sources"], found) >= least
            taps = runner.taps(mixture)
            assert list(taps) == list(expected)
            for name, values in taps.items():
                assert values.shape == expected[name].shape
                assert snr_db(expected[name], values) >= least

    return require
