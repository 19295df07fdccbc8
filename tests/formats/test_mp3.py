"""MP3 files that do not state their length, held against the waveform that was encoded."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpa_export.formats.audio import read_audio
from lpa_export.formats.mp3 import with_stated_length

SECONDS = 6


def encoded(rate: int, channels: int, *, loud_first: bool) -> tuple[bytes, int]:
    """Noise and near silence as MP3 of variable bit rate, and the length of its first frame."""
    rng = np.random.default_rng(3)
    loudness = np.repeat([0.3, 1e-4], rate * SECONDS // 2)
    noise = rng.normal(size=(rate * SECONDS, channels)) * loudness[:, None]
    file = io.BytesIO()
    soundfile.write(
        file, noise if loud_first else noise[::-1], rate, format="MP3", bitrate_mode="VARIABLE"
    )
    data = file.getvalue()
    marks = [data.find(name) for name in (b"Xing", b"Info")]
    assert max(marks) > 0, "the encoder states no length: nothing to leave out"
    return data, data.index(data[:2], max(marks))


@pytest.mark.parametrize("loud_first", [True, False])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_a_file_without_a_stated_length_is_read_to_its_end(
    tmp_path: Path, rate: int, channels: int, loud_first: bool
) -> None:
    data, first = encoded(rate, channels, loud_first=loud_first)
    (tmp_path / "stream.mp3").write_bytes(data[first:])
    found = read_audio(tmp_path / "stream.mp3")
    assert len(found.waveform) / 16_000 == pytest.approx(SECONDS, abs=0.2)
    assert found.missing_seconds == 0
    assert np.array_equal(read_audio(data[first:], name="bytes").waveform, found.waveform)


def test_one_that_states_it_rightly_stays_as_it_is() -> None:
    data, _ = encoded(44_100, 1, loud_first=True)
    assert with_stated_length(data) is data


def test_two_files_in_one_are_both_read(tmp_path: Path) -> None:
    data, _ = encoded(16_000, 1, loud_first=True)
    found = read_audio(data + data, name="two")
    assert len(found.waveform) / 16_000 == pytest.approx(2 * SECONDS, abs=0.3)


def test_a_tag_in_front_and_what_is_no_mp3_stay() -> None:
    data, first = encoded(16_000, 1, loud_first=True)
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 2]) + bytes(130)
    assert with_stated_length(tag + data[first:]).startswith(tag)
    assert with_stated_length(b"RIFF no mp3") == b"RIFF no mp3"
