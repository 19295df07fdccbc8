"""Sound files: decoding, resampling, and every file that is no speech."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.audio import (
    SAMPLE_RATE,
    load_audio,
    read_audio,
    require_frames,
    resample,
    write_flac,
)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    """A sine of half full scale, float32 (samples,)."""
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def level_db(waveform: np.ndarray) -> float:
    """RMS in dB of full scale, without the filter's run-in at both ends."""
    middle = waveform[800:-800].astype(np.float64)
    return float(10 * np.log10(np.mean(middle**2) + 1e-30))


def test_a_16_khz_mono_file_comes_back_unchanged(tmp_path: Path) -> None:
    expected = tone(440, SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", expected, SAMPLE_RATE, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.dtype == np.float32 and loaded.ndim == 1
    np.testing.assert_array_equal(loaded, expected)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(300, SAMPLE_RATE), tone(1100, SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_duration_is_kept_at_any_sample_rate(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, rate, 1.5), rate)
    assert abs(len(load_audio(tmp_path / "a.wav")) - 1.5 * SAMPLE_RATE) <= 1


@pytest.mark.parametrize("frequency", [8_600, 10_000, 15_000, 21_000])
def test_tones_above_8_khz_do_not_alias_into_16_khz_audio(tmp_path: Path, frequency: int) -> None:
    source = tone(frequency, 44_100)
    soundfile.write(tmp_path / "a.wav", source, 44_100, subtype="FLOAT")
    converted = load_audio(tmp_path / "a.wav")
    assert level_db(converted) < level_db(source) - 90
    # Interpolation, which this must never be, leaves the alias almost as loud as the tone.
    positions = np.arange(0, len(source) - 1, 44_100 / SAMPLE_RATE)
    interpolated = np.interp(positions, np.arange(len(source)), source)
    assert level_db(interpolated) > level_db(source) - 15


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("frequency", [100, 1_000, 4_000, 7_000])
def test_speech_band_passes_unchanged(rate: int, frequency: int) -> None:
    converted = resample(tone(frequency, rate), rate, SAMPLE_RATE)
    assert abs(level_db(converted) - level_db(tone(frequency, rate))) < 0.01
    spectrum, at = signal.periodogram(converted, SAMPLE_RATE, window="blackmanharris")
    assert abs(spectrum[np.argmax(at)] - frequency) < 2


def test_resampling_agrees_with_scipys_polyphase_filter_in_the_speech_band() -> None:
    random = np.random.default_rng(0)
    band = signal.butter(8, [100, 5_000], "bandpass", fs=44_100, output="sos")
    source = signal.sosfiltfilt(band, random.standard_normal(44_100)).astype(np.float32)
    ours = resample(source, 44_100, SAMPLE_RATE)
    theirs = signal.resample_poly(source.astype(np.float64), 160, 441, window=("kaiser", 12.0))
    error = (ours - theirs)[400:-400]
    assert 10 * np.log10(np.mean(theirs**2) / np.mean(error**2)) > 60


def test_flac_holds_16_bits_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    waveform = tone(440, SAMPLE_RATE)
    write_flac(tmp_path / "a.flac", waveform)
    write_flac(tmp_path / "b.flac", waveform)
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()
    np.testing.assert_allclose(load_audio(tmp_path / "a.flac"), waveform, atol=2**-15)


def test_flac_clips_what_is_louder_than_full_scale(tmp_path: Path) -> None:
    write_flac(tmp_path / "a.flac", 4 * tone(440, SAMPLE_RATE))
    loaded = load_audio(tmp_path / "a.flac")
    expected = np.clip(4 * tone(440, SAMPLE_RATE), -1, 1)
    np.testing.assert_allclose(loaded, expected, atol=2**-14)


def test_flac_into_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="cannot write audio"):
        write_flac(tmp_path / "no" / "a.flac", tone(440, SAMPLE_RATE))


