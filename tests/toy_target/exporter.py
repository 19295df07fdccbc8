"""The exporter: the parts of a model as arrays and a description of how they are joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.manifest import Port
from lpa_export.formats.schemes import Scheme
from lpa_export.hosts import parts_of
from lpa_export.targets import Job, Written
from lpa_export.targets.describe import families, normalisation, own_words, taps, tools
from lpa_export.targets.plain import plain_model

from .runner import ARTIFACT, NpzRuntime
from .settings import NpzSettings


class NpzTarget:
    """`model.npz`: float32, any length, one utterance at a time."""

    def check(self, checkpoint: Checkpoint, settings: NpzSettings, scheme: Scheme) -> None:
        """Raise LpaError for parts that the numpy runner has no line for."""
        parts = parts_of(checkpoint)
        plain = len(parts.positional) == 1 and not (
            parts.positional[0].norm or parts.positional[0].affine
        )
        adapted = parts.length_adapter or any(layer.adapter for layer in parts.layers)
        if not plain or adapted or parts.position_bias:
            raise LpaError(f"{checkpoint.name}: target npz is for plain wav2vec2 models")

    def write(self, job: Job, folder: Path) -> Written:
        """Write `model.npz`."""
        parts = parts_of(job.checkpoint)
        job.announce("writing the arrays")
        model = plain_model(parts)
        arrays: dict[str, Any] = model.arrays
        about = {"model": model.structure, "words": own_words(job.checkpoint)}
        save = np.savez_compressed if job.settings.packing == "deflate" else np.savez
        save(folder / ARTIFACT, about=np.array(json.dumps(about)), **arrays)
        return Written(
            artifacts=(ARTIFACT,),
            lowering=families(parts, "windows_of_prefix_sums"),
            normalisation=normalisation(parts.do_normalize),
            inputs=(Port(name="waveform", dtype="float32", shape=("samples",)),),
            outputs=(
                Port(name="logits", dtype="float32", shape=("frames", parts.head.out_features)),
            ),
            taps=taps(parts, lambda name: name),
            buckets=None,
            tools=tools("numpy", "torch", "transformers"),
            runtime=NpzRuntime(arrays=len(arrays)),
        )
