"""Manifests and LibriSpeech folders, sound and broken."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.speech import Utterance, data_hash, load_utterances


def write_manifest(folder: Path, *entries: Mapping[str, object] | str) -> Path:
    """A manifest with these lines, and the audio files of its objects."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    for name in "abc":
        (tmp_path / "audio" / f"{name}.flac").write_bytes(name.encode())
    return tmp_path


def entry(name: str, text: str = "YES", **more: object) -> dict[str, object]:
    return {"audio_filepath": f"audio/{name}.flac", "text": text, **more}


def test_a_manifest_line_becomes_an_utterance(folder: Path) -> None:
    path = write_manifest(folder, entry("a", "GO ON", speaker="fash", duration=1, license="x"))
    expected = Utterance("a", folder / "audio/a.flac", "GO ON", "fash", 1.0)
    assert load_utterances(path) == [expected]


def test_speaker_and_duration_may_be_missing_and_blank_lines_are_skipped(folder: Path) -> None:
    path = write_manifest(folder, entry("a"), "", entry("b", id="second"))
    first, second = load_utterances(path)
    assert (first.speaker, first.duration) == (None, None)
    assert second.id == "second"


def test_audio_paths_may_be_absolute(folder: Path, tmp_path: Path) -> None:
    line = {"audio_filepath": str(folder / "audio/b.flac"), "text": "NO"}
    assert load_utterances(write_manifest(tmp_path, line))[0].audio == folder / "audio/b.flac"


def test_equal_file_names_in_different_folders_get_different_ids(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/a.flac").write_bytes(b"x")
    path = write_manifest(folder, entry("a"), {"audio_filepath": "other/a.flac", "text": "NO"})
    assert [utterance.id for utterance in load_utterances(path)] == ["a", "a-2"]


def test_the_limit_keeps_the_first_and_reads_no_further(folder: Path) -> None:
    path = write_manifest(folder, entry("a"), entry("b"), "not json")
    assert [utterance.id for utterance in load_utterances(path, limit=2)] == ["a", "b"]
    with pytest.raises(LpaError, match="at least 1, found 0"):
        load_utterances(path, limit=0)


BAD_LINES = {
    "no_json": ("not json", "expected a JSON object per line"),
    "nested": ("[" * 100_000, "expected a JSON object per line"),
    "list": ("[1]", "expected a JSON object, found list"),
    "no_audio_key": ('{"text": "YES"}', "no 'audio_filepath'"),
    "no_text": ('{"audio_filepath": "audio/b.flac"}', "no 'text'"),
    "text_no_string": (json.dumps(entry("b", text=3)), "'text' must be a string"),  # type: ignore[arg-type]
    "empty_path": ('{"audio_filepath": "", "text": "A"}', "'audio_filepath' must be a path"),
    "nul_in_path": ('{"audio_filepath": "a\\u0000", "text": "A"}', "must be a path"),
    "missing_audio": (json.dumps(entry("missing")), "no audio file .*missing.flac"),
    "longer_than_any_name": (json.dumps(entry("ä" * 126)), "no audio file"),
    "folder_as_audio": ('{"audio_filepath": "audio", "text": "A"}', "no audio file"),
    "repeated_id": (json.dumps(entry("b", id="a")), "id 'a' is there twice"),
    "id_leads_out": (json.dumps(entry("b", id="../../x")), "usable as a file name"),
    "id_is_hidden": (json.dumps(entry("b", id="..")), "usable as a file name"),
    "duration_text": (json.dumps(entry("b", duration="1")), "'duration' must be seconds"),
    "duration_nan": (json.dumps(entry("b", duration=float("nan"))), "'duration' must be"),
    "duration_true": (json.dumps(entry("b", duration=True)), "'duration' must be seconds"),
    "segment": (json.dumps(entry("b", offset=2.5)), "cut the audio"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_by_file_and_line(folder: Path, name: str) -> None:
    line, problem = BAD_LINES[name]
    path = write_manifest(folder, entry("a"), "", line)
    with pytest.raises(LpaError, match=problem) as caught:
        load_utterances(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_sources_without_utterances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such manifest"):
        load_utterances(tmp_path / "missing.jsonl")
    with pytest.raises(LpaError, match="no utterance found"):
        load_utterances(write_manifest(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LpaError, match="no utterance found"):
        load_utterances(tmp_path / "empty")


def test_an_audio_file_given_as_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"fLaC\x00\x00\xff\xfe")
    with pytest.raises(LpaError, match="an audio file is no manifest"):
        load_utterances(tmp_path / "a.flac")


def test_librispeech_transcripts_are_read_beside_their_audio(tmp_path: Path) -> None:
    chapter = tmp_path / "61" / "70968"
    chapter.mkdir(parents=True)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 SO\n")
    for number in (0, 1):
        (chapter / f"61-70968-000{number}.flac").write_bytes(b"x")
    first, second = load_utterances(tmp_path)
    assert first == Utterance(
        "61-70968-0000", chapter / "61-70968-0000.flac", "HE BEGAN", "61", None
    )
    assert second.text == "SO"
    (chapter / "61-70968-0001.flac").unlink()
    with pytest.raises(LpaError, match=r"61-70968\.trans\.txt:2: no audio file"):
        load_utterances(tmp_path)


@pytest.mark.parametrize("line", ["61-70968-0000", "../../x YES"])
def test_a_broken_librispeech_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "61-70968.trans.txt").write_text(line + "\n")
    with pytest.raises(LpaError, match=r"61-70968\.trans\.txt:1: "):
        load_utterances(tmp_path)


def test_the_data_hash_follows_content_and_not_place(folder: Path, tmp_path: Path) -> None:
    path = write_manifest(folder, entry("a"), entry("b", "NO"))
    before = data_hash(load_utterances(path))
    shutil.copytree(folder / "audio", tmp_path / "moved" / "audio")
    shutil.copy(path, tmp_path / "moved")
    assert data_hash(load_utterances(tmp_path / "moved" / path.name)) == before
    changes = [
        (entry("a"), entry("b", "ON")),
        (entry("a"), entry("c", "NO")),
        (entry("b", "NO"), entry("a")),
        (entry("a"),),
    ]
    hashes = {data_hash(load_utterances(write_manifest(folder, *lines))) for lines in changes}
    assert len(hashes | {before}) == 5


def test_the_data_hash_is_sha256_over_one_json_line_per_utterance(folder: Path) -> None:
    utterance = Utterance("a", folder / "audio/a.flac", "YES", "fash", 1.0)
    line = json.dumps(["a", "YES", hashlib.sha256(b"a").hexdigest()]) + "\n"
    assert data_hash([utterance]) == hashlib.sha256(line.encode()).hexdigest()


def test_an4_dev_is_read_whole(an4_dev: Path) -> None:
    utterances = load_utterances(an4_dev)
    assert len(utterances) == 95
    assert utterances[0].id == "an251-fash-b"


def test_the_librispeech_sample_is_read(librispeech_sample: Path) -> None:
    utterances = load_utterances(librispeech_sample)
    assert {utterance.speaker for utterance in utterances} == {"61", "1089"}
    assert all(utterance.audio.suffix == ".flac" for utterance in utterances)
