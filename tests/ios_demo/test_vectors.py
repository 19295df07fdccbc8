"""The stored values of the Swift tests are those that Python makes today."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.ios_demo.vectors import FOLDER, flac_files, make

_FLOAT = re.compile(r"-?\d+\.\d+(?:e[-+]\d+)?")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    make(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_no_vector_is_missing_and_none_is_left_over(made: Path) -> None:
    assert names(made) == names(FOLDER)


def test_texts_are_the_same(made: Path) -> None:
    for name in names(FOLDER):
        if name.endswith((".json", ".txt")) and name != "bundle/manifest.json":
            found, stored = ((folder / name).read_text("utf-8") for folder in (made, FOLDER))
            assert _FLOAT.sub("#", found) == _FLOAT.sub("#", stored), name
            # Another processor's last bits are others.
            numbers = [[*map(float, _FLOAT.findall(text))] for text in (found, stored)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-9), name


def test_the_bundle_sample_is_what_write_manifest_makes(made: Path) -> None:
    """But for the digests of arrays: another processor's last bits are others."""

    def manifest(folder: Path) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((folder / "bundle" / "manifest.json").read_text("utf-8"))
        for name, entry in read["files"].items():
            if name.endswith(".npy"):
                del entry["sha256"]
        return read

    assert manifest(made) == manifest(FOLDER)


def test_arrays_and_sounds_are_the_same(made: Path) -> None:
    for name in names(FOLDER):
        if name.endswith(".npy"):
            np.testing.assert_allclose(np.load(made / name), np.load(FOLDER / name), atol=1e-4)
        if name.startswith(("wav/", "resampled/")) and not name.endswith(".npy"):
            stored, rate = soundfile.read(FOLDER / name, always_2d=True)
            found, found_rate = soundfile.read(made / name, always_2d=True)
            assert rate == found_rate
            # One step of 16 bits: the resampler's last bit may fall to either side.
            np.testing.assert_allclose(found, stored, atol=2**-15)
        if name.startswith("flac/"):
            assert (made / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_libsndfile_reads_what_our_own_flac_writer_wrote() -> None:
    """The writer and the Swift decoder could share a mistake; libFLAC shares none with them."""
    read = 0
    for name, data, rate, depth, planes in flac_files():
        # What libsndfile hands out of FLAC; and without a length it does not read at all.
        if depth not in (8, 16, 24) or name == "length-not-known":
            continue
        samples, found_rate = soundfile.read(io.BytesIO(data), dtype="int32", always_2d=True)
        assert found_rate == rate, name
        np.testing.assert_array_equal(samples.T >> (32 - depth), np.asarray(planes), name)
        read += 1
    assert read > 60
