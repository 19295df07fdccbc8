"""Weights that are really compressed: whatever the widths, whatever constants operations share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb

from lpa_export.environment import quiet
from lpa_export.formats.manifest import Compression
from lpa_export.formats.schemes import scheme_named
from lpa_export.runtimes.coreml import load_package
from lpa_export.targets.coreml.compress import compress, group_size
from lpa_export.targets.coreml.convert import Program
from lpa_export.targets.coreml.target import SCOPES
from lpa_export.targets.skeleton import keeps_float

Make = Callable[..., Any]
LEAST = 2048
"""Elements from which on coremltools compresses."""


@pytest.mark.parametrize("channels", [1, 7, 16, 24, 36, 100, 509, 768, 1000])
def test_a_group_is_the_largest_divisor_up_to_16(channels: int) -> None:
    assert group_size(channels) == max(n for n in range(1, 17) if channels % n == 0)


def weights(folder: Path, package: str) -> dict[str, tuple[int, str, tuple[int, ...]]]:
    """Path of the module -> elements of its weight, what makes it, shape of its palettes."""
    scopes = json.loads((folder / SCOPES).read_text("utf-8"))
    found = {}
    for name, function in load_package(folder / package).functions.items():
        for op in function.operations:
            if op.op_type == "conv":
                made = op.weight.op
                palettes = made.lut.shape if made.op_type == "constexpr_lut_to_dense" else ()
                path = scopes[f"{package}/{name}"][op.outputs[0].name]
                found[path] = (int(np.prod(op.weight.shape)), made.op_type, tuple(palettes))
    return found


@pytest.mark.parametrize("scheme", ["palette4", "int8"])
def test_widths_that_16_does_not_divide_and_shared_constants_are_compressed_all_the_same(
    make_checkpoint: Make, write_coreml: Make, tmp_path: Path, scheme: str
) -> None:
    """36 and 60 channels, and all-zero biases that are the shifts of norms too.

    What is 2048 long and equal becomes one constant, of a convolution and of a norm.
    """
    checkpoint = make_checkpoint(
        "pre",
        (0,),
        hidden_size=36,
        intermediate_size=60,
        num_hidden_layers=1,
        conv_dim=(24, LEAST),
        num_conv_pos_embedding_groups=2,
    )
    with torch.no_grad():
        for layer in checkpoint.model.wav2vec2.feature_extractor.conv_layers:
            layer.conv.bias.zero_()
            layer.layer_norm.bias.zero_()
    made = write_coreml(checkpoint, tmp_path, scheme, buckets=(1.2,))
    eligible = 0
    for package in made.written.artifacts:
        for path, (elements, kind, palettes) in weights(made.folder, package).items():
            if elements < LEAST or keeps_float(path):
                assert kind == "const", path
                continue
            assert kind.startswith("constexpr_"), path
            eligible += elements
            if "feed_forward" in path and scheme == "palette4":
                assert palettes[0] in (3, 4), path  # 36 = 3 x 12, 60 = 4 x 15
    found = made.written.compression
    # float16: two bytes an element.
    assert found.eligible == found.compressed == 2 * eligible
    assert found.share == 1


@pytest.mark.parametrize(("group", "share"), [(12, 1.0), (16, 0.0)])
def test_what_coremltools_passes_over_is_not_counted_as_compressed(
    monkeypatch: pytest.MonkeyPatch, group: int, share: float
) -> None:
    """A convolution of 36 channels, in groups of 16: it says nothing and leaves them out."""

    @mb.program(input_specs=[mb.TensorSpec((1, 64, 1, 8))], opset_version=ct.target.iOS18)
    def convolution(x: Any) -> Any:
        weight = np.random.default_rng(0).standard_normal((36, 64, 1, 1)).astype(np.float32)
        return mb.conv(x=x, weight=weight, name="y")

    model = ct.convert(
        convolution,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    monkeypatch.setattr("lpa_export.targets.coreml.compress.group_size", lambda channels: group)
    with quiet():
        found = compress(Program(model, {"y": "layer"}), scheme_named("palette4"), "iOS18").share
    assert found.eligible == 36 * 64 * 4
    assert found.share == share


def test_a_scheme_that_compresses_nothing_counts_nothing(exported: Make) -> None:
    assert exported().written.compression is None


def test_parts_add_up() -> None:
    parts = [Compression(total=10, eligible=8, compressed=4)] * 2
    assert Compression.of(parts) == Compression(total=20, eligible=16, compressed=8)
    assert Compression.of(parts).share == 0.5
    assert Compression(total=4, eligible=0, compressed=0).share == 0
