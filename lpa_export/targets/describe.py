"""What a bundle says of itself, whatever the target: entries of the manifest, and own metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import (
    METADATA_SCHEMA,
    NORMALISATION_EPSILON,
    Bucket,
    Normalisation,
    Sizes,
    Tap,
)
from lpa_export.hosts.frames import FrameArithmetic

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.parts import Parts

__all__ = [
    "buckets_of",
    "families",
    "metadata",
    "normalisation",
    "own_words",
    "require_exportable",
    "sizes",
    "taps",
    "tools",
]


def require_exportable(checkpoint: Checkpoint | Separator) -> None:
    """Raise LpaError for LPA layers that no target is written for."""
    from lpa_export.hosts import lpa_layers

    for index, lpa in lpa_layers(checkpoint.model).items():
        if lpa.config.anchor != "frame":
            raise LpaError(
                f"{checkpoint.name}: the aperiodic pulses of layer {index} are anchored to the "
                f"{lpa.config.anchor}, which no target can export; train with anchor: frame"
            )


def normalisation(do_normalize: bool) -> Normalisation:
    """What the artifact does to the waveform first; all targets do it themselves."""
    if not do_normalize:
        return Normalisation(kind="none", where="graph")
    return Normalisation(
        kind="zero_mean_unit_variance", where="graph", epsilon=NORMALISATION_EPSILON
    )


class Tapped(Protocol):
    """What has taps: `Parts` of recognisers and of separators."""

    @property
    def taps(self) -> dict[str, str]: ...


def taps(
    parts: Tapped,
    tensor: Callable[[str], str],
    where: Callable[[str], str | None] = lambda tap: None,
) -> tuple[Tap, ...]:
    """The taps of a model: `tensor` names the value of each, `where` its program."""
    return tuple(
        Tap(name=name, kind=kind, tensor=tensor(name), where=where(name))
        for name, kind in parts.taps.items()
    )


def families(parts: Parts, *lowerings: str) -> dict[str, str]:
    """How aperiodic, periodic and positional windows are written; one name: all of them so."""
    if all(layer.lpa is None for layer in parts.layers):
        return {}
    named = lowerings * 3 if len(lowerings) == 1 else lowerings
    return dict(zip(("aperiodic", "periodic", "positional"), named, strict=True))


def sizes(parts: Parts) -> Sizes:
    """The widths of a model, and how many there are of what memory and time grow with."""
    replaced = [layer.lpa.config for layer in parts.layers if layer.lpa is not None]
    heads = [layer.attention.heads for layer in parts.layers if layer.attention is not None]
    return Sizes(
        front_end=tuple(layer.conv.out_channels for layer in parts.features),
        hidden=parts.projection.out_features,
        feed_forward=max(layer.feed_forward.expand.out_features for layer in parts.layers),
        heads=max([*heads, *(config.num_heads for config in replaced)]),
        windows=max((config.pulses for config in replaced), default=0),
        position_bias=parts.position_bias is not None,
    )


def own_words(checkpoint: Checkpoint) -> dict[str, str | int]:
    """What an app may have lost the manifest of, to be kept in the artifact itself."""
    frames = FrameArithmetic.of(checkpoint.model.config)
    vocabulary = checkpoint.vocabulary
    return {
        "sample_rate": SAMPLE_RATE,
        "hop": frames.hop,
        "receptive_field": frames.receptive_field,
        "blank_id": vocabulary.blank,
        "word_delimiter": vocabulary.word_delimiter or "",
        "vocabulary": json.dumps(vocabulary.tokens, ensure_ascii=False),
    }


def metadata(checkpoint: Checkpoint, scheme: str) -> dict[str, str]:
    """`own_words` and where they come from, as strings by sorted key."""
    words = own_words(checkpoint) | {
        "normalisation": normalisation(checkpoint.do_normalize).kind,
        "model": checkpoint.name,
        "precision": scheme,
        "lpa_bundle_schema": METADATA_SCHEMA,
    }
    return {key: str(words[key]) for key in sorted(words)}


def buckets_of(
    seconds: Iterable[float], arithmetic: FrameArithmetic, sample_rate: int = SAMPLE_RATE
) -> tuple[Bucket, ...]:
    """The buckets of audio of just so many seconds.

    Raises LpaError for one without a frame, and for two of the same frames.
    """
    lengths: dict[int, float] = {}
    found = []
    for length in seconds:
        samples = round(length * sample_rate)
        frames = arithmetic.frames(samples)
        if frames < 1:
            raise LpaError(
                f"bucket of {length:g} s: shorter than one frame "
                f"({arithmetic.receptive_field} samples); take a longer one"
            )
        if frames in lengths:
            raise LpaError(
                f"buckets {lengths[frames]:g} and {length:g} s are both {frames} frames; leave one "
                "of them out"
            )
        lengths[frames] = length
        found.append(Bucket.of(frames, samples, sample_rate))
    return tuple(found)


def tools(*packages: str) -> dict[str, str]:
    """Versions of what made the artifact."""
    return {package: version(package) for package in packages}
