"""One wrong layer in a finished program: validation names that layer, and no other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lpa_validate.command import main as validate_main

from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.schemes import SCHEMES
from lpa_export.targets import target_named
from lpa_export.targets.assemble import BundleRequest, write_bundle
from lpa_export.targets.executorch.settings import ExecutorchSettings
from tests.manifests import restated

Make = Callable[..., Any]


def _spoil(program: Path, weight: np.ndarray) -> None:
    """Give a weight another scale inside the program, where every method reads it from."""
    content, before = program.read_bytes(), weight.tobytes()
    assert content.count(before) == 1
    program.write_bytes(content.replace(before, (weight * np.float32(1.05)).tobytes()))


@pytest.fixture(scope="module")
def bundle(make_checkpoint: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A checkpoint of two layers, and its bundle."""
    checkpoint = make_checkpoint("post", (0,), num_hidden_layers=2)
    folder = tmp_path_factory.mktemp("diverging") / "bundle"
    settings, spec = ExecutorchSettings(backend="portable"), SCHEMES["fp32"]
    request = BundleRequest(
        target_named("executorch"), spec.scheme, settings, checkpoint, False, spec.gates
    )
    write_bundle(request, folder, overwrite=False, announce=lambda step: None)
    return checkpoint, folder


def test_the_layer_whose_weights_are_wrong_is_the_first_diverging_tap(
    bundle: tuple[Any, Path],
) -> None:
    checkpoint, folder = bundle
    layer = checkpoint.model.wav2vec2.encoder.layers[1]
    _spoil(folder / "model.pte", layer.feed_forward.output_dense.weight.detach().numpy())
    restated(open_bundle(folder))
    arguments = ["--target", "executorch", "--bundle", str(folder), "--checks", "parity"]
    assert validate_main(arguments) == 1
    report = json.loads((folder / "report.json").read_text("utf-8"))
    (parity,) = report["checks"]
    assert parity["status"] == "fail"
    assert "first diverging tap: encoder.layers.1 (" in parity["reason"]
