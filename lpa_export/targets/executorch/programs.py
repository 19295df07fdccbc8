"""The methods of a program: one of any length, or one per bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import Bucket
from lpa_export.targets.batched import example_inputs
from lpa_export.targets.bucketed import BucketModel
from lpa_export.targets.describe import buckets_of
from lpa_export.targets.executorch.lower import trace
from lpa_export.targets.executorch.model import ExactModel, TappedModel
from lpa_export.targets.executorch.quantise import calibration_speech, counted, quantise

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from lpa_export.formats.manifest import Compression
    from lpa_export.formats.schemes import Scheme
    from lpa_export.hosts.parts import Parts
    from lpa_export.targets.executorch.settings import ExecutorchSettings

__all__ = ["FORWARD", "TAPS", "Methods", "any_length", "buckets"]

FORWARD, TAPS = "forward", "taps"

EXAMPLE_SECONDS = 10
"""Length that programs of any length are traced at, and that multiplications are counted for."""


@dataclass(frozen=True)
class Methods:
    """Traced methods by name, and what they take.

    `example_seconds`: the length that a program of any length was traced at.
    """

    programs: Mapping[str, ExportedProgram]
    example_seconds: float
    min_samples: int
    max_samples: int
    buckets: tuple[Bucket, ...] | None
    compression: Compression | None = None

    @property
    def main(self) -> str:
        """The method that multiplications are counted for: the largest."""
        return self.buckets[-1].program if self.buckets else FORWARD


def any_length(parts: Parts, settings: ExecutorchSettings, scheme: Scheme) -> Methods:
    """`forward` of one utterance of exact length; in fp32 `taps` beside it, weights shared.

    The longest bucket is the longest utterance: XNNPACK takes the memory for it, and writes to all
    of it, however short an utterance is.
    """
    arithmetic = parts.front_end
    # Two frames: XNNPACK in executorch 1.4.1 keeps what it broadcasts at its first run, and gives
    # wrong numbers for all later lengths when that had one frame.
    shortest = arithmetic.receptive_field + arithmetic.hop
    longest = round(settings.buckets[-1] * SAMPLE_RATE)
    if longest <= shortest:
        raise LpaError(
            f"longest bucket of {settings.buckets[-1]:g} s: utterances have {shortest} samples at "
            "least; take a longer one"
        )
    lengths = range(shortest, longest + 1)
    samples = min(EXAMPLE_SECONDS * SAMPLE_RATE, longest)
    example: tuple[Tensor] = (example_inputs(samples)[0][:1],)
    model = ExactModel(parts)
    programs, compression = {FORWARD: trace(model, example, lengths)}, None
    if scheme.name == "fp32":
        programs[TAPS] = trace(TappedModel(model), example, lengths)
    else:
        quantised = quantise(programs[FORWARD], calibration_speech())
        compression = counted(model, quantised)
        programs[FORWARD] = trace(quantised, example, lengths)
    return Methods(programs, samples / SAMPLE_RATE, shortest, longest, None, compression)


def buckets(parts: Parts, settings: ExecutorchSettings) -> Methods:
    """A method per bucket, padding masked. Raises LpaError for impossible buckets."""
    arithmetic = parts.front_end
    found, programs = buckets_of(settings.buckets, arithmetic), {}
    for bucket in found:
        length = torch.tensor([bucket.samples], dtype=torch.int32)
        example = (torch.zeros(1, bucket.samples), length)
        program = trace(BucketModel(parts, bucket.frames), example, None)
        _clamp_plainly(program)
        programs[bucket.program] = program
    last = found[-1]
    return Methods(programs, last.seconds, arithmetic.receptive_field, last.samples, found)


def _clamp_plainly(program: ExportedProgram) -> None:
    """Write lower bounds as `clamp`: coremltools stumbles over `clamp_min` with a whole number."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.clamp_min.default:
            node.target = torch.ops.aten.clamp.default
