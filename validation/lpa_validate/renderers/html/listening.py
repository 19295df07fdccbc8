"""A page to listen to: every track with its player and its spectrogram, all inside of the page."""

import base64
import io
from xml.etree.ElementTree import Element

import numpy as np

from lpa_export.runtimes import Array
from lpa_validate.renderers.html.elements import document, element, table
from lpa_validate.renderers.html.style import STYLE
from lpa_validate.separation.listening import Clip, Listening, Track

__all__ = ["render_listening", "spectrogram"]

_WINDOW_SECONDS = 0.032
_QUIETEST_DB = -70.0
"""Below the loudest point of a clip, drawn as black."""


def render_listening(listening: Listening) -> str:
    """The whole page; it needs no network. matplotlib draws the spectrograms."""
    return document(
        f"{listening.title}: listening",
        STYLE,
        element("h1", listening.title),
        element(
            "p",
            "One scale of level and of colour for the tracks of a clip. SI-SNR is that against the "
            "clean source a track is nearest to; it counts neither loudness nor sign.",
        ),
        element("p", f"No original here: {listening.missing}.") if listening.missing else None,
        *(
            part
            for clip in listening.clips
            for part in (
                element("h2", clip.id),
                element("p", _facts(clip)),
                _tracks(clip, listening.sample_rate),
            )
        ),
    )


def _facts(clip: Clip) -> str:
    facts = ["" if clip.snr_db is None else f"mixed at {clip.snr_db:g} dB"]
    if clip.gain_db < 0:
        facts.append(f"all tracks turned down by {-clip.gain_db:.1f} dB, so that none clips")
    return "; ".join(filter(None, facts))


def _tracks(clip: Clip, sample_rate: int) -> Element:
    pictures = [spectrogram(track.waveform, sample_rate) for track in clip.tracks]
    loudest = max(float(picture.max()) for picture in pictures)
    rows = [
        (track.name, _si_snr(track), _player(track, sample_rate), _image(picture, loudest, track))
        for track, picture in zip(clip.tracks, pictures, strict=True)
    ]
    head = ("track", "SI-SNR", "", f"0 to {sample_rate / 2000:g} kHz")
    return element("div", table(head, rows), class_="wide")


def _si_snr(track: Track) -> str:
    return "" if track.si_snr_db is None else f"{track.si_snr_db:.1f} dB"


def _player(track: Track, sample_rate: int) -> Element:
    import soundfile

    sound = io.BytesIO()
    whole = np.nan_to_num(track.waveform)
    soundfile.write(sound, whole, sample_rate, format="FLAC", subtype="PCM_16")
    return element("audio", controls="", src=_inside("audio/flac", sound))


def _image(picture: Array, loudest: float, track: Track) -> Element:
    from matplotlib.image import imsave

    image = io.BytesIO()
    imsave(
        image,
        picture,
        format="png",
        origin="lower",
        cmap="magma",
        vmin=loudest + _QUIETEST_DB,
        vmax=loudest,
    )
    name = f"spectrogram, {track.name}"
    return element("img", src=_inside("image/png", image), alt=name, width=420, height=128)


def _inside(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def spectrogram(waveform: Array, sample_rate: int) -> Array:
    """Decibels (frequencies, frames) of a waveform (samples,): 32 ms windows, half overlapped."""
    size = round(_WINDOW_SECONDS * sample_rate)
    padded = np.pad(np.nan_to_num(waveform).astype(np.float64), (0, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    decibels: Array = 10 * np.log10(power.T + 1e-12)
    return decibels
