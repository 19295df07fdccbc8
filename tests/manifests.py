"""A whole manifest for tests, any part of which can be another."""

import json
from pathlib import Path
from typing import Any

import msgspec

from lpa_export.formats.bundle import Bundle, open_bundle, write_manifest
from lpa_export.formats.manifest import (
    Frames,
    Manifest,
    Normalisation,
    Normaliser,
    Port,
    SelfCheck,
    Source,
    Tap,
    VocabularyEntry,
)
from lpa_export.formats.schemes import SCHEMES

CHECKPOINT = "ab" * 32


def stated(scheme: str = "fp32", **changes: Any) -> Manifest:
    """A small model's manifest in that scheme, its gates the scheme's; ``changes`` win."""
    whole = Manifest(
        target="onnx",
        model="tiny",
        scheme=SCHEMES[scheme].scheme,
        sample_rate=16_000,
        frames=Frames(kernels=(400,), strides=(160,), hop=160, receptive_field=400),
        normalisation=Normalisation(kind="none", where="graph"),
        vocabulary=VocabularyEntry(size=29, blank_id=0, word_delimiter="|", file="tokens.json"),
        normaliser=Normaliser(name="lpa-basic", version="1"),
        artifacts=("model.onnx",),
        lowering={},
        inputs=(Port(name="waveform", dtype="float32", shape=("batch", "samples")),),
        outputs=(Port(name="logits", dtype="float32", shape=("batch", "frames", 29)),),
        taps=(Tap(name="logits", kind="head", tensor="logits"),),
        buckets=None,
        runtime={},
        checkpoint=Source(
            name="tiny",
            sha256=CHECKPOINT,
            family="wav2vec2",
            layers=2,
            replaced_layers=(0,),
            shipped=False,
        ),
        gates=SCHEMES[scheme].gates,
        selfcheck=SelfCheck(status="not_run", reason="made for a test"),
        tools={},
    )
    return msgspec.structs.replace(whole, **changes)


def restated(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle, its manifest written anew with those fields changed and its hashes right."""
    write_manifest(bundle.path, msgspec.structs.replace(bundle.manifest, **changes))
    return open_bundle(bundle.path)


def edit_json(bundle: Path, **changes: Any) -> None:
    """Change top-level keys of ``manifest.json`` as text, whatever they become."""
    place = bundle / "manifest.json"
    place.write_text(json.dumps(json.loads(place.read_text("utf-8")) | changes), "utf-8")
