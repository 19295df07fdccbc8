"""One tiny bundle that was really exported, made once: an export takes seconds."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lpa_export.commands.export import export


@dataclass(frozen=True)
class Exported:
    """A checkpoint folder and the bundle made of it."""

    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that outlives a single test."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture
def exported(kept: Path, tiny_checkpoint: Callable[..., Path]) -> Exported:
    """The bundle of a tiny checkpoint; nobody may change it."""
    made = Exported(kept / "checkpoint", kept / "bundle")
    if not made.bundle.exists():
        shutil.copytree(tiny_checkpoint(), made.checkpoint, dirs_exist_ok=True)
        export(target="onnx", checkpoint=made.checkpoint, out=made.bundle)
    return made
