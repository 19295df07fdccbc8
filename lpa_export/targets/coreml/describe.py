"""What a bundle says of itself: metadata in each package, and the manifest's entries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from lpa_export.formats import manifest
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import METADATA_SCHEMA, Normalisation, Port, Tap
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.runtimes.coreml.runner import CoremlRuntime, Place
from lpa_export.targets import Written
from lpa_export.targets.coreml.buckets import Bucket
from lpa_export.targets.coreml.programs import stage_tensor
from lpa_export.targets.coreml.rewrites import REWRITES_OF
from lpa_export.targets.coreml.usage import usage
from lpa_export.targets.graph import tap_kinds
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets.coreml.settings import CoremlSettings

__all__ = ["FRONT_END", "MAIN", "describe", "metadata", "package_of", "runtime"]

FRONT_END = "frontend.mlpackage"
MAIN = "main"
_ENCODERS = {"split": "encoder", "whole": "model"}
_TOOLS = ("torch", "transformers", "coremltools", "numpy")
_IN_FRONT_END = frozenset({"features", "projection"})


def package_of(bucket: Bucket, settings: CoremlSettings) -> tuple[str, str]:
    """Package and function of a bucket: iOS 17 knows no packages of several functions."""
    name = _ENCODERS[settings.layout]
    if settings.deployment_target == "iOS17":
        return f"{name}_{bucket.frames}.mlpackage", MAIN
    return f"{name}.mlpackage", bucket.function


def metadata(checkpoint: Checkpoint, precision: str) -> dict[str, str]:
    """What an app needs to know and may have lost the manifest of: user-defined strings."""
    frames = FrameArithmetic.of(checkpoint.model.config)
    vocabulary = checkpoint.vocabulary
    return {
        "sample_rate": str(SAMPLE_RATE),
        "hop": str(frames.hop),
        "receptive_field": str(frames.receptive_field),
        "blank_id": str(vocabulary.blank),
        "word_delimiter": vocabulary.word_delimiter or "",
        "vocabulary": json.dumps(vocabulary.tokens, ensure_ascii=False),
        "normalisation": _normalisation(checkpoint).kind,
        "model": checkpoint.name,
        "precision": precision,
        "lpa_bundle_schema": str(METADATA_SCHEMA),
    }


def runtime(buckets: Sequence[Bucket], settings: CoremlSettings) -> CoremlRuntime:
    """Where a runner finds the programs, encoders ascending."""
    split = settings.layout == "split"
    places = [package_of(bucket, settings) for bucket in buckets]
    return CoremlRuntime(
        deployment_target=settings.deployment_target,
        layout=settings.layout,
        frontend=Place(package=FRONT_END, function=MAIN) if split else None,
        encoders=tuple(Place(package=package, function=name) for package, name in places),
    )


def describe(
    checkpoint: Checkpoint, buckets: Sequence[Bucket], settings: CoremlSettings, scheme: Scheme
) -> Written:
    """All that stands in the manifest, and how to use the packages."""
    places = runtime(buckets, settings)
    packages = [place.package for place in places.encoders]
    if places.frontend:
        packages.insert(0, FRONT_END)
    width = checkpoint.model.config.hidden_size
    dtype = "float32" if scheme.compute == "fp32" else "float16"
    logits = (1, len(checkpoint.vocabulary), 1, "bucket frames")
    projected = Port(name="projected", dtype=dtype, shape=(1, width, 1, "frames"))
    stated = tuple(
        manifest.Bucket(frames=b.frames, samples=b.max_samples, seconds=b.seconds) for b in buckets
    )
    return Written(
        artifacts=tuple(dict.fromkeys(packages)),
        lowering=_lowering(checkpoint, settings),
        normalisation=_normalisation(checkpoint),
        inputs=_inputs(settings, dtype, width),
        outputs=(
            *((projected,) if places.frontend else ()),
            Port(name="logits", dtype=dtype, shape=logits),
        ),
        taps=tuple(
            Tap(
                name=name,
                kind=kind,
                tensor=stage_tensor(name, settings.layout),
                where=_tap_place(name, settings),
            )
            for name, kind in tap_kinds(checkpoint).items()
        ),
        buckets=stated,
        tools={name: version(name) for name in _TOOLS},
        usage=usage(settings, stated, places.encoders[0]),
        runtime=places,
    )


def _tap_place(tap: str, settings: CoremlSettings) -> str:
    return "frontend" if settings.layout == "split" and tap in _IN_FRONT_END else "encoder"


def _inputs(settings: CoremlSettings, dtype: str, width: int) -> tuple[Port, ...]:
    if settings.layout == "whole":
        return (
            Port(name="waveform", dtype="float32", shape=(1, "bucket samples")),
            Port(name="samples", dtype="float32", shape=(1,)),
        )
    return (
        Port(name="waveform", dtype="float32", shape=(1, "samples")),
        Port(name="projected", dtype=dtype, shape=(1, width, 1, "bucket frames")),
        Port(name="mask", dtype=dtype, shape=(1, 1, 1, "bucket frames")),
    )


def _lowering(checkpoint: Checkpoint, settings: CoremlSettings) -> dict[str, str]:
    windows = {
        "aperiodic": "local_dense_mask",
        "periodic": "stored_masks",
        "positional": "stored_steps",
    }
    rewrites = ", ".join(REWRITES_OF[settings.layout])
    return (windows if checkpoint.replaced else {}) | {"rewrites": rewrites}


def _normalisation(checkpoint: Checkpoint) -> Normalisation:
    if not checkpoint.do_normalize:
        return Normalisation(kind="none", where="graph")
    return Normalisation(
        kind="zero_mean_unit_variance", where="graph", epsilon=NORMALISATION_EPSILON
    )
