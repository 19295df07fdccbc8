"""The manifest: what is written is what is read, and the schema beside it is that of the code."""

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from lpa_export.errors import LpaError
from lpa_export.formats import schema
from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.formats.manifest import Bucket, Frames, SelfCheck, json_schema
from lpa_export.hosts.frames import FrameArithmetic
from tests.manifests import stated

SCHEMAS = {path.name: json.loads(text) for path, text in schema.schemas().items()}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    write_manifest(folder, stated(**changes))
    return folder


def test_infinite_and_undefined_numbers_survive(tmp_path: Path) -> None:
    taps = {"a": math.inf, "b": -math.inf, "c": math.nan, "d": 97.25}
    figures = {"hard_psnr_db": math.inf, "utterances": 95}
    check = SelfCheck(status="passed", label="measured", floor_db=math.inf, taps=taps)
    source = replace(stated().checkpoint, figures=figures)
    folder = write(tmp_path / "bundle", selfcheck=check, checkpoint=source)
    read = open_bundle(folder).manifest
    assert read.selfcheck.floor_db == math.inf
    assert read.checkpoint.figures == figures
    assert {name: repr(value) for name, value in read.selfcheck.taps.items()} == {
        "a": "inf",
        "b": "-inf",
        "c": "nan",
        "d": "97.25",
    }
    # Strict JSON: no bare NaN, and null is not what an infinity becomes.
    plain = json.loads((folder / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert plain["selfcheck"]["taps"] == {"a": "inf", "b": "-inf", "c": "nan", "d": 97.25}


def test_everything_that_is_written_is_read_again(tmp_path: Path) -> None:
    buckets = (Bucket(frames=64, samples=10_640, seconds=0.66),)
    written = stated("palette6", buckets=buckets, runtime={"encoders": [{"function": "main"}]})
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    write_manifest(folder, written)
    read = open_bundle(folder).manifest
    assert replace(read, files={}) == written
    assert list(read.files) == ["model.onnx"]


@pytest.mark.parametrize("path", schema.schemas(), ids=lambda path: path.name)
def test_the_schema_in_the_file_is_that_of_the_code(path: Path) -> None:
    assert path.read_text("utf-8") == schema.schemas()[path], (
        "write it anew with python -m lpa_export.formats.schema"
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[path.name])


@pytest.mark.parametrize("margin", ["", "    "])
def test_a_schema_says_docstrings_without_their_margin(
    margin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"A line.\n\n{margin}Another.\n{margin}    Set in."
    made = {"description": said, "$defs": {"Inner": {"description": said}, "Silent": {}}}
    monkeypatch.setattr(msgspec.json, "schema", lambda *_, **__: made)
    written = json.loads(json_schema(int))
    plain = "A line.\n\nAnother.\n    Set in."
    assert written["description"] == written["$defs"]["Inner"]["description"] == plain


def test_a_written_manifest_fits_the_schema_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    check = SelfCheck(status="passed", floor_db=60.0, taps={"logits": math.inf})
    plain = json.loads((write(tmp_path / "bundle", selfcheck=check) / "manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(SCHEMAS["manifest.schema.json"])
    assert list(validator.iter_errors(plain)) == []
    for damage in ({"smell": 1}, {"taps": [{"name": "a"}]}, {"schema_version": 1}, {"target": 1}):
        assert list(validator.iter_errors(plain | damage)), damage


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path, text: str) -> None:
    place = write(tmp_path / "bundle") / "manifest.json"
    place.write_text(place.read_text().replace('"psnr_db": 90.0', f'"psnr_db": {text}'))
    with pytest.raises(LpaError, match=r"manifest\.json.*export"):
        open_bundle(place.parent)


@pytest.mark.parametrize("part", ['"psnr_db"', '"floor_db"', '"taps"'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(tmp_path: Path, part: str) -> None:
    place = write(tmp_path / "bundle") / "manifest.json"
    content = place.read_text()
    assert part in content
    place.write_text(content.replace(part, r'"\ud800"'))
    with pytest.raises(LpaError, match=r"manifest\.json.*export") as caught:
        open_bundle(place.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("samples", [0, 1, 719, 720, 1039, 1040, 15_999, 16_000])
def test_frames_are_counted_as_the_hosts_arithmetic_counts_them(samples: int) -> None:
    stated_frames = Frames(kernels=(400, 3), strides=(160, 2), hop=320, receptive_field=720)
    assert stated_frames.count(samples) == FrameArithmetic((400, 3), (160, 2)).frames(samples)


def test_paddings_count_on_both_sides() -> None:
    """By hand: 5 samples, one of zeros on each side, kernel 3, stride 2: places 0, 2 and 4."""
    frames = Frames(kernels=(3,), strides=(2,), hop=2, receptive_field=1, paddings=(1,))
    assert frames.count(5) == 3
    assert frames.count(0) == 0
