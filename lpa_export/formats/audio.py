"""Sound files in, 16 kHz mono waveforms out.

Decoding is libsndfile's (WAV, FLAC, Ogg, MP3 and more), resampling is soxr's band-limited sinc
filter: interpolating samples would fold everything above the new Nyquist frequency back into
the speech band.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.mp3 import with_stated_length

__all__ = [
    "SAMPLE_RATE",
    "Recording",
    "Waveform",
    "load_audio",
    "read_audio",
    "require_frames",
    "require_within",
    "resample",
    "stated_seconds",
    "write_flac",
]

SAMPLE_RATE = 16_000
"""Samples per second that every recogniser takes; a separator says its own."""

Waveform = npt.NDArray[np.float32]
"""Mono audio, (samples,), full scale at -1 and 1."""

# A compressed file of a few megabytes can hold days of digital silence: refused before decoding.
MAX_SECONDS = 4 * 3600.0


# Of the power of the louder channel, what is left in the mean of two that cancel each other.
_CANCELLED = 1e-6

# What the parsers of libsndfile remark about a header that promises more bytes than there are.
_SHORTER = re.compile(
    r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)

# A writer into a pipe cannot know the length, and puts in the largest number that it has.
_UNKNOWN_BYTES = 2**31 - 2**16

# Less than a frame of any codec: encoders round to their blocks.
_MISSING_SECONDS = 0.1

_FULL_SCALE = 0.999
# Samples in a row at full scale: a single one may be a peak.
_CLIPPED_RUN = 3
_UNBOUNDED = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Recording:
    """A waveform, and the file that it is of.

    Its samples a second and channels, the seconds that its header promises but it does not hold,
    and in how many places it is `clipped`: three samples in a row or more at full scale, which in
    a file of floats is no end.
    """

    waveform: Waveform
    sample_rate: int = SAMPLE_RATE
    channels: int = 1
    missing_seconds: float = 0.0
    clipped: int = 0


def load_audio(
    source: Path | str, *, sample_rate: int = SAMPLE_RATE, silence: bool = False
) -> Waveform:
    """The waveform alone of :func:`read_audio`, mono float32 (samples,)."""
    return read_audio(source, sample_rate=sample_rate, silence=silence).waveform


def read_audio(
    source: Path | str | bytes,
    *,
    sample_rate: int = SAMPLE_RATE,
    silence: bool = False,
    name: str = "",
    ahead: Callable[[float], None] = lambda seconds: None,
) -> Recording:
    """Read any sound file, or its bytes, as mono float32 at ``sample_rate`` Hz, (samples,).

    Channels are averaged, then the mean is resampled with soxr at its HQ setting. ``silence``:
    a recording in which every sample is the same is taken too. ``name`` is what messages call the
    recording, by default its path. A file that holds less than its header promises (a copy that
    broke off) is read as far as it goes, with an LpaWarning. ``ahead`` is called with the seconds
    of audio before any of it is decoded, and may raise.

    Raises LpaError for a file that is missing, no audio, empty, one sample, longer than four
    hours, silent, of channels that cancel each other, or not finite.
    """
    if not isinstance(source, bytes):
        source = Path(source)
        _require_file(source)
        name = name or str(source)
    channels, source_rate, missing, bounded = _decode(source, name, ahead)
    mono = channels.mean(axis=1, dtype=np.float32)
    _require_sound(mono, name)
    _require_in_phase(channels, mono, name)
    if not silence:
        _require_no_silence(mono, name)
    if missing:
        held = len(mono) / source_rate
        warnings.warn(
            f"{name}: cut off: its header promises {held + missing:.1f} s of audio, the file "
            f"holds {held:.1f} s; copy or record it again",
            LpaWarning,
            stacklevel=2,
        )
    return Recording(
        waveform=resample(mono, source_rate, sample_rate),
        sample_rate=source_rate,
        channels=channels.shape[1],
        missing_seconds=missing,
        clipped=_clipped(channels) if bounded else 0,
    )


def stated_seconds(path: Path) -> float:
    """Seconds of audio in a file before it is decoded; 0 for what cannot be opened."""
    try:
        with _opened(path) as file:
            return float(file.frames / file.samplerate)
    except (soundfile.LibsndfileError, OSError, TypeError):
        return 0.0


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Convert (samples,) between two sample rates in Hz; the same rate gives the same array."""
    if source_rate == target_rate:
        return waveform
    converted: Waveform = soxr.resample(waveform, source_rate, target_rate, quality="HQ")
    return converted


