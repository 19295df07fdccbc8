"""Frame arithmetic, against transformers' own and against forward passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from lpa_export.environment import quiet
from lpa_export.errors import LpaError
from lpa_export.hosts import parts_of
from lpa_export.hosts.frames import FrameArithmetic, check_frame_arithmetic, frames_after
from lpa_export.runtimes.onnx import open_session
from lpa_export.targets.batched import BatchedModel
from lpa_export.targets.onnx.pieces import OPSET

BASE = FrameArithmetic.of(Wav2Vec2Config())
BASE_FIRST = FrameArithmetic((10,), (5,))


def test_wav2vec2_base_has_its_published_hop_and_receptive_field() -> None:
    assert (BASE.hop, BASE.receptive_field) == (320, 400)


@given(samples=st.integers(400, 3_000_000))
def test_frames_are_those_of_transformers(samples: int) -> None:
    with torch.device("meta"):
        host = Wav2Vec2ForCTC.__new__(Wav2Vec2ForCTC)
    host.config = Wav2Vec2Config()
    assert BASE.frames(samples) == int(
        Wav2Vec2ForCTC._get_feat_extract_output_lengths(host, samples)
    )


@given(samples=st.integers(0, 3_000_000), kernel=st.integers(1, 400), stride=st.integers(1, 160))
def test_lengths_as_tensors_follow_the_same_formula(samples: int, kernel: int, stride: int) -> None:
    expected = (samples - kernel) // stride + 1 if samples >= kernel else 0
    assert int(frames_after(torch.tensor([samples]), kernel, stride)) == expected


def test_lengths_stay_whole_numbers_in_an_exported_graph() -> None:
    """Float32 would be wrong by one from 17 minutes on."""

    class First(torch.nn.Module):
        def forward(self, lengths: torch.Tensor) -> torch.Tensor:
            return frames_after(lengths, 10, 5)

    with quiet():
        program = torch.onnx.export(
            First(), (torch.tensor([1, 2]),), dynamo=True, opset_version=OPSET, verbose=False
        )
    assert program is not None
    session = open_session(program.model_proto.SerializeToString())
    lengths = np.array([57_599_994, 0], np.int64)
    (found,) = session.run(None, {session.get_inputs()[0].name: lengths})
    assert found.tolist() == [BASE_FIRST.frames(57_599_994), 0]


def test_audio_below_the_receptive_field_gives_no_frame() -> None:
    assert (BASE.frames(399), BASE.frames(400), BASE.frames(0)) == (0, 1, 0)


def test_a_model_with_other_arithmetic_is_refused(make_checkpoint: Callable[..., Any]) -> None:
    checkpoint = make_checkpoint("pre")
    model = BatchedModel(parts_of(checkpoint))
    right = FrameArithmetic.of(checkpoint.model.config)
    check_frame_arithmetic(model, right)
    with pytest.raises(LpaError, match="frame arithmetic"):
        check_frame_arithmetic(model, replace(right, kernels=(400, 5)))
