"""lpa-enhance: files in, cleaned files out, of any length; what it cannot take, in one line."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpa_export.commands.enhance import enhance, main
from lpa_export.commands.transcribe import main as transcribe_main
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder
from lpa_export.formats.separator import load_separator
from lpa_export.measures.separation import snr_db
from lpa_export.runtimes.separation.segments import cut_segments, joined_segments
from lpa_export.runtimes.separation.torch import SeparatorReference

from .conftest import RATE

Noisy = Callable[..., np.ndarray]


@pytest.fixture
def recording(tmp_path: Path, noisy: Noisy) -> Path:
    """A second of audio at the model's rate, in floats."""
    path = tmp_path / "noisy.wav"
    soundfile.write(path, noisy(), RATE, subtype="FLOAT")
    return path


def _clean(path: Path) -> np.ndarray:
    waveform, rate = soundfile.read(path.with_name(f"{path.stem}.clean.wav"), dtype="float32")
    assert rate == RATE
    return np.asarray(waveform)


@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_the_cleaned_file_is_what_the_model_gives_and_as_loud(
    bundle: Path, checkpoint: Path, recording: Path, noisy: Noisy, target: str
) -> None:
    source = {"onnx": {"bundle": bundle}, "torch": {"checkpoint": checkpoint}}[target]
    (done,) = enhance([recording], target=target, **source)  # type: ignore[arg-type]
    expected = SeparatorReference(load_separator(checkpoint).model).sources(noisy())[:, 0]
    assert (done.segments, done.remarks, done.seconds) == (1, (), 1.0)
    np.testing.assert_allclose(_clean(recording), expected, rtol=0, atol=1e-5)


def test_segments_of_a_long_file_are_faded_into_one_another(
    bundle: Path, tmp_path: Path, noisy: Noisy
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, noisy(5.3), RATE, subtype="FLOAT")
    (whole,) = enhance([path], bundle=bundle, segment="never")
    expected = _clean(path)
    (cut,) = enhance([path], bundle=bundle, segment=2.5, overwrite=True)
    found = _clean(path)
    assert (whole.segments, cut.segments) == (1, 3) and len(found) == len(expected)
    # Another computation, but no seam: the worst tenth of a second is still the same sound.
    assert 10 < snr_db(expected, found) < math.inf
    steps = np.abs(np.diff(found))
    for seam in (1.5, 2.5, 2.8, 4.0):
        at = round(seam * RATE)
        assert steps[at - 2 : at + 2].max() <= np.abs(np.diff(expected)).max() * 1.1


def test_what_hears_one_sample_at_a_time_is_the_same_in_segments() -> None:
    mixture = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    turn = iter([(0, 1), (1, 0), (0, 1), (1, 0), (1, 0), (0, 1)])

    def separate(waveform: np.ndarray) -> np.ndarray:
        return np.stack([0.3 * waveform, -0.7 * waveform], axis=1)[:, next(turn)]

    segments = cut_segments(1000, 300, 100)
    assert segments[0] == (0, 300) and segments[-1] == (700, 1000)
    pairs = itertools.pairwise(segments)
    assert all(later <= end - 100 for (_, end), (later, _) in pairs)
    found = joined_segments(mixture, segments, 100, separate)
    np.testing.assert_allclose(found[:, 0], 0.3 * mixture, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[:, 1], -0.7 * mixture, rtol=1e-5, atol=1e-7)
    assert cut_segments(300, 300, 100) == ((0, 300),)
    with pytest.raises(LpaError, match="too short for overlaps"):
        cut_segments(1000, 150, 100)


