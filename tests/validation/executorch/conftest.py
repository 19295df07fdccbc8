"""Small programs whose contents are known by hand, and bundles around them.

Everything is lowered once per session: that is what takes the time.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from lpa_export.formats.bundle import Bundle, open_bundle, write_manifest
from lpa_export.formats.manifest import Bucket, Frames, Manifest, Port, Tap, VocabularyEntry
from lpa_export.formats.schemes import SCHEMES
from lpa_export.formats.text import Vocabulary
from lpa_export.runtimes import Array
from lpa_export.runtimes.executorch.process import Worker
from tests.manifests import stated

KERNEL, HOP, WIDTH, VOCABULARY = 400, 160, 6, 5
MOST = 16_000
BUCKETS = (4_240, 8_240)
TOKENS = ["<pad>", "|", "A", "B", "C"]
METADATA = {
    "vocabulary": json.dumps(TOKENS),
    "blank_id": 0,
    "word_delimiter": "|",
    "sample_rate": 16_000,
    "hop": HOP,
    "receptive_field": KERNEL,
}
TAPS = (
    Tap(name="features", kind="frontend", tensor="stage.features"),
    Tap(name="logits", kind="head", tensor="logits"),
)


class Recogniser(nn.Module):
    """Waveform (1, samples) to logits (1, frames, vocabulary): convolution, running sum, linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.filters = nn.Conv2d(1, WIDTH, (1, KERNEL), (1, HOP))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def features(self, waveform: Tensor) -> Tensor:
        bands = self.filters(waveform.view(1, 1, 1, -1))
        return bands.permute(0, 2, 3, 1).view(1, -1, WIDTH)

    def forward(self, waveform: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cumsum(self.features(waveform), 1))
        return logits


class Staged(nn.Module):
    """The same, with the features as an output before the logits."""

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.features(waveform)
        return features, self.model.head(torch.cumsum(features, 1))


class Bucketed(nn.Module):
    """The same for padded waveforms with the number of valid samples, which hides the padding."""

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(waveform.shape[1], dtype=torch.int32)
        logits: Tensor = self.model(waveform * (places < lengths))
        return logits


class Summed(nn.Module):
    """One linear layer, which XNNPACK takes, and one running sum, which it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 5)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cumsum(self.linear(values), 1)


@dataclass(frozen=True)
class Programs:
    """The files, and the torch models they were made from."""

    dynamic: bytes
    bundled: bytes
    deaf: bytes
    bucketed: bytes
    coreml: bytes
    coreml_shared: bytes
    summed: bytes
    model: Recogniser

    def logits(self, waveform: Array) -> Array:
        """(frames, vocabulary) of torch, in float64."""
        double = Recogniser().double()
        with torch.no_grad():
            found = double(torch.from_numpy(waveform).double()[None])[0]
        return np.asarray(found, np.float32)


@contextmanager
def _quietly() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def _dynamic(model: nn.Module) -> Any:
    from torch.fx.experimental import _config

    # Else a length of one frame would count as a case of its own.
    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        shapes = ({1: Dim("samples", min=KERNEL, max=MOST)},)
        return export(model, (torch.zeros(1, 4_000),), dynamic_shapes=shapes)


def _lowered(methods: dict[str, Any], partitioner: Any) -> Any:
    from executorch.exir import to_edge_transform_and_lower

    return to_edge_transform_and_lower(
        methods, partitioner=[partitioner], constant_methods=METADATA
    ).to_executorch()


def _bundled(lowered: Any, waveforms: list[Tensor], expected: list[Tensor]) -> bytes:
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import (
        serialize_from_bundled_program_to_flatbuffer,
    )

    cases = [
        MethodTestCase(inputs=[waveform], expected_outputs=[logits])
        for waveform, logits in zip(waveforms, expected, strict=True)
    ]
    program = BundledProgram(lowered, [MethodTestSuite("forward", cases)])
    return bytes(serialize_from_bundled_program_to_flatbuffer(program))


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Every program, lowered with the installed executorch."""
    pytest.importorskip("executorch")
    with _quietly():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        model = Recogniser().eval()
        dynamic = _lowered(
            {"forward": _dynamic(model), "stages": _dynamic(Staged(model))}, XnnpackPartitioner()
        )
        buckets = {
            f"bucket_{samples}": export(
                Bucketed(model), (torch.zeros(1, samples), torch.ones(1, dtype=torch.int32))
            )
            for samples in BUCKETS
        }
        waveforms = [torch.from_numpy(noise(samples))[None] for samples in (4_000, 6_000)]
        with torch.no_grad():
            expected = [model(waveform) for waveform in waveforms]
        return Programs(
            dynamic=bytes(dynamic.buffer),
            bundled=_bundled(dynamic, waveforms, expected),
            deaf=_bundled(dynamic, waveforms, [expected[0], expected[1] + 1.0]),
            bucketed=bytes(_lowered(buckets, XnnpackPartitioner()).buffer),
            coreml=_coreml(model, BUCKETS[:1]),
            coreml_shared=_coreml(model, BUCKETS),
            summed=bytes(
                _lowered(
                    {"forward": export(Summed(), (torch.zeros(1, 6, 8),))}, XnnpackPartitioner()
                ).buffer
            ),
            model=model,
        )


