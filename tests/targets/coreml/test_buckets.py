"""Buckets: room for what was asked, and refusals in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.errors import LpaError
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets.coreml.buckets import make_buckets

BASE = FrameArithmetic((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


def test_wav2vec2s_usual_buckets() -> None:
    found = make_buckets((5.0, 10.0, 20.0, 30.0), BASE, exact=False, half=True)
    assert [bucket.frames for bucket in found] == [256, 512, 1024, 1536]
    assert (found[0].frames, found[0].samples) == (256, 82_319)
    assert (found[0].program, found[0].seconds) == ("frames_256", 5.14)


@settings(max_examples=60, deadline=None)
@given(seconds=st.floats(0.03, 40.0), exact=st.booleans())
def test_a_bucket_holds_the_seconds_asked_for(seconds: float, exact: bool) -> None:
    (bucket,) = make_buckets((seconds,), BASE, exact=exact, half=True)
    assert bucket.frames % 64 == 0
    assert bucket.samples >= int(seconds * 16_000)
    assert BASE.frames(bucket.samples) == bucket.frames
    limit = bucket.samples - 1 if exact else bucket.samples + 1
    assert BASE.frames(limit) == bucket.frames + (-1 if exact else 1)


@pytest.mark.parametrize(
    ("seconds", "half", "message"),
    [
        ((0.02,), True, "holds no frame"),
        ((1.0, 1.1), True, "both 64 frames"),
        ((42.0,), True, "counts frames exactly to 2048"),
        ((400.0,), False, "16384"),
    ],
)
def test_buckets_that_make_no_programs_are_refused_in_one_line(
    seconds: tuple[float, ...], half: bool, message: str
) -> None:
    with pytest.raises(LpaError, match=message) as caught:
        make_buckets(seconds, BASE, exact=False, half=half)
    assert "\n" not in str(caught.value)


def test_float32_counts_beyond_the_limit_of_float16() -> None:
    assert make_buckets((60.0,), BASE, exact=False, half=False)[0].frames == 3008
