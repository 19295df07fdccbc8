"""What a separator's bundle says of itself, whatever the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpa_export.formats.manifest import METADATA_SCHEMA, Bucket, Port
from lpa_export.formats.task import SEPARATION
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets.describe import buckets_of

if TYPE_CHECKING:
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.sepformer import SeparatorParts, SepFormerConfig

__all__ = ["BUCKET_INPUTS", "bucket_outputs", "lowering", "metadata", "separator_buckets"]

BUCKET_INPUTS = (
    Port(name="waveform", dtype="float32", shape=(1, "samples")),
    Port(name="lengths", dtype="int32", shape=(1,)),
)
"""What a program of fixed lengths takes: a mixture, anything behind it, and its samples."""


def bucket_outputs(config: SepFormerConfig) -> tuple[Port, ...]:
    """What such a program gives."""
    return (Port(name="sources", dtype="float32", shape=(1, config.sources, "samples")),)


def lowering(parts: SeparatorParts, form: str) -> dict[str, str]:
    """How windows are written, within chunks and across them, where attention is replaced."""
    return {
        name: form
        for name in ("intra", "inter")
        if any(layer.lpa for block in parts.blocks for layer in getattr(block, name).layers)
    }


def metadata(separator: Separator, scheme: str) -> dict[str, str]:
    """What an app may have lost the manifest of, as strings by sorted key."""
    config = separator.model.config
    words = {
        "task": SEPARATION,
        "sample_rate": config.sampling_rate,
        "hop": config.stride,
        "receptive_field": config.kernel_size,
        "chunk": config.chunk,
        "sources": config.sources,
        "model": separator.name,
        "precision": scheme,
        "lpa_bundle_schema": METADATA_SCHEMA,
    }
    return {key: str(words[key]) for key in sorted(words)}


def separator_buckets(seconds: Sequence[float], config: SepFormerConfig) -> tuple[Bucket, ...]:
    """Those of a separator: `buckets_of` at its rate, frames of its encoder."""
    arithmetic = FrameArithmetic((config.kernel_size,), (config.stride,))
    return buckets_of(seconds, arithmetic, config.sampling_rate)
