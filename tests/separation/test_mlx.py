"""A separator for MLX, in its own runtime: traces and the model of any length give what the module
gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate import validate

from lpa_export.commands.export import export
from lpa_export.errors import LpaError
from lpa_export.hosts.sepformer import SepFormerConfig, separator_parts
from lpa_export.measures.separation import snr_db
from lpa_export.runtimes.separation.torch import SeparatorReference
from lpa_export.targets import target_named

from .conftest import CONFIG, RATE, Build

pytestmark = pytest.mark.skipif(bool(target_named("mlx").missing()), reason="MLX is not installed")


SCHEMES = {"fp32": ((1.4,), 90.0), "fp16": ((0.3, 1.4), 35.0)}
"""Buckets, and how near a scheme has to come, in dB; MLX compiles every shape for seconds."""


@pytest.fixture(scope="module", params=["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def exported(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """Its bundle, and how near it has to come, in dB."""
    out = tmp_path_factory.mktemp("mlx") / request.param
    buckets, least = SCHEMES[request.param]
    made = export(
        target="mlx", checkpoint=checkpoint, out=out, buckets=buckets, precision=request.param
    )
    return made.bundle, least


def test_every_bucket_gives_what_the_module_gives_whatever_lies_behind(
    exported: tuple[Path, float], require_the_module: Callable[..., None]
) -> None:
    folder, least = exported
    require_the_module(folder, (16, 403, RATE), least)


@pytest.mark.parametrize(
    "layers",
    [(0, 1), pytest.param((), marks=pytest.mark.slow), pytest.param((0,), marks=pytest.mark.slow)],
)
def test_the_model_of_any_length_is_the_hosts_own_alone_and_in_a_batch(
    build: Build, layers: tuple[int, ...], noisy: Callable[..., np.ndarray]
) -> None:
    import mlx.core as mx

    from lpa_export.formats.schemes import scheme_named
    from lpa_export.targets.mlx.separator import SeparatorInMlx
    from lpa_export.targets.mlx.settings import MlxSettings
    from lpa_export.targets.mlx.target import config_of
    from lpa_export.targets.mlx.weights import kept
    from lpa_export.targets.separation.plain import plain_separator

    module = build(SepFormerConfig.from_json(CONFIG.to_json() | {"sources": 2}, "config"), layers)
    plain, scheme = plain_separator(separator_parts(module)), scheme_named("fp32")
    config = config_of(plain.structure, scheme, MlxSettings())
    model = SeparatorInMlx(config, kept(plain.arrays, scheme, 64).arrays)
    reference = SeparatorReference(module)
    lengths = [403, 16, 1200]
    mixtures = [noisy()[:samples] for samples in lengths]
    padded = np.full((len(lengths), max(lengths)), 5.0, np.float32)
    for row, mixture in zip(padded, mixtures, strict=True):
        row[: len(mixture)] = mixture
    together = np.array(model(mx.array(padded), mx.array(lengths, mx.int32)))
    for row, mixture in zip(together, mixtures, strict=True):
        expected = reference.sources(mixture).T
        alone = np.array(model.sources(mx.array(mixture[None])))[0]
        for found in (alone, row[:, : len(mixture)]):
            assert snr_db(expected, found) >= 90.0
        assert not row[:, len(mixture) :].any()


def test_it_passes_the_checks_of_its_target(exported: tuple[Path, float], checkpoint: Path) -> None:
    report = validate(
        target="mlx",
        bundle=exported[0],
        checkpoint=checkpoint,
        checks=["integrity", "ops"],
    )
    assert report.verdict == "pass"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"means": "kernel"}, "goes with models that recognise speech"),
        ({"buckets": (0.001,)}, "shorter than one frame"),
        ({"buckets": (1.0001, 1.0002)}, "buckets 1.0001 and 1.0002 s are both"),
        ({"quantize": "int4"}, "in fp32, fp16, not in int4"),
    ],
)
def test_what_is_not_written_is_refused(
    checkpoint: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(LpaError, match=said):
        export(target="mlx", checkpoint=checkpoint, out=tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
