"""What a separator's bundle says of itself, whatever the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.formats.manifest import METADATA_SCHEMA
from lpa_export.formats.task import SEPARATION

if TYPE_CHECKING:
    from lpa_export.formats.separator import Separator
    from lpa_export.hosts.sepformer import SeparatorParts

__all__ = ["lowering", "metadata"]


def lowering(parts: SeparatorParts, *, across: str) -> dict[str, str]:
    """How windows are written, within chunks and across them, where attention is replaced."""
    forms = {"intra": "local_dense_mask", "inter": across}
    return {
        name: form
        for name, form in forms.items()
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
