"""Sets of the Hugging Face hub: streamed from a local folder in the hub's layout, no network."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.errors import LpaError
from lpa_export.formats import hub_speech
from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.speech import load_utterances

datasets = pytest.importorskip("datasets")

SOURCE = "hf:some/speech/default/train"
WRITTEN = Path("build/datasets/some--speech--default--train")


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bytes]]:
    """`publish(rows)`: a set `some/speech` under the working folder; the recordings' bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()

    def make(columns: dict[str, list[Any]]) -> list[bytes]:
        recordings = []
        for number in range(len(next(iter(columns.values())))):
            path = tmp_path / f"{number}.flac"
            noise = np.random.default_rng(number).uniform(-0.5, 0.5, 4_000 + 100 * number)
            write_flac(path, noise.astype(np.float32))
            recordings.append(path.read_bytes())
        audio = [{"bytes": data, "path": f"{n}.flac"} for n, data in enumerate(recordings)]
        folder = tmp_path / "some" / "speech"
        folder.mkdir(parents=True)
        rows = datasets.Dataset.from_dict({"audio": audio, **columns})
        rows.cast_column("audio", datasets.Audio(decode=False)).to_parquet(folder / "train.parquet")
        return recordings

    return make


def test_a_streamed_set_is_the_recordings_and_texts_of_the_hub(
    publish: Callable[..., list[bytes]],
) -> None:
    recordings = publish(
        {"text": ["GO ON", "STOP", "YES"], "id": ["a-1", "a-2", "../x"], "speaker_id": [3, 3, 4]}
    )
    utterances = load_utterances(Path(SOURCE))
    assert [utterance.audio.read_bytes() for utterance in utterances] == recordings
    assert [(u.id, u.text, u.speaker) for u in utterances] == [
        ("a-1", "GO ON", "3"),
        ("a-2", "STOP", "3"),
        ("0000002", "YES", "4"),  # an id that leads out of a folder is not taken
    ]
    assert len(load_audio(utterances[1].audio)) == 4_100


def test_a_recipe_may_name_the_hub(publish: Callable[..., list[bytes]], tmp_path: Path) -> None:
    from lpa_export.formats.recipe import load_recipe

    publish({"sentence": ["GO"]})
    path = tmp_path / "some.yaml"
    path.write_text(
        f"name: some\nmodel: {{checkpoint: x}}\nlpa: {{layers: [0]}}\n"
        f"data: {{train: ['{SOURCE}'], dev: '{SOURCE}'}}\n"
    )
    data = load_recipe(path).data
    assert data is not None
    assert [utterance.text for utterance in load_utterances(data.train[0])] == ["GO"]


def test_a_stream_that_broke_off_goes_on_behind_what_is_written(
    publish: Callable[..., list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = publish({"text": [f"WORD {number}" for number in range(5)]})
    real, stored = hub_speech._store, []

    def breaks_off(row: Any, folder: Path, number: int, place: str) -> dict[str, str]:
        stored.append(number)
        if len(stored) == 4:
            raise OSError("connection reset")
        return real(row, folder, number, place)

    monkeypatch.setattr(hub_speech, "_store", breaks_off)
    with pytest.raises(LpaError, match=r"broke off \(connection reset\).*the same command again"):
        load_utterances(Path(SOURCE))
    assert not (WRITTEN / "manifest.jsonl").exists()
    with (WRITTEN / "manifest.jsonl.partial").open("a") as partial:
        partial.write('{"audio_filepath": "00')
    utterances = load_utterances(Path(SOURCE))
    assert stored == [0, 1, 2, 3, 3, 4]
    assert [utterance.audio.read_bytes() for utterance in utterances] == recordings


def test_a_finished_set_is_not_asked_for_again(
    publish: Callable[..., list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"text": ["GO"]})
    first = load_utterances(Path(SOURCE))
    monkeypatch.setattr(hub_speech, "_rows", lambda *args: pytest.fail("asked again"))
    assert load_utterances(Path(SOURCE)) == first


def test_a_launched_process_waits_for_the_main_ones_set(
    publish: Callable[..., list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"text": ["GO"]})

    def main_process(seconds: float) -> None:
        monkeypatch.setenv("RANK", "0")
        hub_speech.stream(SOURCE)
        monkeypatch.setenv("RANK", "1")

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(hub_speech.time, "sleep", main_process)
    assert [utterance.text for utterance in load_utterances(Path(SOURCE))] == ["GO"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("hf:speech", "expected hf:<dataset>/<configuration>/<split>"),
        ("hf:a/b/../train", "expected hf:<dataset>/<configuration>/<split>"),
        ("hf:some/speech/default/dev", "cannot be read from the hub"),
        ("hf:no/where/default/train", "cannot be read from the hub"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_in_one_line(
    source: str, problem: str, publish: Callable[..., list[bytes]]
) -> None:
    publish({"text": ["GO"]})
    with pytest.raises(LpaError, match=problem) as caught:
        load_utterances(Path(source))
    assert "\n" not in str(caught.value)


ROWS = {
    "no_text": ({"label": ["GO"]}, "row 1: no transcript"),
    "text_number": ({"text": [3]}, "row 1: no transcript"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_a_transcript_is_named(
    name: str, publish: Callable[..., list[bytes]]
) -> None:
    columns, problem = ROWS[name]
    publish(columns)
    with pytest.raises(LpaError, match=problem):
        load_utterances(Path(SOURCE))


@pytest.mark.parametrize("audio", [None, {"bytes": None, "path": "/etc/hostname"}, "x"])
def test_a_row_may_not_name_a_file_of_this_machine(audio: Any, tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="row 1: no audio"):
        hub_speech._store({"text": "GO", "audio": audio}, tmp_path, 0, "set, row 1")


def test_without_the_package_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LpaError, match="pip install datasets"):
        load_utterances(Path(SOURCE))


def test_other_paths_are_no_hub_sources() -> None:
    assert hub_speech.hub_source("data/train.jsonl") is None
    assert hub_speech.hub_source(Path("../x") / SOURCE) == SOURCE
