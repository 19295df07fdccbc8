"""A separator for ExecuTorch without a delegate, and what is refused; with XNNPACK:
`test_shipped.py`, for lowering takes as long for a small one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpa_export.commands.export import export
from lpa_export.errors import LpaError
from lpa_export.targets import target_named

from .conftest import RATE

pytestmark = pytest.mark.skipif(
    bool(target_named("executorch").missing()), reason="ExecuTorch is not installed"
)


@pytest.mark.slow
def test_every_bucket_of_several_without_a_delegate_gives_what_the_module_gives(
    checkpoint: Path, tmp_path: Path, require_the_module: Callable[..., None]
) -> None:
    made = export(
        target="executorch",
        checkpoint=checkpoint,
        out=tmp_path / "portable",
        buckets=(0.2, 1.1, 1.4),
        backend="portable",
    )
    require_the_module(made.bundle, (403, RATE, 11_200), 90.0)


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
