"""A separator for Core ML, emulated: the packages of fixed lengths give what the module gives."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lpa_validate import validate

from lpa_export.commands.export import export
from lpa_export.errors import LpaError

from .conftest import RATE


@pytest.mark.slow
def test_every_bucket_in_fp32_gives_what_the_module_gives_whatever_lies_behind(
    checkpoint: Path, tmp_path: Path, require_the_module: Callable[..., None]
) -> None:
    """In fp16: `test_shipped.py`."""
    made = export(
        target="coreml",
        checkpoint=checkpoint,
        out=tmp_path / "coreml",
        precision="fp32",
        buckets=(1.1, 1.4),
    )
    require_the_module(made.bundle, (400, 403, RATE, 8800), 90.0)
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
