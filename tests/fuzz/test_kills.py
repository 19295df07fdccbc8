"""What judges the remains of a killed command can tell a whole bundle from any other."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lpa_export.formats.bundle import new_folder, write_manifest
from tests.fuzz.kills import _digest, _killed_after, _left
from tests.manifests import stated

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def bundle(folder: Path, weights: bytes = b"weights") -> Path:
    with new_folder(folder, overwrite=True) as new:
        (new / "model.onnx").write_bytes(weights)
        write_manifest(new, stated())
    return folder


def test_a_whole_bundle_or_none_is_well(tmp_path: Path) -> None:
    out = tmp_path / "onnx"
    assert _left(out, None, False, "") == ("whole", "no bundle")
    digest = _digest(bundle(out))
    assert _left(out, None, True, digest) == ("whole", "a bundle")


def test_half_of_a_bundle_a_lost_or_another_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "onnx"
    assert _left(out, None, True, "") == ("wrong", "the bundle is gone")
    digest = _digest(bundle(out))
    assert _left(out, 2, True, digest) == ("wrong", "ended by itself with 2")
    bundle(out, b"others")
    assert _left(out, None, True, digest) == ("wrong", "another bundle: []")
    bundle(out)
    (out / "model.onnx").write_bytes(b"weigh")
    assert _left(out, None, True, digest)[0] == "wrong"
    bundle(out)
    (out / "more").touch()
    assert _left(out, None, True, digest)[0] == "wrong"
    (out / "manifest.json").unlink()
    assert _left(out, None, True, digest)[0] == "wrong"


def _slow(_flags: Sequence[str]) -> int:
    time.sleep(60)
    return 0


def test_a_command_is_killed_at_its_moment_or_ends_before() -> None:
    started = time.monotonic()
    assert _killed_after(0.2, _slow, ()) is None
    assert 0.2 <= time.monotonic() - started < 30
    assert _killed_after(30, lambda _flags: 3, ()) == 3
