"""What lies behind a clip or was heard before it, to artifacts that take exact lengths."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from lpa_validate.checks.padding import check_padding
from lpa_validate.run import open_validation

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.speech import load_utterances


class OneByOne:
    """A runner that says that it hears one waveform at a time; `kept`: the share of what they held
    that its buffers keep."""

    exact = True

    def __init__(self, runner: Any, kept: float) -> None:
        self._runner, self._kept, self._trace = runner, kept, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, padded: Any, lengths: Sequence[int]) -> list[Any]:
        assert padded.shape == (1, lengths[0])
        found = [logits + np.float32(self._trace) for logits in self._runner.run(padded, lengths)]
        self._trace = self._kept * float(np.abs(found[-1]).max())
        return found


def test_what_exact_lengths_heard_before_must_leave_nothing(
    make_bundle: Callable[..., Bundle], speech: Path, reference: Any
) -> None:
    opened = open_validation(make_bundle(), load_utterances(speech), reference, "")
    (sound,) = check_padding(replace(opened, runner=OneByOne(opened.runner, 0.0)))
    assert sound.status == "pass"
    names = [figure.name for figure in sound.figures if figure.name.startswith("PSNR")]
    assert names == ["PSNR, after a longer clip", "PSNR, after itself and 3 s of noise"]
    (found,) = check_padding(replace(opened, runner=OneByOne(opened.runner, 1e-3)))
    assert found.status == "fail"
    assert all(found.figure(name).failed for name in names)


class InBuckets:
    """A runner of two buckets; what lies behind a clip in the larger one is heard."""

    label, exact, min_samples, max_samples, buckets = "measured", False, 1, 200, (10, 20)

    def run(self, padded: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        return [self.run_in(row[:length], 10) for row, length in zip(padded, lengths, strict=True)]

    def run_in(self, waveform: np.ndarray, bucket: int, *, garbage: float = 0.0) -> np.ndarray:
        logits = np.zeros((len(waveform) // 10, 2), np.float32)
        logits[:, 0] = waveform[: 10 * len(logits) : 10]
        return logits + np.float32((bucket - 10) * (garbage + 1.0))


def test_a_bucket_is_not_compared_with_itself() -> None:
    validation: Any = SimpleNamespace(
        artifact=InBuckets(),
        label="measured",
        gates=SimpleNamespace(padding_psnr_db=60.0),
        first_waveforms=lambda count: [np.linspace(-1, 1, 100, dtype=np.float32)],
    )
    (found,) = check_padding(validation)
    assert [figure.name for figure in found.figures if figure.name.startswith("PSNR")] == [
        "PSNR, 10 frames, garbage",
        "PSNR, 20 frames, zeros",
        "PSNR, 20 frames, garbage",
    ]
    failed = [figure.name for figure in found.figures if figure.failed]
    assert failed == ["PSNR, 20 frames, zeros", "PSNR, 20 frames, garbage"]
