"""The program with golden clips and expected logits inside, for a device to replay by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lpa_export.environment import quiet
from lpa_export.formats.golden import GoldenClip

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager

__all__ = ["bundle"]


def bundle(
    program: ExecutorchProgramManager,
    method: str,
    clips: Sequence[GoldenClip],
    expected: Mapping[str, np.ndarray],
) -> bytes:
    """A BundledProgram; `expected` holds the logits (frames, V) of each clip."""
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import (
        serialize_from_bundled_program_to_flatbuffer as serialize,
    )

    cases = [
        MethodTestCase(
            inputs=(torch.from_numpy(clip.waveform[None].copy()),),
            expected_outputs=(torch.from_numpy(expected[clip.id][None].copy()),),
        )
        for clip in clips
    ]
    with quiet():
        return bytes(serialize(BundledProgram(program, [MethodTestSuite(method, cases)])))