def _coreml(model: Recogniser, buckets: tuple[int, ...]) -> bytes:
    """One bucket lies in its delegate; several share a package beside them."""
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16,
    )
    methods = {
        f"bucket_{samples}": export(
            Bucketed(model), (torch.zeros(1, samples), torch.ones(1, dtype=torch.int32))
        )
        for samples in buckets
    }
    return bytes(_lowered(methods, CoreMLPartitioner(compile_specs=specs)).buffer)


@pytest.fixture(scope="session")
def worker() -> Worker:
    """A process with the runtime in it, for tests that leave it sound."""
    pytest.importorskip("executorch")
    return Worker()


def noise(samples: int, seed: int = 0) -> Any:
    """A waveform (samples,)."""
    return np.random.default_rng(seed).normal(0.0, 0.3, samples).astype(np.float32)


def runtime(**changes: Any) -> dict[str, Any]:
    """The manifest's section for the dynamic program, with changes."""
    return {
        "backend": "xnnpack",
        "program": "model.pte",
        "bundled": None,
        "delegation": "delegation.json",
        "delegates": {"XnnpackBackend": 1},
        "lowering": "prefix_sum",
        "methods": ["forward"],
        "taps_method": "stages",
        "min_samples": KERNEL,
        "max_samples": MOST,
    } | changes


def in_buckets(*samples: int, **changes: Any) -> dict[str, Any]:
    """The section for a program with one method per length, which its name says."""
    methods = [f"bucket_{n}" for n in samples]
    return runtime(methods=methods, taps_method=None, max_samples=samples[-1], **changes)


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """``make_bundle(program, runtime, delegation=..., files=...)``: an opened bundle."""

    def make(
        program: bytes,
        section: dict[str, Any] | None = None,
        *,
        delegation: Any = None,
        scheme: str = "fp32",
        files: dict[str, bytes] | None = None,
        name: str = "bundle",
    ) -> Bundle:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.pte").write_bytes(program)
        Vocabulary(tuple(TOKENS)).write(folder / "tokens.json")
        (folder / "delegation.json").write_text(json.dumps(delegation))
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        write_manifest(folder, _manifest(runtime() if section is None else section, scheme))
        return open_bundle(folder)

    return make


def _manifest(section: dict[str, Any], scheme: str) -> Manifest:
    waveform = Port(name="waveform", dtype="float32", shape=(1, "samples"))
    lengths = Port(name="lengths", dtype="int32", shape=(1,))
    buckets = [int(m.removeprefix("bucket_")) for m in section["methods"] if "bucket" in m]
    return stated(
        scheme,
        artifacts=("model.pte",),
        target="executorch",
        model="small",
        frames=Frames(kernels=(KERNEL,), strides=(HOP,), hop=HOP, receptive_field=KERNEL),
        gates=SCHEMES["fp32"].gates,
        inputs=(waveform, lengths) if buckets else (waveform,),
        buckets=tuple(
            Bucket(frames=(n - KERNEL) // HOP + 1, samples=n, seconds=n / 16_000) for n in buckets
        )
        or None,
        runtime=section,
        taps=TAPS,
        vocabulary=VocabularyEntry(
            size=len(TOKENS), blank_id=0, word_delimiter="|", file="tokens.json"
        ),
    )
