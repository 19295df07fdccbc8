"""Backends of fixed shapes: a method per bucket."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.schemes import scheme_named
from lpa_export.hosts import parts_of
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.runtimes.executorch.section import ExecutorchRuntime
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.executorch.programs import any_length
from lpa_export.targets.executorch.settings import ExecutorchSettings
from lpa_export.targets.executorch.target import ExecutorchTarget
from tests.targets.executorch.running import run_program

Make = Callable[..., Any]


def test_core_ml_is_written_here_with_a_method_per_bucket(exported: Make) -> None:
    made = exported("coreml", "fp32", "pre", (1.0, 2.0))
    runtime = made.written.runtime
    frames = FrameArithmetic.of(made.checkpoint.model.config)
    assert [bucket.frames for bucket in made.written.buckets] == [
        frames.frames(16_000),
        frames.frames(32_000),
    ]
    assert len(runtime.methods) == 2
    assert runtime.delegates["CoreMLBackend"] >= 1
    assert (made.folder / "model.pte").stat().st_size > 100_000
    assert [bucket.seconds for bucket in made.written.buckets] == [1.0, 2.0]


def test_core_ml_takes_all_products_and_convolutions(exported: Make) -> None:
    made = exported("coreml", "fp32", "pre", (1.0, 2.0))
    described = json.loads((made.folder / "delegation.json").read_text("utf-8"))
    for method in described["methods"].values():
        assert not [node for node in method["nodes"] if node["macs"] and node["delegate"] is None]


@pytest.mark.parametrize(("backend", "delegate"), [("vulkan", "Vulkan"), ("mps", "MPS")])
def test_other_accelerators_are_written_here_too(
    exported: Make, backend: str, delegate: str
) -> None:
    made = exported(backend, "fp32", "pre", (1.0,))
    assert made.written.runtime.delegates[f"{delegate}Backend"] >= 1


def test_a_bucket_in_the_runtime_gives_the_references_logits(
    make_checkpoint: Make, job: Make, noise: Make, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint("post", (0,), num_hidden_layers=1)
    settings = {"lowering": "local_dense_mask", "buckets": (1.5,)}
    written = ExecutorchTarget().write(job(checkpoint, **settings), tmp_path)
    assert written.buckets and isinstance(written.runtime, ExecutorchRuntime)
    (bucket,), (method,) = written.buckets, written.runtime.methods
    padded = np.zeros((1, bucket.samples), np.float32)
    padded[0, :9_001] = noise(9_001)
    inputs = [padded, np.array([9_001], np.int32)]
    found = run_program(tmp_path / "model.pte", method, {"clip": inputs})["clip"][0][0]
    expected = TorchReference(checkpoint).logits(padded[0, :9_001])
    np.testing.assert_allclose(found[: len(expected)], expected, atol=2e-4)


def test_a_bucket_shorter_than_a_frame_is_refused(
    make_checkpoint: Make, job: Make, tmp_path: Path
) -> None:
    request = job(make_checkpoint(), backend="coreml", buckets=(0.01, 5.0))
    with pytest.raises(LpaError, match=r"bucket of 0\.01 s: shorter than one frame"):
        ExecutorchTarget().write(request, tmp_path)


def test_two_buckets_of_the_same_frames_are_refused(
    make_checkpoint: Make, job: Make, tmp_path: Path
) -> None:
    request = job(make_checkpoint(), backend="coreml", buckets=(5.001, 5.002))
    with pytest.raises(LpaError, match=r"buckets 5\.001 and 5\.002 s are both \d+ frames; leave"):
        ExecutorchTarget().write(request, tmp_path)


@pytest.mark.parametrize(("longest", "samples"), [(1.0, 16_000), (3.0, 48_000)])
def test_the_longest_bucket_bounds_a_program_of_any_length(
    make_checkpoint: Make, longest: float, samples: int
) -> None:
    parts = parts_of(make_checkpoint("post", (0,), num_hidden_layers=1))
    settings = ExecutorchSettings(buckets=(longest,))
    methods = any_length(parts, settings, scheme_named("fp32"))
    assert (methods.max_samples, methods.example_seconds) == (samples, longest)


def test_a_longest_bucket_without_two_frames_is_refused(make_checkpoint: Make) -> None:
    settings = ExecutorchSettings(buckets=(0.03,))
    with pytest.raises(LpaError, match=r"longest bucket of 0\.03 s: .* take a longer one"):
        any_length(parts_of(make_checkpoint()), settings, scheme_named("fp32"))
