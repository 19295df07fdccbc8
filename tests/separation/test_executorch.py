"""A separator for ExecuTorch, in its own runtime: every bucket gives what the module gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lpa_validate import validate

from lpa_export.commands.enhance import enhance
from lpa_export.commands.export import export
from lpa_export.errors import LpaError
from lpa_export.targets import target_named

from .conftest import RATE

pytestmark = pytest.mark.skipif(
    bool(target_named("executorch").missing()), reason="ExecuTorch is not installed"
)

LEAST_DB = 90.0


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, of one short bucket: lowering a method takes many seconds."""
    out = tmp_path_factory.mktemp("executorch") / "bundle"
    return export(target="executorch", checkpoint=checkpoint, out=out, buckets=(1.4,)).bundle


def test_a_bucket_gives_what_the_module_gives_whatever_lies_behind(
    exported: Path, require_the_module: Callable[..., None]
) -> None:
    require_the_module(exported, (16, 403, 600, RATE), LEAST_DB)


def test_norms_means_and_products_are_delegated(exported: Path) -> None:
    described = json.loads((exported / "delegation.json").read_text("utf-8"))
    for method in described["methods"].values():
        outside = {node["op"] for node in method["nodes"] if node["delegate"] is None}
        assert len(method["nodes"]) > 300
        for op in ("native_layer_norm", "mean", "bmm", "mm", "addmm", "convolution", "_softmax"):
            assert not [name for name in outside if name.split(".")[1] == op]


@pytest.mark.slow
def test_so_does_every_bucket_of_several_without_a_delegate(
    checkpoint: Path, tmp_path: Path, require_the_module: Callable[..., None]
) -> None:
    made = export(
        target="executorch",
        checkpoint=checkpoint,
        out=tmp_path / "portable",
        buckets=(0.2, 1.1, 1.4),
        backend="portable",
    )
    require_the_module(made.bundle, (403, RATE, 11_200), LEAST_DB)


def test_it_passes_the_checks_of_its_target(exported: Path, checkpoint: Path) -> None:
    report = validate(
        target="executorch",
        bundle=exported,
        checkpoint=checkpoint,
        checks=["integrity", "ops", "parity", "silence", "padding"],
        limit=1,
    )
    assert report.verdict == "pass"
    ops = report.check("ops")
    assert ops.figure("linear and convolution kernels outside").value == 0


def test_longer_files_are_heard_in_segments_of_the_longest_bucket(
    exported: Path, tmp_path: Path, noisy: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "noisy.wav"
    soundfile.write(path, noisy(3.0), RATE, subtype="FLOAT")
    (done,) = enhance([path], target="executorch", bundle=exported)
    assert done.segments > 1 and done.seconds == 3.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backend": "coreml"}, "for xnnpack and portable only"),
        ({"lowering": "prefix_sum"}, "fixed lengths here"),
        ({"buckets": (0.001,)}, "shorter than one frame"),
        ({"buckets": (1.0001, 1.0002)}, "buckets 1.0001 and 1.0002 s are both"),
        ({"quantize": "int8"}, "in fp32, not in int8"),
    ],
)
def test_what_is_not_written_is_refused(
    checkpoint: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(LpaError, match=said):
        export(target="executorch", checkpoint=checkpoint, out=tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
