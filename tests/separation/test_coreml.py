"""A separator for Core ML, emulated: the packages of fixed lengths give what the module gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lpa_validate import validate

from lpa_export.commands.export import export
from lpa_export.errors import LpaError
from lpa_export.formats.separator import load_separator
from lpa_export.measures.separation import snr_db
from lpa_export.runtimes.separation.torch import SeparatorReference

from .conftest import RATE


@pytest.mark.slow
def test_every_bucket_in_fp32_gives_what_the_module_gives_whatever_lies_behind(
    checkpoint: Path, tmp_path: Path, noisy: Callable[..., np.ndarray]
) -> None:
    """In fp16: `test_shipped.py`."""
    from lpa_export.formats.separation_bundle import open_separator_bundle
    from lpa_export.runtimes.separation.coreml import CoremlSeparatorRunner

    made = export(
        target="coreml",
        checkpoint=checkpoint,
        out=tmp_path / "coreml",
        precision="fp32",
        buckets=(1.1, 1.4),
    )
    bundle = open_separator_bundle(made.bundle)
    assert bundle.manifest.selfcheck.label == "emulated"
    runner = CoremlSeparatorRunner(bundle)
    reference = SeparatorReference(load_separator(checkpoint).model)
    for samples in (400, 403, RATE, 8800):
        mixture = noisy(1.4)[:samples]
        expected = reference.sources(mixture)
        for bucket in runner.buckets:
            found = runner.run_in(mixture, bucket, garbage=9.0)
            assert found.shape == expected.shape and snr_db(expected, found) >= 90.0
    report = validate(
        target="coreml",
        bundle=made.bundle,
        checkpoint=checkpoint,
        checks=["integrity", "parity", "silence"],
        limit=1,
    )
    assert report.verdict == "pass"


def test_a_bucket_without_a_frame_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="shorter than one frame"):
        export(target="coreml", checkpoint=checkpoint, out=tmp_path / "c", buckets=(0.001,))
