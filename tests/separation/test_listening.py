"""A page to listen to: what it plays is what the artifact gave, and it holds nothing else."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lpa_validate.command import main
from lpa_validate.renderers.html import render_listening
from lpa_validate.renderers.html.listening import spectrogram
from lpa_validate.separation.listening import Clip, Listening, Track, listen

from lpa_export.formats.manifest import SCHEMA_VERSION
from lpa_export.formats.mixtures import load_mixtures
from lpa_export.measures.separation import si_snr_db
from lpa_export.runtimes.separation.torch import OriginalSeparator

from .conftest import RATE

HALF_A_STEP = 2.0**-15


class _Tags(HTMLParser):
    """The tags of a page, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def _played(page: str) -> list[np.ndarray]:
    """Every sound of a page, as a browser decodes it."""
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    read = [soundfile.read(io.BytesIO(base64.b64decode(sound))) for sound in sounds]
    assert {rate for _, rate in read} <= {RATE}
    return [waveform for waveform, _ in read]


def test_what_is_played_is_mixture_clean_original_and_artifact(
    bundle: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    flags = ["--target", "onnx", "--bundle", str(bundle), "--checkpoint", str(checkpoint)]
    assert main([*flags, "--checks", "integrity", "--limit", "2", "--listen", str(page)]) == 0
    sounds = _played(page.read_text("utf-8"))
    assert len(sounds) == 2 * 4
    original = OriginalSeparator(checkpoint)
    for index, place in enumerate(load_mixtures(None, sample_rate=RATE, sources=1, limit=2)):
        mixture = place.read()
        expected = original.sources(mixture.waveform)[:, 0]
        rows = (mixture.waveform, mixture.clean[0], expected, expected)
        gain = min(1.0, 0.999 / max(np.abs(row).max() for row in rows))
        for row, sound in zip(rows, sounds[4 * index : 4 * index + 4], strict=True):
            np.testing.assert_allclose(sound, gain * row, atol=HALF_A_STEP + 1e-5)
    figures = listen(bundle, checkpoint=checkpoint, count=1).clips[0].tracks
    first = load_mixtures(None, sample_rate=RATE, sources=1, limit=1)[0].read()
    assert figures[0].si_snr_db == pytest.approx(si_snr_db(first.clean[0], first.waveform))
    assert figures[1].si_snr_db is None


def test_nothing_clips_and_no_text_becomes_markup() -> None:
    evil = "<script>alert(1)</script>"
    loud = 0.5 * np.sin(np.arange(RATE) / 3).astype(np.float32)
    clip = Clip(evil, 5.0, -6.0, (Track(evil, loud, 1.0), Track("b", loud[: RATE // 2])))
    page = render_listening(Listening(evil, RATE, "it is not here", (clip,)))
    tags = _Tags(page).found
    assert {"audio", "img"} < tags and "script" not in tags
    assert "turned down by 6.0 dB" in page and "it is not here" in page
    assert [len(sound) for sound in _played(page)] == [RATE, RATE // 2]
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert len(pictures) == 2 and "http:" not in page


def test_an_output_beyond_full_scale_turns_all_tracks_down(
    bundle: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpa_validate.separation.evaluation import SeparationValidation

    quiet = listen(bundle, checkpoint=checkpoint, count=1).clips[0]
    separate = SeparationValidation.separate
    loud = 20.0 / float(np.abs(quiet.tracks[3].waveform).max())
    monkeypatch.setattr(
        SeparationValidation, "separate", lambda self, waveform: loud * separate(self, waveform)
    )
    found = listen(bundle, checkpoint=checkpoint, count=1).clips[0]
    assert np.abs(found.tracks[3].waveform).max() == pytest.approx(0.999, rel=1e-5)
    factor = 10 ** ((found.gain_db - quiet.gain_db) / 20)
    np.testing.assert_allclose(found.tracks[0].waveform, factor * quiet.tracks[0].waveform)


def test_a_tone_lights_up_where_its_frequency_is() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    picture = spectrogram(tone, RATE)
    frequencies = np.linspace(0, RATE / 2, len(picture))
    assert frequencies[picture[:, :-4].mean(axis=1).argmax()] == pytest.approx(1000, abs=32)


def test_a_recogniser_and_a_folder_that_is_not_there_are_refused_in_a_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recogniser = tmp_path / "recogniser"
    recogniser.mkdir()
    (recogniser / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    for folder, page, said in (
        (recogniser, tmp_path / "page.html", "it transcribes"),
        (bundle, tmp_path / "nowhere" / "page.html", "name a file in a folder that is there"),
    ):
        flags = ["--target", "onnx", "--bundle", str(folder), "--listen", str(page)]
        assert main(flags) == 2
        assert said in capsys.readouterr().err
        assert not page.exists()
