"""What a bundle says of its packages: the manifest's entries, and how to use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lpa_export.formats.manifest import Bucket, Port
from lpa_export.runtimes.coreml.runner import (
    CoremlRuntime,
    Place,
    ShareEntry,
    ToothEntry,
    WindowsEntry,
)
from lpa_export.targets import Written
from lpa_export.targets.coreml.programs import edges_tensor, tap_tensor
from lpa_export.targets.describe import families, normalisation, taps, tools

if TYPE_CHECKING:
    from torch import Tensor

    from lpa_export.formats.checkpoint import Checkpoint
    from lpa_export.formats.schemes import Scheme
    from lpa_export.hosts.parts import Parts
    from lpa_export.layers import LPA
    from lpa_export.targets.coreml.settings import CoremlSettings

__all__ = [
    "FRONT_END",
    "MAIN",
    "TAPS",
    "describe",
    "package_of",
    "runtime",
    "taps_place",
    "windows",
]

FRONT_END = "frontend.mlpackage"
MAIN = "main"
TAPS = "taps"
_ENCODERS = {"split": "encoder", "whole": "model"}
_IN_FRONT_END = frozenset({"features", "projection"})


def package_of(bucket: Bucket, settings: CoremlSettings) -> tuple[str, str]:
    """Package and function of a bucket: iOS 17 knows no packages of several functions."""
    name = _ENCODERS[settings.layout]
    if settings.deployment_target == "iOS17":
        return f"{name}_{bucket.frames}.mlpackage", MAIN
    return f"{name}.mlpackage", bucket.program


def taps_place(settings: CoremlSettings) -> tuple[str, str] | None:
    """Package and function of the program whose taps are outputs; None where none is wanted."""
    if settings.taps == "hidden":
        return None
    if settings.deployment_target == "iOS17":
        return f"{TAPS}.mlpackage", MAIN
    return f"{_ENCODERS[settings.layout]}.mlpackage", TAPS


def runtime(parts: Parts, buckets: Sequence[Bucket], settings: CoremlSettings) -> CoremlRuntime:
    """Where a runner finds the programs, encoders ascending."""
    split = settings.layout == "split"
    tapped = taps_place(settings)
    places = [package_of(bucket, settings) for bucket in buckets]
    return CoremlRuntime(
        deployment_target=settings.deployment_target,
        layout=settings.layout,
        frontend=Place(package=FRONT_END, function=MAIN) if split else None,
        encoders=tuple(Place(package=package, function=name) for package, name in places),
        taps=Place(package=tapped[0], function=tapped[1]) if tapped else None,
        windows=windows(parts) if tapped else (),
    )


def windows(parts: Parts) -> tuple[WindowsEntry, ...]:
    """What an app must know to show which frames each LPA layer averages."""
    return tuple(
        _windows(index, layer.lpa)
        for index, layer in enumerate(parts.layers)
        if layer.lpa is not None
    )


def _windows(index: int, lpa: LPA) -> WindowsEntry:
    teeth, shares = lpa.fixed_windows()
    return WindowsEntry(
        layer=index,
        heads=lpa.config.num_heads,
        aperiodic=lpa.config.aperiodic,
        edges=edges_tensor(index) if lpa.config.aperiodic else None,
        teeth=tuple(
            ToothEntry(head=head, period=period, phase=phase, width=width)
            for head, (period, phase, width) in _by_head(teeth)
        ),
        shares=tuple(
            ShareEntry(head=head, lower=lower, upper=upper)
            for head, (lower, upper) in _by_head(shares)
        ),
    )


def _by_head(pulses: Iterable[Tensor] | None) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(head, its numbers) of each pulse of tensors (H, K)."""
    columns = [part.detach() for part in pulses or ()]
    for head, rows in enumerate(zip(*columns, strict=True)):
        for numbers in zip(*(row.tolist() for row in rows), strict=True):
            yield head, numbers


def describe(
    checkpoint: Checkpoint,
    parts: Parts,
    buckets: Sequence[Bucket],
    settings: CoremlSettings,
    scheme: Scheme,
) -> Written:
    """All that stands in the manifest, and how to use the packages."""
    places = runtime(parts, buckets, settings)
    packages = [place.package for place in places.encoders]
    if places.frontend:
        packages.insert(0, FRONT_END)
    if places.taps:
        packages.append(places.taps.package)
    width = parts.projection.out_features
    dtype = "float32" if scheme.compute == "fp32" else "float16"
    logits = (1, len(checkpoint.vocabulary), 1, "bucket frames")
    projected = Port(name="projected", dtype=dtype, shape=(1, width, 1, "frames"))
    return Written(
        artifacts=tuple(dict.fromkeys(packages)),
        lowering=families(parts, "local_dense_mask", "stored_masks", "stored_steps"),
        normalisation=normalisation(parts.do_normalize),
        inputs=_inputs(settings, dtype, width),
        outputs=(
            *((projected,) if places.frontend else ()),
            Port(name="logits", dtype=dtype, shape=logits),
        ),
        taps=taps(
            parts,
            lambda tap: tap_tensor(tap, settings.layout),
            lambda tap: _tap_place(tap, settings),
        ),
        buckets=tuple(buckets),
        tools=tools("torch", "transformers", "coremltools", "numpy"),
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
