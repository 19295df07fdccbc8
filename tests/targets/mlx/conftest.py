"""One bundle of a small model, made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lpa_export.commands.export import main as export_main
from lpa_export.formats.checkpoint import LPASection, save_checkpoint
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.layers import LPAConfig, Pulses

LETTERS = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@pytest.fixture(scope="session")
def mlx_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_host: Callable[..., Any]) -> Path:
    """A folder: two layers of WavLM, the first replaced, the second with its gated bias."""
    model = tiny_host("wavlm")
    torch.manual_seed(8)
    replace_layers(model, (0,), LPAConfig(hidden_size=32, num_heads=2))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    section = LPASection((0,), Pulses(), temperature=0.1, name="tiny")
    return save_checkpoint(tmp_path_factory.mktemp("mlx") / "checkpoint", model, LETTERS, section)


@pytest.fixture(scope="session")
def mlx_bundle(mlx_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle with buckets of 2 and 4 seconds."""
    folder = tmp_path_factory.mktemp("mlx-bundle") / "mlx"
    flags = ["--checkpoint", str(mlx_checkpoint), "--buckets", "2,4", "--out", str(folder)]
    assert export_main(["--target", "mlx", *flags]) == 0
    return folder
