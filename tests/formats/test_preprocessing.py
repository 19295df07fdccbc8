"""The feature extractor is read where transformers reads it, in its order."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoFeatureExtractor

from lpa_export.errors import LpaError
from lpa_export.formats.preprocessing import Preprocessing, read_preprocessing

PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"
TYPE = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
NORMALIZE, PLAIN = TYPE | {"do_normalize": True}, TYPE | {"do_normalize": False}


def write(folder: Path, **files: Any) -> Path:
    """JSON files by their stem, beside a wav2vec2's config."""
    for stem, content in {"config": {"model_type": "wav2vec2"}, **files}.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config": PLAIN},
        {"preprocessor_config": NORMALIZE},
        {"processor_config": {"feature_extractor": PLAIN}},
        {"processor_config": {"audio_processor": PLAIN}},
        # Both: the processor's wins; one that has none leaves it to the other.
        {"processor_config": {"feature_extractor": PLAIN}, "preprocessor_config": NORMALIZE},
        {"processor_config": {"feature_extractor": NORMALIZE}, "preprocessor_config": PLAIN},
        {"processor_config": {"processor_class": "X"}, "preprocessor_config": PLAIN},
        {"preprocessor_config": TYPE | {"padding_value": -1.0}},
        {"preprocessor_config": {"do_normalize": False}},
    ],
)
def test_it_is_what_transformers_reads(tmp_path: Path, files: dict[str, Any]) -> None:
    theirs: Any = AutoFeatureExtractor.from_pretrained(write(tmp_path, **files))
    found = read_preprocessing(tmp_path)
    assert found.do_normalize == theirs.do_normalize
    assert found.sampling_rate == theirs.sampling_rate == 16_000
    assert found.padding_value == theirs.padding_value


def test_a_folder_that_states_none_has_transformers_defaults(tmp_path: Path) -> None:
    assert read_preprocessing(write(tmp_path)) == Preprocessing(True, 16_000, 0.0)


def test_what_is_written_is_read_as_the_same_by_both(tmp_path: Path) -> None:
    wanted = Preprocessing(do_normalize=False, padding_value=0.5)
    folder = write(tmp_path, preprocessor_config=wanted.to_json())
    theirs: Any = AutoFeatureExtractor.from_pretrained(folder)
    assert read_preprocessing(folder) == wanted
    assert (theirs.do_normalize, theirs.padding_value) == (False, 0.5)


@pytest.mark.parametrize("name", [PROCESSOR, PREPROCESSOR])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sampling_rate": 8_000}, "sampling_rate is 8000, but all audio here is .* 16000 Hz"),
        ({"sampling_rate": "16k"}, "sampling_rate is '16k'"),
        ({"feature_size": 80}, "feature_size is 80; expected 1"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "'WhisperFeatureExtractor' is not"),
        ({"do_normalize": "no"}, "do_normalize must be true or false, found 'no'"),
        ({"padding_value": None}, "padding_value must be a number, found None"),
    ],
)
def test_what_is_no_waveform_at_16_khz_is_refused(
    tmp_path: Path, name: str, change: dict[str, Any], problem: str
) -> None:
    stated = TYPE | change
    content = {"feature_extractor": stated} if name == PROCESSOR else stated
    write(tmp_path, **{Path(name).stem: content})
    with pytest.raises(LpaError, match=problem) as caught:
        read_preprocessing(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / PREPROCESSOR).write_text(content, "utf-8", errors="surrogateescape")
    with pytest.raises(LpaError, match=PREPROCESSOR) as caught:
        read_preprocessing(tmp_path)
    assert "\n" not in str(caught.value)
