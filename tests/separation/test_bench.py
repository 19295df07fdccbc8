"""``lpa-bench`` on separators: the model's own rate, what is compared with what, what is kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.benchmark import process
from lpa_export.commands.bench import bench
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import damaged_files, write_manifest
from lpa_export.formats.separation_bundle import open_any_bundle
from lpa_export.formats.separator import save_separator
from lpa_export.formats.text import Vocabulary
from lpa_export.runtimes import Array
from lpa_export.targets import target_named
from tests.manifests import stated

from .conftest import RATE, Build

SHORT: dict[str, Any] = {"seconds": (0.5,), "rounds": 1, "least_seconds": 0.0, "threads": 1}


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A separator's bundle of one's own."""
    return Path(shutil.copytree(bundle, tmp_path / "build" / "onnx"))


def test_a_bundle_is_timed_at_its_own_rate_and_keeps_its_figures(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    class Listening:
        def run(self, waveform: Array) -> float:
            heard.append(len(waveform))
            return 1.0

        def peak(self) -> int:
            return 1

    def here(request: process.Request) -> process.Answer:
        opened = target_named("onnx").timed(open_any_bundle(copied), threads=1)
        assert opened.run(np.zeros(RATE, np.float32)) > 0 and opened.peak() > 1e6
        monkeypatch.setattr(process, "open_side", lambda side, threads: Listening())
        return process.measure(request)

    monkeypatch.setattr("lpa_export.benchmark.run.measure_in_process", here)
    found = bench(target="onnx", bundle=copied, **SHORT)
    assert {*heard} == {RATE // 2} and found.ours.points[0].time == 1.0
    card = (copied / "README.md").read_text("utf-8")
    assert "measured by lpa-bench" in card and "one speaker out of noise" in card
    assert damaged_files(open_any_bundle(copied)) == []


def test_lpa_and_attention_are_timed_side_by_side_in_torch(
    build: Build, checkpoint: Path, tmp_path: Path
) -> None:
    attention = save_separator(tmp_path / "attention", build(layers=()), None)
    found = bench(target="torch", checkpoint=checkpoint, against=attention, **SHORT)
    assert found.ours.name == "torch quiet" and found.theirs is not None
    assert found.theirs.name == "torch attention" and 0 < found.ratios[0].ratio < 100


@pytest.fixture
def recogniser(tmp_path: Path) -> Path:
    """A recogniser's bundle, which is never run."""
    folder = tmp_path / "recogniser"
    folder.mkdir()
    (folder / "model.onnx").touch()
    Vocabulary(("<pad>", "|", "a"), word_delimiter="|").write(folder / "tokens.json")
    write_manifest(folder, stated())
    return folder


def test_what_does_other_work_is_not_compared(
    copied: Path, checkpoint: Path, recogniser: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    for one, other in ((copied, recogniser), (recogniser, copied)):
        with pytest.raises(LpaError, match=r"differ in task \((recognition|separation) and "):
            bench(target="onnx", bundle=one, against=other, **SHORT)
    hears = tiny_checkpoint()
    with pytest.raises(LpaError, match="baselines recognise speech; name another bundle"):
        bench(target="onnx", bundle=copied, against="hub-export", checkpoint=hears, **SHORT)
    with pytest.raises(LpaError, match=r"hub-eager recognises speech, .* separates it"):
        bench(target="torch", checkpoint=checkpoint, against="hub-eager", **SHORT)
    with pytest.raises(LpaError, match="models of 8000 and 16000 Hz are not timed together"):
        bench(target="torch", checkpoint=checkpoint, against=hears, **SHORT)
