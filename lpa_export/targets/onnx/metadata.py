"""What a runtime needs to know and an app may have lost the manifest of: kept in the ONNX file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import METADATA_SCHEMA
from lpa_export.hosts.frames import FrameArithmetic

if TYPE_CHECKING:
    import onnx

    from lpa_export.formats.checkpoint import Checkpoint

__all__ = ["add_metadata"]


def add_metadata(
    model: onnx.ModelProto, checkpoint: Checkpoint, normalisation: str, precision: str
) -> None:
    """Write the `metadata_props` of the file, strings all, sorted by key."""
    frames = FrameArithmetic.of(checkpoint.model.config)
    vocabulary = checkpoint.vocabulary
    entries = {
        "sample_rate": str(SAMPLE_RATE),
        "hop": str(frames.hop),
        "receptive_field": str(frames.receptive_field),
        "blank_id": str(vocabulary.blank),
        "word_delimiter": vocabulary.word_delimiter or "",
        "vocabulary": json.dumps(vocabulary.tokens, ensure_ascii=False),
        "normalisation": normalisation,
        "model": checkpoint.name,
        "precision": precision,
        "lpa_bundle_schema": str(METADATA_SCHEMA),
    }
    del model.metadata_props[:]
    for key in sorted(entries):
        model.metadata_props.add(key=key, value=entries[key])
