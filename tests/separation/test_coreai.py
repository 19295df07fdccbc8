"""A separator for Core AI, in its own interpreter: every bucket gives what the module gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lpa_export.commands.export import export
from lpa_export.formats.separation_bundle import open_separator_bundle
from lpa_export.formats.separator import load_separator
from lpa_export.measures.separation import snr_db
from lpa_export.runtimes.separation.torch import SeparatorReference
from lpa_export.targets import target_named

from .conftest import RATE


@pytest.mark.skipif(bool(target_named("coreai").missing()), reason="Core AI is not installed")
def test_every_bucket_gives_what_the_module_gives_whatever_lies_behind(
    checkpoint: Path, tmp_path: Path, noisy: Callable[..., np.ndarray]
) -> None:
    made = export(target="coreai", checkpoint=checkpoint, out=tmp_path / "c", buckets=(1.1,))
    bundle = open_separator_bundle(made.bundle)
    assert bundle.manifest.selfcheck.label == "measured"
    runner = target_named("coreai").runner_class(separates=True)(bundle)
    reference = SeparatorReference(load_separator(checkpoint).model)
    for samples in (403, RATE):
        mixture = noisy(1.4)[:samples]
        expected = reference.sources(mixture)
        for bucket in runner.buckets:
            found = runner.run_in(mixture, bucket, garbage=9.0)
            assert found.shape == expected.shape and snr_db(expected, found) >= 90.0