def test_other_rates_channels_and_clipped_samples_are_taken_and_said(
    bundle: Path, tmp_path: Path, noisy: Noisy, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noisy.flac"
    loud = np.clip(8 * noisy(1.0, 2 * RATE), -1, 1)
    soundfile.write(path, np.stack([loud, 0.5 * loud], axis=1), 2 * RATE)
    assert main([str(path), "--bundle", str(bundle)]) == 0
    printed = capsys.readouterr().out
    assert "16000 Hz brought to the model's 8000 Hz; the mean of 2 channels; clipped in" in printed
    assert len(_clean(path)) == RATE and np.isfinite(_clean(path)).all()


def test_floats_beyond_full_scale_are_not_clipped_and_a_plateau_is_one_place(
    checkpoint: Path, tmp_path: Path, noisy: Noisy
) -> None:
    loud, flat = tmp_path / "loud.wav", tmp_path / "flat.wav"
    soundfile.write(loud, 8 * noisy(), RATE, subtype="FLOAT")
    plateau = noisy()
    plateau[1000:1100] = 1.0
    soundfile.write(flat, plateau, RATE)
    done = enhance([loud, flat], target="torch", checkpoint=checkpoint)
    assert [item.remarks for item in done] == [
        (),
        ("clipped in 1 places, which no model mends",),
    ]


def test_what_the_model_makes_nothing_finite_of_is_refused(
    checkpoint: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.full((RATE, 1), np.inf, np.float32)
    monkeypatch.setattr(SeparatorReference, "sources", lambda self, waveform: broken)
    with pytest.raises(LpaError, match="NaN or infinite samples of it, whose peak is"):
        enhance([recording], target="torch", checkpoint=checkpoint)
    assert [item.name for item in recording.parent.iterdir()] == [recording.name]


def test_files_that_would_take_each_others_place_are_refused_before_the_work(
    checkpoint: Path, recording: Path, tmp_path: Path
) -> None:
    other = tmp_path / "noisy.flac"
    soundfile.write(other, *soundfile.read(recording))
    for files in ([recording, other], [recording, recording]):
        with pytest.raises(LpaError, match=r"would both become .*noisy\.clean\.wav"):
            enhance(files, target="torch", checkpoint=checkpoint, overwrite=True)
    assert not recording.with_name("noisy.clean.wav").exists()


def test_an_output_that_is_there_is_refused_before_the_work(
    checkpoint: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.with_name("noisy.clean.wav").write_bytes(b"older")
    monkeypatch.setattr(SeparatorReference, "sources", None)
    with pytest.raises(LpaError, match="already exists; pass --overwrite"):
        enhance([recording], target="torch", checkpoint=checkpoint)
    assert recording.with_name("noisy.clean.wav").read_bytes() == b"older"


def test_silence_stays_finite(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    enhance([path], bundle=bundle)
    assert np.isfinite(_clean(path)).all() and np.abs(_clean(path)).max() < 1e-3


def test_what_cannot_be_read_is_one_line_and_the_others_are_cleaned(
    bundle: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, text = tmp_path / "short.wav", tmp_path / "text.wav"
    soundfile.write(short, np.ones(7) * [0.1, -0.1, 0, 0, 0, 0, 0], RATE)
    text.write_text("no audio")
    missing = tmp_path / "missing.wav"
    files = [str(path) for path in (short, text, missing, recording)]
    assert main([*files, "--bundle", str(bundle), "--out", str(tmp_path / "out"), "--json"]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [line.split(": ")[2] for line in lines] == files[:3]
    assert "7 samples at 8000 Hz, the model takes 16" in lines[0]
    entries = json.loads(captured.out)
    assert entries[0]["written"] == [str(tmp_path / "out" / "noisy.clean.wav")]
    assert [entry["file"] for entry in entries if "error" in entry] == files[:3]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["noisy.clean.wav"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--segment", "soon"], "--segment must be auto, never or 2 seconds at least"),
        (["--segment", "0.5"], "--segment must be"),
        (["--target", "teapot"], "unknown target 'teapot'"),
        (["--target", "torch"], "takes the separator with --checkpoint"),
        (["--checkpoint", "x"], "--checkpoint goes with --target torch"),
        (["--target", "coreml"], "a bundle for target 'onnx', expected 'coreml'"),
    ],
)
def test_bad_flags_are_one_line(
    bundle: Path,
    recording: Path,
    flags: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [] if {"torch", "teapot"} & {*flags} else ["--bundle", str(bundle)]
    assert main([str(recording), *given, *flags]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1 and said in captured


def test_an_older_output_stays_unless_it_may_be_replaced(
    bundle: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = recording.with_name("noisy.clean.wav")
    place.write_bytes(b"older")
    assert main([str(recording), "--bundle", str(bundle)]) == 2
    assert "already exists; pass --overwrite" in capsys.readouterr().err
    assert place.read_bytes() == b"older"
    assert main([str(recording), "--bundle", str(bundle), "--overwrite"]) == 0
    assert len(_clean(recording)) == RATE


def test_each_command_refuses_bundles_of_the_other_task(
    bundle: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe_main([str(recording), "--bundle", str(bundle)]) == 2
    assert "lpa-enhance and lpa-validate take it" in capsys.readouterr().err
    with new_folder(tmp_path / "recogniser", overwrite=False) as folder:
        content = json.loads((bundle / "manifest.json").read_text("utf-8"))
        del content["task"]
        (folder / "manifest.json").write_text(json.dumps(content))
    assert main([str(recording), "--bundle", str(tmp_path / "recogniser")]) == 2
    assert "this bundle recognises speech" in capsys.readouterr().err
