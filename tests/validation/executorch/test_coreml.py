"""Core ML programs in a ``.pte``: taken out whole, and computed as torch does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpa_export.formats.bundle import Bundle
from lpa_export.measures.arrays import psnr_db
from lpa_export.runtimes import ArtifactError, pad
from lpa_export.runtimes.executorch.coreml_delegate import reference, unpack
from lpa_export.runtimes.executorch.program import named_data, read_program
from lpa_export.runtimes.executorch.runner import ExecutorchRunner

from .conftest import BUCKETS, METADATA, Programs, in_buckets, noise

Make = Callable[..., Bundle]


def flattened(files: dict[str, bytes], names: list[str] | None = None) -> bytes:
    """A folder as the Core ML backend is given it: files, then the tree of them backwards."""
    data = b"".join(files.values())
    nodes: list[dict[str, Any]] = []
    place = 0
    for name, content in files.items():
        region = {"offset": place, "size": len(content)}
        nodes.append({"dataRegion": region, "kind": 0, "name": name, "children": {}})
        place += len(content)
    children = dict(zip(names or list(files), range(len(files)), strict=True))
    root = {"dataRegion": {"offset": 0, "size": 0}, "kind": 1, "name": "r", "children": children}
    return data + json.dumps({"nodes": [*nodes, root]}).encode()[::-1]


def test_the_emulated_program_gives_the_logits_of_torch(
    programs: Programs, make_bundle: Make
) -> None:
    bundle = make_bundle(programs.coreml, in_buckets(BUCKETS[0], backend="coreml"))
    runner = ExecutorchRunner(bundle)
    assert runner.label == "emulated"
    assert runner.metadata == {name: str(value) for name, value in METADATA.items()}
    waveforms = [noise(4_240), noise(2_000, seed=1)]
    for found, waveform in zip(runner.run(*pad(waveforms)), waveforms, strict=True):
        expected = programs.logits(waveform)
        assert found.shape == expected.shape
        assert psnr_db(expected, found) > 50


def test_buckets_that_share_a_package_give_the_logits_of_torch(
    programs: Programs, make_bundle: Make
) -> None:
    runner = ExecutorchRunner(
        make_bundle(programs.coreml_shared, in_buckets(*BUCKETS, backend="coreml"))
    )
    for bucket in runner.buckets:
        found = runner.run_in(noise(2_000), bucket, garbage=7.0)
        assert psnr_db(programs.logits(noise(2_000)), found) > 50


@pytest.mark.parametrize(
    "data", [b"CMJR", b"CMJR[]", b'CMJR{"key": "x"}', b"CMJR" + b"[" * 10_000, b"CMJR\xff"]
)
def test_a_reference_that_leads_nowhere_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        reference(data)


def test_data_that_the_program_does_not_have_is_named(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(programs.coreml)
    with pytest.raises(ArtifactError, match=r"model\.pte does not open: .* no data named 'x'"):
        named_data(path, "x")


def test_a_program_with_kernels_outside_core_ml_is_not_emulated(
    programs: Programs, make_bundle: Make
) -> None:
    bundle = make_bundle(programs.bucketed, in_buckets(BUCKETS[0], backend="coreml"))
    with pytest.raises(ArtifactError, match="not one Core ML program"):
        ExecutorchRunner(bundle)


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    metadata = json.dumps({"inputNames": ["x", "y"], "outputNames": ["z"]}).encode()
    with pytest.raises(ArtifactError, match=r"no model\.mlpackage"):
        unpack(flattened({"metadata.json": metadata, "other": b"\0\1"}), tmp_path)
    assert (tmp_path / "metadata.json").read_bytes() == metadata
    assert (tmp_path / "other").read_bytes() == b"\0\1"


@pytest.mark.parametrize(
    "name", ["../out", "/out", "..", ".", "", "a/b", "a\\b", "C:x", "a\0b", "a" * 300, "a\ud800"]
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(flattened({"one": b"x"}, [name]), folder)
    assert list(tmp_path.rglob("*")) == [folder]


@pytest.mark.parametrize(
    "data", [b"", b"no tree", b"}" * 10_000, b"[" * 10_000, b'}"nodes":[]{'[::-1], bytes(5_000)]
)
def test_data_without_a_tree_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(data, tmp_path)


def test_a_tree_that_bites_its_tail_is_refused(tmp_path: Path) -> None:
    root = {"dataRegion": {"offset": 0, "size": 0}, "kind": 1, "name": "r", "children": {"a": 0}}
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(json.dumps({"nodes": [root]}).encode()[::-1], tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_delegate_cut_short_is_refused(programs: Programs, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(programs.coreml)
    data = read_program(path).method(f"bucket_{BUCKETS[0]}").delegates[0].data
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ArtifactError):
        unpack(data[: int(kept * len(data))], folder)
