"""The shipped model with palettes for weights, on real speech."""

import json
from pathlib import Path

import pytest
from lpa_validate.command import main as validate_main

from lpa_export.commands.export import main as export_main


@pytest.mark.slow
def test_palettes_of_64_values_keep_the_words(tmp_path: Path, an4_dev: Path) -> None:
    bundle = tmp_path / "palette6"
    flags = ["--quantize", "palette6", "--buckets", "8", "--out", str(bundle)]
    assert export_main(["--target", "coreml", *flags]) == 0
    flags = ["--data", str(an4_dev), "--limit", "40", "--checks", "wer,precision"]
    assert validate_main(["--target", "coreml", "--bundle", str(bundle), *flags]) == 0
    report = json.loads((bundle / "report.json").read_text())
    figures = {
        item["name"]: item["value"] for check in report["checks"] for item in check["figures"]
    }
    assert figures["WER difference"] <= 0.5
    # The weights are what costs: arithmetic in fp16 adds little to it.
    arithmetic = figures["PSNR of 16-bit arithmetic"]
    assert arithmetic > figures["PSNR of weights and conversion"]
