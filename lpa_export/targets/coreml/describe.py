"""What a bundle says of itself: metadata in each package, and the manifest's entries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.bundle import SCHEMA_VERSION
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets import Written
from lpa_export.targets.coreml.buckets import Bucket
from lpa_export.targets.coreml.programs import stage_tensor
from lpa_export.targets.coreml.rewrites import REWRITES_OF
from lpa_export.targets.coreml.usage import usage
from lpa_export.targets.graph import stage_kinds
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.recipe import CoremlSettings

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
        "word_delimiter": vocabulary.word_delimiter,
        "vocabulary": json.dumps(vocabulary.tokens, ensure_ascii=False),
        "normalisation": _normalisation(checkpoint)["kind"],
        "model": checkpoint.name,
        "precision": precision,
        "lpa_bundle_schema": str(SCHEMA_VERSION),
    }


def runtime(buckets: Sequence[Bucket], settings: CoremlSettings) -> dict[str, Any]:
    """Where a runner finds the programs, encoders ascending."""
    front_end = {
        "package": FRONT_END,
        "function": MAIN,
        "max_samples": max(bucket.max_samples for bucket in buckets),
    }
    places = [package_of(bucket, settings) for bucket in buckets]
    return {
        "deployment_target": settings.deployment_target,
        "layout": settings.layout,
        "frontend": front_end if settings.layout == "split" else None,
        "encoders": [
            {
                "package": package,
                "function": function,
                "frames": bucket.frames,
                "seconds": bucket.seconds,
                "max_samples": bucket.max_samples,
            }
            for bucket, (package, function) in zip(buckets, places, strict=True)
        ],
    }


def describe(
    checkpoint: Checkpoint, buckets: Sequence[Bucket], settings: CoremlSettings, precision: str
) -> Written:
    """All that stands in the manifest, and how to use the packages."""
    places = runtime(buckets, settings)
    packages = [place["package"] for place in places["encoders"]]
    if places["frontend"]:
        packages.insert(0, FRONT_END)
    config = checkpoint.model.config
    dtype = "float32" if precision == "fp32" else "float16"
    frames = ["frames"] if settings.layout == "split" else []
    return Written(
        artifacts=tuple(dict.fromkeys(packages)),
        lowering=_lowering(checkpoint, settings),
        normalisation=_normalisation(checkpoint),
        inputs=_inputs(settings, dtype, config.hidden_size),
        outputs=(
            *(
                {"name": "projected", "dtype": dtype, "shape": [1, config.hidden_size, 1, name]}
                for name in frames
            ),
            {
                "name": "logits",
                "dtype": dtype,
                "shape": [1, len(checkpoint.vocabulary), 1, "bucket frames"],
            },
        ),
        stages=tuple(
            {
                "name": name,
                "kind": kind,
                "tensor": stage_tensor(name, settings.layout),
                "where": _stage_place(name, settings),
            }
            for name, kind in stage_kinds(checkpoint).items()
        ),
        buckets=settings.buckets,
        tools={name: version(name) for name in _TOOLS},
        usage=usage(settings, places),
        runtime=places,
    )


def _stage_place(stage: str, settings: CoremlSettings) -> str:
    return "frontend" if settings.layout == "split" and stage in _IN_FRONT_END else "encoder"


def _inputs(settings: CoremlSettings, dtype: str, width: int) -> tuple[Mapping[str, Any], ...]:
    waveform = {"name": "waveform", "dtype": "float32"}
    if settings.layout == "whole":
        return (
            waveform | {"shape": [1, "bucket samples"]},
            {"name": "samples", "dtype": "float32", "shape": [1]},
        )
    return (
        waveform | {"shape": [1, "samples"]},
        {"name": "projected", "dtype": dtype, "shape": [1, width, 1, "bucket frames"]},
        {"name": "mask", "dtype": dtype, "shape": [1, 1, 1, "bucket frames"]},
    )


def _lowering(checkpoint: Checkpoint, settings: CoremlSettings) -> dict[str, str]:
    windows = {
        "aperiodic": "local_dense_mask",
        "periodic": "stored_masks",
        "positional": "stored_steps",
    }
    rewrites = ", ".join(REWRITES_OF[settings.layout])
    return (windows if checkpoint.replaced else {}) | {"rewrites": rewrites}


def _normalisation(checkpoint: Checkpoint) -> dict[str, Any]:
    if not checkpoint.do_normalize:
        return {"kind": "none", "where": "graph", "epsilon": 0.0}
    return {
        "kind": "zero_mean_unit_variance",
        "where": "graph",
        "epsilon": NORMALISATION_EPSILON,
    }
