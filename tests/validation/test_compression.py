"""A bundle that is labelled as compressed and is not fails."""

from collections.abc import Callable
from typing import Any

import pytest
from lpa_validate.report import Report

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.manifest import Compression
from lpa_export.formats.schemes import SCHEMES, scheme_named

Make = Callable[..., Bundle]
Run = Callable[..., Report]


@pytest.mark.parametrize(
    ("counted", "status"),
    [
        (Compression(total=1000, eligible=900, compressed=900), "pass"),
        (Compression(total=1000, eligible=900, compressed=0), "fail"),
        (Compression(total=1000, eligible=900, compressed=800), "fail"),
        (None, "fail"),
    ],
)
def test_the_share_that_is_compressed_is_gated(
    make_bundle: Make, run: Run, counted: Compression | None, status: str
) -> None:
    gates = {"compressed_share": SCHEMES["palette4"].gates.compressed_share}
    stated: dict[str, Any] = {"scheme": scheme_named("palette4"), "compression": counted}
    check = run(make_bundle(gates=gates, manifest=stated), "integrity").check("integrity")
    assert check.status == status
    if counted is not None:
        assert check.figure("share of weights compressed").value == counted.compressed / 900
        assert check.figure("share of weights compressed").label == "stated"
        assert check.figure("share of all weights").value == counted.compressed / 1000


def test_weights_in_floats_are_not_asked_about(make_bundle: Make, run: Run) -> None:
    names = {figure.name for figure in run(make_bundle(), "integrity").check("integrity").figures}
    assert names and not any("compressed" in name for name in names)


def test_every_scheme_that_compresses_has_the_gate() -> None:
    for row in SCHEMES.values():
        assert (row.gates.compressed_share is not None) == row.scheme.compresses
