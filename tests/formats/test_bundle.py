"""Bundles: written whole or not at all, opened with suspicion, damage found."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import (
    UNFINISHED_REPORT,
    damaged_files,
    new_folder,
    open_bundle,
    replace_text,
    write_manifest,
)
from lpa_export.formats.manifest import FileEntry
from tests.manifests import edit_json, stated


def fill(folder: Path, content: bytes = b"weights") -> None:
    (folder / "golden").mkdir()
    (folder / "model.onnx").write_bytes(content)
    (folder / "golden" / "a.npy").write_bytes(b"tensor")
    write_manifest(folder, stated())


def export(final: Path, *, overwrite: bool = False, content: bytes = b"weights") -> Path:
    with new_folder(final, overwrite=overwrite) as folder:
        fill(folder, content)
    return final


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_folder_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    final = tmp_path / "build" / "tiny" / "onnx"
    with new_folder(final, overwrite=False) as folder:
        assert folder.parent == final.parent and folder.name.startswith(".")
        fill(folder)
        assert not final.exists()
    assert [path.name for path in final.parent.iterdir()] == ["onnx"]
    assert damaged_files(open_bundle(final)) == []


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), new_folder(tmp_path / "a" / "b", overwrite=False) as folder:
        fill(folder)
        raise failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_overwrite_keeps_the_older_bundle(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    final = export(tmp_path / "onnx")
    before = everything(tmp_path)
    with pytest.raises(failure), new_folder(final, overwrite=True) as folder:
        fill(folder, b"other")
        raise failure
    assert everything(tmp_path) == before


def test_a_failed_rename_brings_the_older_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = export(tmp_path / "onnx")
    before = everything(tmp_path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(LpaError, match="No space left on device"):
        export(final, overwrite=True, content=b"other")
    assert everything(tmp_path) == before


def test_what_fails_while_a_bundle_is_written_names_its_folder(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "onnx", overwrite=False)
    with pytest.raises(OSError, match="File too large") as caught, folder:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert caught.value.filename == str(tmp_path / "onnx")


def test_overwrite_replaces_a_bundle_whole(tmp_path: Path) -> None:
    final = export(tmp_path / "onnx")
    (final / "report.json").write_text("{}")
    export(final, overwrite=True, content=b"new weights")
    assert (final / "model.onnx").read_bytes() == b"new weights"
    assert not (final / "report.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_an_existing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    final = export(tmp_path / "onnx")
    before = everything(tmp_path)
    with pytest.raises(LpaError, match="already exists; pass --overwrite"):
        export(final)
    assert everything(tmp_path) == before


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(LpaError, match=r"holds no manifest\.json"):
        export(tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(LpaError, match="a file is in the way"):
        export(tmp_path / "file", overwrite=True)
    assert set(everything(tmp_path)) == {"thesis/chapter1.tex", "file"}


def test_another_file_may_prove_that_an_older_folder_is_ours(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_folder(tmp_path / "model", overwrite=True, proof="config.json") as folder:
            (folder / "config.json").write_text(content)
    assert (tmp_path / "model" / "config.json").read_text() == "new"
    with pytest.raises(LpaError, match=r"holds no manifest\.json"):
        export(tmp_path / "model", overwrite=True)


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    final = tmp_path / "onnx"
    with (
        pytest.raises(LpaError, match="already exists"),
        new_folder(final, overwrite=False) as folder,
    ):
        fill(folder)
        final.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LpaError, match="cannot be written") as caught:
        export(tmp_path / "file" / "onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(LpaError, match="cannot be written"):
        export(tmp_path / "locked" / "onnx")


def test_the_manifest_lists_every_file_with_size_and_hash(tmp_path: Path) -> None:
    manifest = open_bundle(export(tmp_path / "onnx")).manifest
    assert manifest.files == {
        "golden/a.npy": FileEntry(bytes=6, sha256=hashlib.sha256(b"tensor").hexdigest()),
        "model.onnx": FileEntry(bytes=7, sha256=hashlib.sha256(b"weights").hexdigest()),
    }


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = export(tmp_path / "a"), export(tmp_path / "b")
    assert everything(first) == everything(second)
    text = (first / "manifest.json").read_text()
    assert text.endswith("}\n") and list(json.loads(text)) == sorted(json.loads(text))


def test_damage_is_named_file_by_file(tmp_path: Path) -> None:
    bundle = open_bundle(export(tmp_path / "onnx"))
    (bundle.path / "report.json").write_text("{}")
    assert damaged_files(bundle) == []
    (bundle.path / "model.onnx").write_bytes(b"weighty")
    (bundle.path / "golden" / "a.npy").unlink()
    (bundle.path / "extra.bin").write_bytes(b"x")
    altered, extra, missing = sorted(damaged_files(bundle), key=lambda line: line.split(": ")[1])
    assert altered.startswith("model.onnx: altered, SHA-256 ")
    assert missing == "extra.bin: not listed in the manifest"
    assert extra == "golden/a.npy: missing"
    (bundle.path / "model.onnx").write_bytes(b"wei")
    assert "model.onnx: truncated, 7 bytes expected, 3 found" in damaged_files(bundle)


def test_a_link_out_of_the_bundle_is_damage(tmp_path: Path) -> None:
    bundle = open_bundle(export(tmp_path / "onnx"))
    (tmp_path / "outside").write_bytes(b"weights")
    (bundle.path / "model.onnx").unlink()
    (bundle.path / "model.onnx").symlink_to(tmp_path / "outside")
    assert damaged_files(bundle) == ["model.onnx: a link out of the bundle"]
    with pytest.raises(LpaError, match="a link out of the bundle"):
        bundle.file("model.onnx")


OUTSIDE = ("../secret", "/etc/passwd", "golden/../../x", "", ".", "C:/x", "a\\..\\b", "a\0b")
IMPOSSIBLE = ("a" * 256, "ä" * 128, "a/" * 600 + "b", "a\ud800")


@pytest.mark.parametrize("name", [*OUTSIDE, *IMPOSSIBLE])
def test_names_of_no_file_inside_the_bundle_are_refused(tmp_path: Path, name: str) -> None:
    bundle = open_bundle(export(tmp_path / "onnx"))
    with pytest.raises(LpaError, match="inside the bundle"):
        bundle.file(name)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["model.onnx"]
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LpaError, match="inside the bundle"):
        open_bundle(bundle.path)


def test_a_file_of_the_bundle_is_found_and_a_missing_one_named(tmp_path: Path) -> None:
    bundle = open_bundle(export(tmp_path / "onnx"))
    assert bundle.file("golden/a.npy").read_bytes() == b"tensor"
    with pytest.raises(LpaError, match="missing from the bundle"):
        bundle.file("golden/b.npy")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "newer": ({"schema_version": 3}, "schema version 3 is newer than 2; update lpa-export"),
    "older": ({"schema_version": 1}, "schema version 1 is older than 2; export it again"),
    "no_version": ({"schema_version": None}, "no 'schema_version'"),
    "version_text": ({"schema_version": "1"}, "no 'schema_version'"),
    "no_target": ({"target": None}, r"Expected `str`, got `null` - at `\$.target`"),
    "rate_text": ({"sample_rate": "16000"}, r"Expected `int`, got `str` - at `\$.sample_rate`"),
    "rate_bool": ({"sample_rate": True}, r"Expected `int`, got `bool` - at `\$.sample_rate`"),
    "unknown": ({"smell": 1}, "unknown field `smell`"),
    "files_list": ({"files": []}, r"Expected `object`, got `array` - at `\$.files`"),
    "no_hash": ({"files": {"model.onnx": {"bytes": 7}}}, "missing required field `sha256`"),
    "bad_hash": ({"files": {"a": {"bytes": 7, "sha256": "x"}}}, "matching regex"),
    "entry_text": ({"files": {"model.onnx": "x"}}, "Expected `object`, got `str`"),
    "unlisted_artifact": ({"artifacts": ["other"]}, "artifact 'other' is not among 'files'"),
    "no_artifact": ({"artifacts": []}, "length >= 1"),
    "hop": (
        {"frames": {"kernels": [400], "strides": [160], "hop": 100, "receptive_field": 400}},
        "hop must be the product of the strides, 160",
    ),
    "receptive_field": (
        {"frames": {"kernels": [400], "strides": [160], "hop": 160, "receptive_field": 401}},
        "receptive_field must be the fewest samples that give a frame",
    ),
    "selfcheck": ({"selfcheck": {"status": "not_run"}}, "needs a reason"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    changes, problem = CHANGES[name]
    final = export(tmp_path / "onnx")
    edit_json(final, **changes)
    with pytest.raises(LpaError, match=problem) as caught:
        open_bundle(final)
    assert "\n" not in str(caught.value) and "manifest.json" in str(caught.value)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    place = export(tmp_path / "onnx") / "manifest.json"
    place.write_text(place.read_text().replace('"epsilon": 0.0', '"epsilon": 0.0, "epsilon": 1'))
    with pytest.raises(LpaError, match="key 'epsilon' is there twice"):
        open_bundle(place.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    final = export(tmp_path / "onnx")
    (final / "manifest.json").write_bytes(content)
    with pytest.raises(LpaError, match="export the bundle again"):
        open_bundle(final)


def test_no_folder_and_no_manifest_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such bundle folder"):
        open_bundle(tmp_path / "missing")
    with pytest.raises(LpaError, match="not a bundle"):
        open_bundle(tmp_path)


# What a process that was killed outright leaves, and a disk without room.


KILLED = """
import os, signal, sys
from pathlib import Path
from lpa_export.formats.bundle import new_folder
with new_folder(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "manifest.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(final: Path) -> None:
    """A process that dies while it writes `final`, without a chance to clean up."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(final)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_next_export_clears_what_killed_ones_left(tmp_path: Path) -> None:
    for _ in range(2):
        killed(tmp_path / "bundle")
    assert len(list(tmp_path.iterdir())) >= 1
    (alive := tmp_path / f".bundle.{os.getppid()}.new").mkdir()
    (other := tmp_path / ".bundle.notes.new").mkdir()
    with new_folder(tmp_path / "bundle", overwrite=False) as folder:
        (folder / "manifest.json").write_text("whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "bundle", alive, other}


def test_an_older_bundle_that_a_killed_process_had_set_aside_comes_back(tmp_path: Path) -> None:
    """Killed between the two renames: the older bundle aside, nothing in its place."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    aside = tmp_path / f".bundle.{gone.pid}.old"
    aside.mkdir()
    (aside / "manifest.json").write_text("older")
    with (
        pytest.raises(LpaError, match="already exists"),
        new_folder(tmp_path / "bundle", overwrite=False),
    ):
        pytest.fail("there is a bundle")
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


FULL = """
import sys
from pathlib import Path
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder

def by_hand(path):
    path.write_bytes(bytes(4 << 20))

def by_a_library(path):
    try:
        by_hand(path)
    except OSError:
        raise RuntimeError("write failed in model.cc:17") from None

root = Path(sys.argv[1])
try:
    with new_folder(root / "deep" / "bundle", overwrite=False) as folder:
        locals()[sys.argv[2]](folder / "weights.bin")
except LpaError as error:
    print(error)
print(sorted(str(path) for path in root.rglob("*")))
"""


@pytest.mark.parametrize("writer", ["by_hand", "by_a_library"])
def test_a_full_disk_is_called_that_and_nothing_is_left(tmp_path: Path, writer: str) -> None:
    """A disk of 1 MiB, in memory, that this test alone sees."""
    disk = f"mount -t tmpfs -o size=1m none {tmp_path}"
    inside = ["unshare", "-rm", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*inside, disk], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    command = f"{disk} && {sys.executable} -c '{FULL}' {tmp_path} {writer}"
    done = subprocess.run([*inside, command], capture_output=True, text=True, check=True)
    error, left = done.stdout.splitlines()
    assert error.startswith(f"{tmp_path}/deep/bundle: the disk is full; nothing was written")
    assert left == "[]"


def test_a_report_that_a_killed_validation_left_half_written_is_no_damage(tmp_path: Path) -> None:
    final = export(tmp_path / "onnx")
    (final / UNFINISHED_REPORT).write_text("{")
    assert damaged_files(open_bundle(final)) == []


def test_another_text_is_in_the_manifest_and_nothing_else_is_made_right(tmp_path: Path) -> None:
    folder = export(tmp_path / "bundle")
    (folder / "golden" / "a.npy").write_bytes(b"tensoR")
    (folder / "speech.wav").write_bytes(b"RIFF")
    before = damaged_files(open_bundle(folder))
    assert len(before) == 2
    replace_text(open_bundle(folder), "model.onnx", "other weights é")
    assert (folder / "model.onnx").read_text("utf-8") == "other weights é"
    assert damaged_files(open_bundle(folder)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_where_another_text_cannot_be_written_all_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(tmp_path / "bundle")
    before, write = everything(tmp_path), Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "manifest.json":
            raise OSError(errno.ENOSPC, "no room")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no room"):
        replace_text(open_bundle(folder), "model.onnx", "other weights")
    assert everything(tmp_path) == before
