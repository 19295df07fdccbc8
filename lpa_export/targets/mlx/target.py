"""The MLX target: weights, configuration, and a trace per bucket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.formats.manifest import Port
from lpa_export.hosts import parts_of
from lpa_export.runtimes.mlx.section import MlxRuntime
from lpa_export.targets import Job, Written
from lpa_export.targets.describe import (
    buckets_of,
    families,
    metadata,
    normalisation,
    require_exportable,
    taps,
    tools,
)
from lpa_export.targets.plain import Plain, plain_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.manifest import Compression
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.mlx.settings import MlxSettings

__all__ = ["LOWERINGS", "PROGRAM", "MlxTarget", "config_of", "section_of", "write_model"]

PROGRAM = "model.mlxfn"

LOWERINGS = {"blocks": "prefix_sums_in_blocks", "cumsum": "prefix_sums"}
"""How windows are written, by the setting `sums`."""


class MlxTarget:
    """`model.mlxfn`, with `model.safetensors` and `config.json` for any length."""

    def check(self, checkpoint: Checkpoint, settings: MlxSettings, scheme: Scheme) -> None:
        """Raise LpaError for what cannot be written: an activation, impossible buckets."""
        require_exportable(checkpoint)
        parts = parts_of(checkpoint)
        plain_model(parts)
        buckets_of(settings.buckets, parts.front_end)

    def write(self, job: Job, folder: Path) -> Written:
        """Write the three files."""
        from lpa_export.targets.mlx.model import CONFIG, WEIGHTS, load
        from lpa_export.targets.mlx.trace import trace

        settings: MlxSettings = job.settings
        parts = parts_of(job.checkpoint)
        plain, words = plain_model(parts), metadata(job.checkpoint, job.scheme.name)
        buckets = buckets_of(settings.buckets, parts.front_end)
        found = taps(parts, lambda tap: tap)
        job.announce("writing the weights")
        compression = write_model(folder, plain, job.scheme, settings, words)
        job.announce("tracing the model")
        # A kernel needs its GPU to be traced.
        model = load(folder, kernel=False)
        names = [tap.name for tap in found]
        counted = trace(model, buckets, names, words, settings.device, folder / PROGRAM)
        vocabulary = len(job.checkpoint.vocabulary)
        return Written(
            artifacts=(PROGRAM, WEIGHTS, CONFIG),
            lowering=families(parts, LOWERINGS[settings.sums]),
            normalisation=normalisation(parts.do_normalize),
            inputs=(
                Port(name="waveform", dtype="float32", shape=(1, "samples")),
                Port(name="lengths", dtype="int32", shape=(1,)),
            ),
            outputs=(Port(name="logits", dtype="float32", shape=(1, "frames", vocabulary)),),
            taps=found,
            buckets=buckets,
            tools=tools("mlx", "numpy", "torch", "transformers"),
            runtime=section_of(settings.device, counted),
            compression=compression,
        )


def section_of(device: str, primitives: dict[str, int]) -> MlxRuntime:
    """The manifest's section of a program for `device` with so many of each primitive."""
    from lpa_export.targets.mlx.model import CONFIG, WEIGHTS

    return MlxRuntime(
        program=PROGRAM, weights=WEIGHTS, config=CONFIG, device=device, primitives=primitives
    )


def write_model(
    folder: Path,
    plain: Plain,
    scheme: Scheme,
    settings: MlxSettings,
    words: Mapping[str, str],
) -> Compression | None:
    """Write weights and configuration; `words` are metadata. What is traced is what they hold."""
    import mlx.core as mx

    from lpa_export.targets.mlx.model import CONFIG, WEIGHTS
    from lpa_export.targets.mlx.weights import kept

    weights = kept(plain.arrays, scheme, settings.group_size)
    mx.save_safetensors(str(folder / WEIGHTS), weights.arrays, metadata=dict(words))
    text = json.dumps(config_of(plain.structure, scheme, settings), indent=1, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", "utf-8", newline="\n")
    return weights.compression


def config_of(structure: dict[str, Any], scheme: Scheme, settings: MlxSettings) -> dict[str, Any]:
    """What `config.json` says: the plain description, and how its numbers are kept."""
    from lpa_export.targets.mlx.weights import BITS

    bits = BITS.get(scheme.weights)
    quantised = None if bits is None else {"bits": bits, "group_size": settings.group_size}
    return {
        "compute": scheme.compute,
        "quantised": quantised,
        "sums": settings.sums,
        "means": settings.means,
        "model": structure,
    }
