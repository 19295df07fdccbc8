"""What runners of fixed lengths do alike, over a program that tells what it was given."""

from typing import Any

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import Bucket, Tap
from lpa_export.runtimes import Array, ArtifactError
from lpa_export.runtimes.bucketed import BucketedRunner
from tests.manifests import stated

BUCKETS = tuple(Bucket.of(frames, 160 * frames + 240, 16_000) for frames in (5, 10))
TAPS = (
    Tap(name="projection", kind="projection", tensor="projection"),
    Tap(name="logits", kind="head", tensor="logits"),
)


class _Telling(BucketedRunner):
    """Frames hold the valid samples and the sum of what was given; calls are kept."""

    def __init__(self) -> None:
        super().__init__(stated(buckets=BUCKETS, taps=TAPS))
        self.calls: list[tuple[int, tuple[int, ...], str]] = []
        self.broken: list[Array] | ArtifactError | None = None

    def call(self, bucket: Bucket, waveform: Array, lengths: Any, *, taps: bool) -> list[Array]:
        self.calls.append((bucket.frames, waveform.shape, str(waveform.dtype)))
        if isinstance(self.broken, ArtifactError):
            raise self.broken
        if self.broken is not None:
            return self.broken
        told = np.zeros((1, bucket.frames, 2), np.float32)
        told[0] = int(lengths[0]), waveform.sum()
        return [told, told] if taps else [told]


def test_a_row_goes_into_the_smallest_bucket_that_holds_it() -> None:
    runner = _Telling()
    exact, longer = BUCKETS[0].samples, BUCKETS[0].samples + 1
    padded = np.zeros((2, longer), np.float32)
    padded[0, :exact], padded[0, exact:], padded[1] = 1.0, 9.0, 1.0
    found = runner.run(padded, [exact, longer])
    assert runner.buckets == (5, 10)
    assert runner.calls == [
        (5, (1, exact), "float32"),
        (10, (1, BUCKETS[1].samples), "float32"),
    ]
    # Valid frames alone, of a row that is its own samples and zeros behind them.
    for values, samples in zip(found, (exact, longer), strict=True):
        np.testing.assert_array_equal(values, [[samples, samples]] * 5)


def test_what_is_padded_can_be_garbage() -> None:
    runner = _Telling()
    found = runner.run_in(np.zeros(720, np.float32), 10, garbage=2.0)
    assert runner.calls == [(10, (1, BUCKETS[1].samples), "float32")]
    np.testing.assert_array_equal(found, [[720, 2 * (BUCKETS[1].samples - 720)]] * 3)


def test_taps_are_named_and_cut() -> None:
    found = _Telling().taps(np.ones(720, np.float32))
    assert {name: values.shape for name, values in found.items()} == {
        "projection": (3, 2),
        "logits": (3, 2),
    }


@pytest.mark.parametrize(
    ("samples", "said"), [(399, "399 samples"), (BUCKETS[1].samples + 1, "takes 0.1 s at most")]
)
def test_what_fits_no_bucket_is_refused(samples: int, said: str) -> None:
    runner = _Telling()
    with pytest.raises(LpaError, match=said):
        runner.run(np.zeros((1, samples), np.float32), [samples])
    assert not runner.calls


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (ArtifactError("no answer"), "the program broke while running: no answer"),
        ([], "gives no outputs"),
        ([np.zeros((5, 2), np.float32)], "gives no outputs"),
        ([np.zeros((1, 5, 2), np.float32)], "gives 1 taps, of 2"),
    ],
)
def test_a_program_that_gives_something_else_is_one_line(
    broken: list[Array] | ArtifactError, said: str
) -> None:
    runner = _Telling()
    runner.broken = broken
    with pytest.raises(ArtifactError, match=said):
        runner.taps(np.zeros(720, np.float32))