def require_frames(
    waveform: Waveform, shortest: int, name: str, *, sample_rate: int = SAMPLE_RATE
) -> None:
    """Raise LpaError when ``waveform`` is shorter than a model takes.

    ``shortest`` is in samples: the receptive field, which gives a single frame, or what an
    artifact needs beyond it. ``name`` tells the user which audio it is.
    """
    if waveform.shape[0] < shortest:
        raise LpaError(
            f"{name}: {waveform.shape[0]} samples of {sample_rate / 1000:g} kHz audio, the model "
            f"takes {shortest} ({shortest / sample_rate:.3f} s) at least; give a longer recording"
        )


def require_within(
    waveform: Waveform, max_samples: int, name: str, *, sample_rate: int = SAMPLE_RATE
) -> None:
    """Raise LpaError, naming the recording, when a waveform (samples,) is longer than that."""
    if len(waveform) > max_samples:
        raise LpaError(
            f"{name}: {len(waveform) / sample_rate:.1f} s of audio, this bundle takes "
            f"{max_samples / sample_rate:.1f} s at most; split the recording, or export with "
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


def _require_file(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise LpaError(f"{path}: expected an audio file, found {found}; check the path")
    if path.stat().st_size == 0:
        raise LpaError(f"{path}: expected audio, found an empty file; record or copy it again")


def _decode(
    source: Path | bytes, name: str, ahead: Callable[[float], None]
) -> tuple[npt.NDArray[np.float32], int, float, bool]:
    """(samples, channels), the sample rate in Hz, the seconds that are promised and missing, and
    whether full scale is the most that the file can hold.
    """
    try:
        with _opened(source) as file:
            if file.frames > MAX_SECONDS * file.samplerate:
                raise LpaError(
                    f"{name}: {file.frames / file.samplerate / 3600:.1f} hours of audio; "
                    f"at most {MAX_SECONDS / 3600:.0f} are taken, split the recording"
                )
            ahead(file.frames / file.samplerate)
            channels = file.read(dtype="float32", always_2d=True)
            missing = (_promised(file) - len(channels)) / file.samplerate
            rate = int(file.samplerate)
            missing = missing if missing > _MISSING_SECONDS else 0.0
            return channels, rate, missing, file.subtype not in _UNBOUNDED
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise LpaError(
            f"{name}: expected an audio file (WAV, FLAC, Ogg, MP3), found something else or a "
            f"damaged one; convert it to WAV or FLAC ({error})"
        ) from error


def _clipped(channels: npt.NDArray[np.float32]) -> int:
    full = np.zeros(len(channels) + 2, np.int8)
    full[1:-1] = (np.abs(channels) >= _FULL_SCALE).any(axis=1)
    steps = np.diff(full)
    runs = np.flatnonzero(steps < 0) - np.flatnonzero(steps > 0)
    return int((runs >= _CLIPPED_RUN).sum())


def _opened(source: Path | bytes) -> soundfile.SoundFile:
    file = soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source)
    if file.format != "MP3":
        return file
    file.close()
    data = source if isinstance(source, bytes) else source.read_bytes()
    return soundfile.SoundFile(BytesIO(with_stated_length(data)))


def _promised(file: soundfile.SoundFile) -> int:
    """Samples of each channel by the header.

    libsndfile corrects the length of most formats by that of the file, and says so in its log.
    """
    shorter = _SHORTER.search(file.extra_info)
    if not shorter:
        return int(file.frames)
    promised, held = map(int, shorter.groups())
    if promised >= _UNKNOWN_BYTES or held < 1:
        return int(file.frames)
    return round(file.frames * promised / held)


def _require_sound(mono: Waveform, name: str) -> None:
    """Refuse what holds no sound at all: no samples, one sample, NaN or Inf."""
    if mono.size == 0:
        raise LpaError(f"{name}: expected audio, found 0 samples; record it again")
    if mono.size == 1:
        raise LpaError(f"{name}: expected speech, found a single sample; record it again")
    if not np.isfinite(mono).all():
        raise LpaError(f"{name}: samples are NaN or infinite; export the recording again")


def _require_in_phase(channels: npt.NDArray[np.float32], mono: Waveform, name: str) -> None:
    """Refuse channels that hold a sound which their mean does not."""
    if channels.shape[1] < 2:
        return
    loudest = channels.var(axis=0, dtype=np.float64).max()
    if loudest > 0 and mono.var(dtype=np.float64) < _CANCELLED * loudest:
        raise LpaError(
            f"{name}: its channels are of opposite phase and cancel each other, their mean is "
            "silent; invert one of them, or give one channel alone"
        )


def _require_no_silence(mono: Waveform, name: str) -> None:
    if mono.min() == mono.max():
        raise LpaError(f"{name}: silent, every sample is {mono[0]:g}; check the recording")
