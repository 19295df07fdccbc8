"""Sound files in, 16 kHz mono waveforms out.

Decoding is libsndfile's (WAV, FLAC, Ogg, MP3 and more), resampling is soxr's band-limited sinc
filter: interpolating samples would fold everything above the new Nyquist frequency back into
the speech band.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from lpa_export.errors import LpaError

__all__ = [
    "SAMPLE_RATE",
    "Waveform",
    "load_audio",
    "require_frames",
    "require_within",
    "resample",
    "write_flac",
]

SAMPLE_RATE = 16_000
"""Samples per second that every model of this project takes."""

Waveform = npt.NDArray[np.float32]
"""Mono audio, (samples,), full scale at -1 and 1."""

# A compressed file of a few megabytes can hold days of digital silence: refused before decoding.
MAX_SECONDS = 4 * 3600.0


def load_audio(path: Path | str, *, sample_rate: int = SAMPLE_RATE) -> Waveform:
    """Read any sound file as mono float32 at ``sample_rate`` Hz, shape (samples,).

    Channels are averaged, then the mean is resampled with soxr at its HQ setting.

    Raises LpaError for a file that is missing, no audio, empty, one sample, longer than four
    hours, silent (every sample the same) or not finite.
    """
    path = Path(path)
    channels, source_rate = _decode(path)
    mono = channels.mean(axis=1, dtype=np.float32)
    _require_speech(mono, path)
    return resample(mono, source_rate, sample_rate)


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Convert (samples,) between two sample rates in Hz; the same rate gives the same array."""
    if source_rate == target_rate:
        return waveform
    converted: Waveform = soxr.resample(waveform, source_rate, target_rate, quality="HQ")
    return converted


def require_frames(waveform: Waveform, receptive_field: int, name: str) -> None:
    """Raise LpaError when ``waveform`` is too short to give a single frame.

    ``receptive_field`` is in samples at 16 kHz; ``name`` tells the user which audio it is.
    """
    if waveform.shape[0] < receptive_field:
        raise LpaError(
            f"{name}: {waveform.shape[0]} samples of 16 kHz audio are shorter than the model's "
            f"receptive field of {receptive_field} samples; give a longer recording"
        )


def require_within(waveform: Waveform, max_samples: int, name: str) -> None:
    """Raise LpaError, naming the recording, when a waveform (samples,) is longer than that."""
    if len(waveform) > max_samples:
        raise LpaError(
            f"{name}: {len(waveform) / SAMPLE_RATE:.1f} s of audio, this bundle takes "
            f"{max_samples / SAMPLE_RATE:.1f} s at most; split the recording, or export with "
            "longer --buckets"
        )


def write_flac(path: Path | str, waveform: Waveform, *, sample_rate: int = SAMPLE_RATE) -> None:
    """Write (samples,) as 16-bit FLAC. The same waveform gives the same bytes.

    Raises LpaError when the file cannot be written.
    """
    try:
        soundfile.write(path, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise LpaError(f"{path}: cannot write audio there ({error})") from error


def _decode(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """(samples, channels) and the sample rate in Hz of the file."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise LpaError(f"{path}: expected an audio file, found {found}; check the path")
    if path.stat().st_size == 0:
        raise LpaError(f"{path}: expected audio, found an empty file; record or copy it again")
    try:
        with soundfile.SoundFile(path) as stream:
            if stream.frames > MAX_SECONDS * stream.samplerate:
                raise LpaError(
                    f"{path}: {stream.frames / stream.samplerate / 3600:.1f} hours of audio; "
                    f"at most {MAX_SECONDS / 3600:.0f} are taken, split the recording"
                )
            return stream.read(dtype="float32", always_2d=True), int(stream.samplerate)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise LpaError(
            f"{path}: expected an audio file (WAV, FLAC, Ogg, MP3), found something else or a "
            f"damaged one; convert it to WAV or FLAC ({error})"
        ) from error


def _require_speech(mono: Waveform, path: Path) -> None:
    """Refuse what no recogniser can read: no samples, one sample, NaN or Inf, a constant."""
    if mono.size == 0:
        raise LpaError(f"{path}: expected audio, found 0 samples; record it again")
    if mono.size == 1:
        raise LpaError(f"{path}: expected speech, found a single sample; record it again")
    if not np.isfinite(mono).all():
        raise LpaError(f"{path}: samples are NaN or infinite; export the recording again")
    if mono.min() == mono.max():
        raise LpaError(f"{path}: silent, every sample is {mono[0]:g}; check the recording")