BAD_SAMPLES = {
    "empty": (np.zeros(0), "0 samples"),
    "one_sample": (np.array([0.3]), "a single sample"),
    "zeros": (np.zeros(16_000), "silent"),
    "constant": (np.full(16_000, 0.25), "silent"),
    "opposite_channels": (np.array([[0.5, -0.5], [0.1, -0.1]] * 8_000), "opposite phase"),
    "silent_channels": (np.array([[0.5, -0.5]] * 8_000), "silent"),
    "nan": (np.array([0.1, np.nan, 0.2]), "NaN or infinite"),
    "infinite": (np.array([0.1, np.inf, 0.2]), "NaN or infinite"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_samples_without_speech_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    samples, expected = BAD_SAMPLES[name]
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(LpaError, match=expected) as caught:
        load_audio(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


BAD_FILES = {
    "text.wav": (b"this is no audio at all\nsecond line\n", "expected an audio file"),
    "empty.wav": (b"", "empty file"),
    "cut.flac": (b"fLaC\x00\x00", "expected an audio file"),
    "header.raw": (b"\x00\x01" * 50, "expected an audio file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_no_audio_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, expected = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LpaError, match=expected) as caught:
        load_audio(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such file"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(LpaError, match="found a folder"):
        load_audio(tmp_path)


def test_hours_of_silence_in_a_small_file_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"
    # A low rate makes the long duration cheap to write.
    with soundfile.SoundFile(path, "w", samplerate=1_000, channels=1, format="FLAC") as stream:
        for _ in range(5):
            stream.write(np.zeros(3_600_000, np.int16))
    with pytest.raises(LpaError, match=r"5\.0 hours of audio; at most 4"):
        load_audio(path)


def test_audio_shorter_than_the_receptive_field_is_refused() -> None:
    require_frames(np.zeros(400, np.float32), 400, "a.wav")
    with pytest.raises(LpaError, match=r"a\.wav: 399 samples .* takes 400 \(0\.025 s\) at least"):
        require_frames(np.zeros(399, np.float32), 400, "a.wav")


@pytest.mark.parametrize("form", ["wav", "aiff", "au", "w64", "rf64", "mp3"])
def test_a_file_that_is_cut_off_warns_and_says_what_is_missing(tmp_path: Path, form: str) -> None:
    """Two thirds of the file: soundfile counts what can be read, the header was for all of it."""
    path = tmp_path / f"cut.{form}"
    soundfile.write(path, tone(440, SAMPLE_RATE, 9.0), SAMPLE_RATE, format=form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.warns(LpaWarning, match=r"cut off: its header promises 9\.0 s") as caught:
        recording = read_audio(path)
    assert len(caught) == 1 and str(path) in str(caught[0].message)
    held = len(soundfile.read(path)[0])
    assert len(recording.waveform) == held
    assert recording.missing_seconds == pytest.approx(9.0 - held / SAMPLE_RATE, abs=0.01)
    assert recording.missing_seconds > 2.5


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "aiff", "au", "w64", "rf64"])
def test_a_whole_file_does_not_warn(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"whole.{form}"
    # An odd number of bytes at the end, and no multiple of a codec's block.
    format_and_type = {"wav": ("WAV", "PCM_U8")}.get(form, (form, None))
    soundfile.write(
        path,
        tone(440, SAMPLE_RATE, 1.0003),
        SAMPLE_RATE,
        format_and_type[1],
        format=format_and_type[0],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_audio(path).missing_seconds == 0


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_length_that_the_writer_did_not_know_is_no_promise(tmp_path: Path, length: int) -> None:
    """As written into a pipe: the largest number there is stands where the bytes are counted."""
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone(440, SAMPLE_RATE), SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = length.to_bytes(4, "little")
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording = read_audio(path)
    assert len(recording.waveform) == SAMPLE_RATE and recording.missing_seconds == 0


def test_bytes_are_read_as_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_flac(path, tone(440, SAMPLE_RATE))
    np.testing.assert_array_equal(read_audio(path.read_bytes()).waveform, load_audio(path))
    with pytest.raises(LpaError, match="standard input: expected an audio file"):
        read_audio(b"no audio", name="standard input")


def test_channels_of_almost_opposite_phase_are_refused_and_a_silent_channel_is_not(
    tmp_path: Path,
) -> None:
    """The right channel is the left one turned round, to the last bit of 16 but for dither."""
    left = tone(300, SAMPLE_RATE)
    dither = 2**-15 * np.random.default_rng(0).standard_normal(len(left))
    soundfile.write(tmp_path / "a.wav", np.stack([left, dither - left], 1), SAMPLE_RATE)
    with pytest.raises(LpaError, match="opposite phase and cancel each other"):
        load_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.stack([left, 0 * left], 1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "b.wav"), left / 2, atol=1e-7)


def test_silence_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), SAMPLE_RATE)
    assert not load_audio(tmp_path / "a.wav", silence=True).any()


def test_real_44_1_khz_stereo_keeps_its_spectrum_below_7_khz(samples: Path) -> None:
    path = samples / "jfk.flac"
    source, rate = soundfile.read(path, dtype="float64", always_2d=True)
    assert rate == 44_100 and source.shape[1] == 2
    ours = load_audio(path)
    original_at, original = signal.welch(source.mean(1), rate, nperseg=4410)
    converted_at, converted = signal.welch(ours, SAMPLE_RATE, nperseg=1600)
    band = (original_at >= 100) & (original_at <= 7_000)
    np.testing.assert_allclose(original_at[:701][band[:701]], converted_at[:701][band[:701]])
    ratio = 10 * np.log10(converted[:701][band[:701]] / original[:701][band[:701]])
    assert np.abs(np.median(ratio)) < 0.1
