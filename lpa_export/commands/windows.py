"""`lpa-train windows`: pictures of where a checkpoint's windows lie on a recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import PASSED, describe

if TYPE_CHECKING:
    from lpa_export.training.window_view import View

__all__ = ["configure_parser", "run", "windows"]

SHORTEST = 8000
"""Samples at 16 kHz of what is drawn of a separator, whose chunks are as long as that."""


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """Flags of `lpa-train windows`."""
    describe(
        parser,
        "Draw where a model's windows lie on a recording.",
        examples=(
            "lpa-train windows --out pictures",
            "lpa-train windows --checkpoint my/model --audio talk.wav --out pictures",
        ),
        interrupted="pictures that were not drawn yet are missing",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help="a model with LPA layers (default: the model that ships with lpa-export)",
    )
    parser.add_argument(
        "--audio", type=Path, metavar="FILE", help="a recording (default: a demo one that ships)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the pictures"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw, and say what was drawn."""
    for path in windows(checkpoint=arguments.checkpoint, audio=arguments.audio, out=arguments.out):
        print(f"wrote {path}")
    return PASSED


def windows(*, checkpoint: str | None = None, audio: Path | None = None, out: Path) -> list[Path]:
    """Draw `layer-<n>.png` for each LPA layer, and `hardness.png`; returns their paths.

    Raises LpaError for a checkpoint without LPA, and for audio that is unusable or too short.
    """
    from lpa_export.formats.separator import is_separator
    from lpa_export.formats.speech import load_utterances
    from lpa_export.training.window_pictures import draw_hardness, draw_windows

    if audio is None:
        audio = max(load_utterances(None), key=lambda item: item.duration or 0.0).audio
    name, temperature, views = (_of_separator if is_separator(checkpoint) else _of_recogniser)(
        checkpoint, audio
    )
    paths = []
    for view in views:
        for layer in view.layers:
            path = out / f"layer-{layer.layer}.png"
            draw_windows(path, view, layer, f"{name}, layer {layer.layer}, {audio.name}")
            paths.append(path)
    path = out / "hardness.png"
    title = f"{name}, {audio.name}: gates that are soft at temperature {temperature:g}"
    every = sorted((layer for view in views for layer in view.layers), key=lambda one: one.layer)
    draw_hardness(path, every, title)
    return [*paths, path]


def _of_recogniser(checkpoint: str | None, audio: Path) -> tuple[str, float, tuple[View, ...]]:
    """Its name, the temperature of its gates, and what is drawn."""
    from lpa_export.formats.audio import load_audio, require_frames
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.training.window_view import view_windows

    loaded = load_checkpoint(checkpoint)
    waveform = load_audio(audio)
    require_frames(waveform, loaded.receptive_field, str(audio))
    view = view_windows(loaded, waveform)
    return loaded.name, loaded.lpa.temperature if loaded.lpa else 0.0, (view,)


def _of_separator(checkpoint: str | None, audio: Path) -> tuple[str, float, tuple[View, ...]]:
    from lpa_export.formats.audio import load_audio, require_frames
    from lpa_export.formats.separator import load_separator
    from lpa_export.training.window_view import view_separator

    assert checkpoint is not None  # the shipped model recognises speech
    loaded = load_separator(checkpoint)
    config, heard = loaded.model.config, load_audio(audio)
    require_frames(heard, SHORTEST, str(audio))
    waveform = load_audio(audio, sample_rate=config.sampling_rate)
    views = view_separator(loaded, waveform, heard)
    return loaded.name, loaded.lpa.temperature if loaded.lpa else 0.0, views
