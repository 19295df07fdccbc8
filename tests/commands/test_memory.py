"""Memory asked about before the work begins: the estimate against processes' real peaks."""

import json
import shutil
from pathlib import Path
from typing import Any

import lpa_validate
import numpy as np
import pytest

from lpa_export.commands.transcribe import main, transcribe
from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE, write_flac
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.manifest import FileEntry, Frames, Sizes
from lpa_export.formats.speech import load_utterances
from lpa_export.runtimes.memory import (
    Factors,
    Load,
    estimate_memory,
    known_factors,
    longest_within,
    terms_of,
)
from tests.manifests import restated, stated
from tests.runtimes.measure_memory import WORST, peak_of

DEMO = load_utterances(None, limit=1)[0].audio
SIZES = Sizes(front_end=(10, 20), hidden=6, feed_forward=8, heads=2, windows=4, position_bias=True)
FRAMES = Frames(kernels=(4, 3), strides=(2, 2), hop=4, receptive_field=8)


@pytest.mark.parametrize("seconds", [30, 90, 150])
def test_the_estimate_is_within_20_percent_of_the_peak_of_a_process(
    exported: Any, tmp_path: Path, seconds: int
) -> None:
    peak = peak_of(exported.bundle, "onnx", seconds, tmp_path)
    estimate = estimate_memory(open_bundle(exported.bundle).manifest, seconds)
    assert estimate == pytest.approx(peak, rel=WORST)
    factors = known_factors("onnx, pieces front end")
    assert factors is not None
    if seconds == 150:  # not a constant that any length would fit
        assert peak > 4 * factors.process


def test_every_term_is_counted_as_by_hand() -> None:
    """22 samples: 10 values of 10 channels, then 4 frames of 20; one of two layers is kept."""
    load = Load.of(stated(frames=FRAMES, sizes=SIZES))
    assert load is not None
    assert terms_of(load, 22) == {
        "waveform": 4 * 22,
        "convolution": 4 * 10 * 10,
        "piece": 4 * 10 * 10,
        "features": 4 * 4 * 20,
        "hidden": 4 * 4 * 6,
        "feed_forward": 4 * 4 * 8,
        "windows": 4 * 4 * 6 * 4,
        "pairs": 4 * 4 * 4,
        "position_bias": 4 * 4 * 4 * 2,
    }


def test_a_piece_of_the_front_end_does_not_grow() -> None:
    """A hundred frames are heard in 8 + 99 * 4 samples: 201 values of 10 channels."""
    load = Load.of(stated(frames=FRAMES, sizes=SIZES))
    assert load is not None
    for samples in (404, 4_000, 40_000):
        assert terms_of(load, samples)["piece"] == 4 * 201 * 10


@pytest.mark.parametrize(("hidden", "expected"), [(0.5, 1508), (10.0, 2260)])
def test_the_larger_of_front_end_and_encoder_counts(
    monkeypatch: pytest.MonkeyPatch, hidden: float, expected: int
) -> None:
    """22 samples: 1000 + 2 * 10 + 88 + the larger of 400 and 96 * hidden + 3 * 64."""
    factors = Factors(
        process=1000,
        artifact=2.0,
        always={"waveform": 1.0},
        front_end={"convolution": 1.0},
        encoder={"hidden": hidden, "pairs": 3.0},
        made_on="",
        worst=0.0,
    )
    monkeypatch.setattr("lpa_export.runtimes.memory.known_factors", lambda form: factors)
    files = {"model.onnx": _file(10)}
    manifest = stated(frames=FRAMES, sizes=SIZES, sample_rate=22, files=files)
    assert estimate_memory(manifest, 1.0) == expected


def test_the_artifact_counts_and_replaced_layers_have_no_pairs() -> None:
    whole = stated(frames=FRAMES, sizes=SIZES, files={"model.onnx": _file(10), "a": _file(7)})
    load = Load.of(whole)
    assert load is not None and load.artifact_bytes == 10
    source = {**{f: getattr(whole.checkpoint, f) for f in whole.checkpoint.__struct_fields__}}
    every = type(whole.checkpoint)(**source | {"replaced_layers": (0, 1)})
    none_kept = Load.of(stated(frames=FRAMES, sizes=SIZES, checkpoint=every))
    assert none_kept is not None and terms_of(none_kept, 22)["pairs"] == 0


def test_the_longest_that_fits_is_the_longest() -> None:
    manifest = stated(sizes=SIZES)
    for limit in (200_000_000, 2_000_000_000):
        longest = longest_within(manifest, limit)
        within, beyond = (estimate_memory(manifest, longest + more) for more in (0, 1))
        assert within is not None and beyond is not None
        assert within <= limit < beyond
    assert longest_within(manifest, 1000) == 0
    assert longest_within(manifest, 10**15) == 4 * 3600


def test_nothing_is_said_of_old_bundles_and_of_targets_without_factors() -> None:
    assert estimate_memory(stated(), 10) is None
    assert estimate_memory(stated(target="coreml", sizes=SIZES), 10) is None


@pytest.fixture
def long(tmp_path: Path, exported: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, float]:
    """Ten minutes of audio on a machine with room for 60 s of it."""
    path = tmp_path / "long.flac"
    write_flac(path, np.resize(np.array([0.1, -0.1], np.float32), 600 * SAMPLE_RATE))
    room = estimate_memory(open_bundle(exported.bundle).manifest, 60)
    assert room is not None
    monkeypatch.setattr("lpa_export.runtimes.memory.held_memory", lambda: 0)
    monkeypatch.setattr("lpa_export.runtimes.memory.available_memory", lambda: room / 0.8 + 1)
    return path, 60


def test_what_does_not_fit_is_refused_before_it_is_read(
    exported: Any,
    long: tuple[Path, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decoded = []
    monkeypatch.setattr(
        "lpa_export.formats.audio._require_sound", lambda mono, name: decoded.append(name)
    )
    path, room = long
    bundle = ["--bundle", str(exported.bundle)]
    assert main([str(path), str(DEMO), "--json", "--cut", "never", *bundle]) == 2
    captured = capsys.readouterr()
    assert "long.flac: 600 s of audio take about" in captured.err
    assert f"enough for {room:.0f} s" in captured.err
    assert [("error" in entry) for entry in json.loads(captured.out)] == [False, True]
    assert decoded == [str(DEMO)]


def test_memory_is_asked_for_the_longest_piece(exported: Any, long: tuple[Path, float]) -> None:
    path, room = long
    assert len(transcribe([path], bundle=exported.bundle, cut=room)[0].seams) > 8
    with pytest.raises(LpaError, match="90 s of audio take about"):
        transcribe([path], bundle=exported.bundle, cut=90)


def test_validation_refuses_before_it_begins(
    exported: Any, long: tuple[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = long
    lines = [{"audio_filepath": str(audio), "text": "A"} for audio in (DEMO, path)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    monkeypatch.setattr("lpa_export.runtimes.onnx.OnnxRunner.__init__", pytest.fail)
    with pytest.raises(LpaError, match=r"long\.flac: 600 s of audio take about"):
        lpa_validate.validate(target="onnx", bundle=exported.bundle, data=data)


def test_a_bundle_that_says_nothing_of_its_sizes_is_tried(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported.bundle, tmp_path / "bundle")
    restated(open_bundle(tmp_path / "bundle"), sizes=None)
    monkeypatch.setattr("lpa_export.runtimes.memory.available_memory", lambda: 0)
    assert transcribe([DEMO], bundle=tmp_path / "bundle")[0].text


def _file(size: int) -> FileEntry:
    return FileEntry(bytes=size, sha256="ab" * 32)
