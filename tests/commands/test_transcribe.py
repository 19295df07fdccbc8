"""``lpa-transcribe``: text and times as the reference gives them, and what it refuses."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile

from lpa_export.commands.transcribe import main, transcribe
from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import greedy_text, path_text
from lpa_export.runtimes.pieces import cut_pieces
from lpa_export.runtimes.torch import TorchReference
from tests.manifests import edit_json, restated

Capture = pytest.CaptureFixture[str]
transcribe_module = import_module("lpa_export.commands.transcribe")
REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = [utterance.audio for utterance in load_utterances(None, limit=3)]


def spoken(capsys: Capture, *arguments: object) -> str:
    """What the command prints; nothing may stand on stderr."""
    assert main([str(argument) for argument in arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys: Capture, *arguments: object) -> str:
    """The one line that the command refuses with."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("lpa-transcribe: error: ")
    return captured.err


@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_one_file_gives_the_reference_models_text_and_nothing_else(
    exported: Any, capsys: Capture, target: str
) -> None:
    checkpoint = load_checkpoint(exported.checkpoint)
    logits = TorchReference(checkpoint).logits(load_audio(DEMO[0]))
    source = {"onnx": ("--bundle", exported.bundle), "torch": ("--checkpoint", exported.checkpoint)}
    text = spoken(capsys, DEMO[0], "--target", target, *source[target])
    assert text == greedy_text(logits, checkpoint.vocabulary) + "\n"
    assert len(text) > 10


def test_each_of_several_files_has_its_name_before_its_text(exported: Any, capsys: Capture) -> None:
    alone = [spoken(capsys, path, "--bundle", exported.bundle) for path in DEMO]
    together = spoken(capsys, *DEMO, "--bundle", exported.bundle)
    expected = [f"{path}: {text}" for path, text in zip(DEMO, alone, strict=True)]
    assert together == "".join(expected)


def test_json_holds_the_times_of_the_words_inside_the_recording(
    exported: Any, capsys: Capture
) -> None:
    entries = json.loads(spoken(capsys, *DEMO, "--json", "--bundle", exported.bundle))
    assert [entry["file"] for entry in entries] == [str(path) for path in DEMO]
    for entry in entries:
        assert entry.keys() == {"file", "text", "words", "duration", "missing_seconds"}
        assert entry["duration"] == pytest.approx(soundfile.info(entry["file"]).duration, abs=1e-3)
        assert " ".join(word["text"] for word in entry["words"]) == entry["text"]
        times = [time for word in entry["words"] for time in (word["start"], word["end"])]
        assert len(times) > 2
        assert times == sorted(times)
        assert times[0] >= 0 and times[-1] <= entry["duration"]
        assert all(word["start"] < word["end"] for word in entry["words"])


def test_times_count_hops_of_20_ms(exported: Any) -> None:
    (transcript,) = transcribe([DEMO[0]], bundle=exported.bundle)
    for word in transcript.words:
        assert word.start / 0.02 == pytest.approx(round(word.start / 0.02))


def test_any_rate_and_channel_count_is_taken(exported: Any, tmp_path: Path) -> None:
    """Two channels at 48 kHz, whose mean is a demo recording: the words stay where they are."""
    waveform = load_audio(DEMO[0], sample_rate=48_000)
    noise = 0.3 * np.random.default_rng(0).standard_normal(len(waveform))
    stereo = np.stack([waveform + noise, waveform - noise], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 48_000, subtype="FLOAT")
    plain, converted = transcribe([DEMO[0], tmp_path / "stereo.wav"], bundle=exported.bundle)
    assert converted.duration == pytest.approx(plain.duration, abs=1e-3)
    assert len(converted.words) == pytest.approx(len(plain.words), abs=2)


def test_a_recording_at_44100_hz_in_stereo_runs(exported: Any, samples: Path) -> None:
    assert soundfile.info(samples / "jfk.flac").samplerate == 44_100
    assert soundfile.info(samples / "jfk.flac").channels == 2
    (transcript,) = transcribe([samples / "jfk.flac"], bundle=exported.bundle)
    assert transcript.duration == pytest.approx(11.0, abs=1e-3)
    logits = TorchReference(load_checkpoint(exported.checkpoint)).logits(
        load_audio(samples / "jfk.flac")
    )
    assert transcript.text == greedy_text(logits, load_checkpoint(exported.checkpoint).vocabulary)


def test_the_text_is_what_the_runtime_alone_gives(exported: Any) -> None:
    """By hand: session, argmax, repeats merged, blanks dropped, tokens looked up."""
    waveform = load_audio(DEMO[1])
    session = onnxruntime.InferenceSession(exported.bundle / "model.onnx")
    inputs = {"waveform": waveform[None], "lengths": np.array([len(waveform)], np.int64)}
    logits = session.run(["logits"], inputs)[0][0]
    tokens = (exported.bundle / "tokens.txt").read_text().splitlines()
    ids = [
        i
        for i, before in zip(logits.argmax(1), [-1, *logits.argmax(1)], strict=False)
        if i != before
    ]
    by_hand = " ".join("".join(tokens[i] for i in ids if i).replace("|", " ").split())
    assert transcribe([DEMO[1]], bundle=exported.bundle)[0].text == by_hand


def test_the_only_bundle_under_build_is_found(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run lpa-export --target onnx first" in refusal(capsys, DEMO[0])
    shutil.copytree(exported.bundle, tmp_path / "build" / "one" / "onnx")
    assert spoken(capsys, DEMO[0]) == spoken(capsys, DEMO[0], "--bundle", exported.bundle)
    shutil.copytree(exported.bundle, tmp_path / "build" / "two" / "onnx")
    message = refusal(capsys, DEMO[0])
    assert "build/one/onnx, build/two/onnx" in message
    assert "--bundle" in message


def _text_file(path: Path) -> None:
    path.write_text("This is not audio.\n" * 50)


def _constant(samples: int) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, np.zeros(samples, np.float32), 16_000)


def _short(path: Path) -> None:
    soundfile.write(path, np.sin(np.arange(700)).astype(np.float32), 16_000)


BAD_AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "text called .wav": (_text_file, "expected an audio file"),
    "no byte": (lambda path: path.write_bytes(b""), "empty file"),
    "no sample": (_constant(0), "0 samples"),
    "one sample": (_constant(1), "a single sample"),
    "silent": (_constant(16_000), "silent"),
    "shorter than the receptive field": (_short, "700 samples .* takes 720 .* at least"),
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "a folder"),
}


@pytest.mark.parametrize("kind", BAD_AUDIO)
@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_one_bad_file_is_listed_and_the_others_are_transcribed(
    exported: Any, tmp_path: Path, capsys: Capture, kind: str, target: str
) -> None:
    make, message = BAD_AUDIO[kind]
    bad = tmp_path / "bad.wav"
    make(bad)
    source = {"onnx": ("--bundle", exported.bundle), "torch": ("--checkpoint", exported.checkpoint)}
    model = ["--target", target, *map(str, source[target])]
    good = [spoken(capsys, path, *model) for path in (DEMO[0], DEMO[1])]
    assert main([str(DEMO[0]), str(bad), str(DEMO[1]), *model]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{DEMO[0]}: {good[0]}{DEMO[1]}: {good[1]}"
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"lpa-transcribe: error: {bad}: ")
    assert re.search(message, captured.err)


def test_json_has_an_entry_for_a_bad_file_too(
    exported: Any, tmp_path: Path, capsys: Capture
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    assert main([str(bad), str(DEMO[0]), "--json", "--bundle", str(exported.bundle)]) == 2
    entries = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in entries] == [str(DEMO[0]), str(bad)]
    assert "empty file" in entries[1]["error"] and entries[1].keys() == {"file", "error"}


def test_a_bad_file_ends_the_call_where_nobody_listens(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such file"):
        transcribe([tmp_path / "no.wav"], bundle=exported.bundle)


def test_a_cut_off_file_is_transcribed_with_a_warning_and_a_field(
    exported: Any, tmp_path: Path, capsys: Capture
) -> None:
    cut = tmp_path / "cut.wav"
    soundfile.write(cut, load_audio(DEMO[0]), 16_000)
    promised = soundfile.info(cut).duration
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    held = soundfile.info(cut).duration
    assert main([str(cut), "--json", "--bundle", str(exported.bundle)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"lpa-transcribe: warning: {cut}: cut off: ")
    assert captured.err.count("\n") == 1
    (entry,) = json.loads(captured.out)
    assert entry["missing_seconds"] == pytest.approx(promised - held, abs=2e-3)
    assert entry["duration"] == pytest.approx(held, abs=1e-3)


def test_standard_input_is_read_like_a_file(
    exported: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = spoken(capsys, DEMO[0], "--bundle", exported.bundle)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DEMO[0].read_bytes())))
    assert spoken(capsys, "-", "--bundle", exported.bundle) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input: " in refusal(capsys, "-", "--bundle", exported.bundle)
    assert "once only" in refusal(capsys, "-", "-", "--bundle", exported.bundle)


def _truncated(bundle: Path) -> None:
    whole = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(whole[: len(whole) // 2])


def _swapped(bundle: Path) -> None:
    path = bundle / "tokens.json"
    path.write_text(path.read_text().replace('"text": "A"', '"text": "B"'))


def _of_another_target(bundle: Path) -> None:
    restated(open_bundle(bundle), target="coreml")


def _newer(bundle: Path) -> None:
    edit_json(bundle, schema_version=99)


BAD_BUNDLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated model": (_truncated, "damaged: model.onnx: truncated"),
    "swapped tokens": (_swapped, "damaged: tokens.json: altered"),
    "missing file": (lambda b: (b / "tokens.json").unlink(), "damaged: tokens.json: missing"),
    "another target": (_of_another_target, "a bundle for target 'coreml', expected 'onnx'"),
    "newer schema": (_newer, "schema version 99 is newer"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "not a bundle"),
}


@pytest.mark.parametrize("kind", BAD_BUNDLES)
def test_a_bundle_that_is_not_as_exported_is_refused(
    exported: Any, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    damage, message = BAD_BUNDLES[kind]
    shutil.copytree(exported.bundle, tmp_path / "bundle")
    damage(tmp_path / "bundle")
    assert message in refusal(capsys, DEMO[0], "--bundle", tmp_path / "bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--target", "abacus"),
            "unknown target 'abacus'; known: onnx, coreml, executorch, mlx, coreai, torch",
        ),
        (("--bundle", "nowhere"), "nowhere: no such bundle folder"),
        (("--target", "torch", "--checkpoint", "nowhere"), "no such checkpoint folder"),
        (("--target", "torch", "--bundle", "x"), "--bundle goes with an exported target"),
        (("--checkpoint", "x"), "--checkpoint goes with --target torch"),
        (("--language", "deu"), "--language goes with --checkpoint"),
        (("--target", "torch", "--language", "deu"), "has one language only"),
        (("--format", "json"), "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_one_line(
    capsys: Capture, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, DEMO[0], *arguments)


def test_no_file_is_one_line(capsys: Capture) -> None:
    assert "the following arguments are required: FILE" in refusal(capsys)


def test_a_runtime_that_gives_up_is_one_line_with_the_file(
    exported: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def give_up(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory\nfor requested buffer")

    monkeypatch.setattr("lpa_export.runtimes.onnx.OnnxRunner.run", give_up)
    message = refusal(capsys, DEMO[0], "--bundle", exported.bundle)
    assert str(DEMO[0]) in message and "Failed to allocate memory for" in message


def test_a_bundle_runs_without_torch(exported: Any, tmp_path: Path) -> None:
    write_flac(tmp_path / "a.flac", load_audio(DEMO[0]))
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None;"
        "from lpa_export.commands.transcribe import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.flac"), "--bundle"]
    done = subprocess.run(
        [*command, str(exported.bundle)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Three demo clips one behind the other."""
    write_flac(tmp_path / "long.flac", np.concatenate([load_audio(path) for path in DEMO]))
    return tmp_path / "long.flac"


def test_a_long_recording_is_cut_and_its_times_go_on(
    exported: Any, long: Path, capsys: Capture
) -> None:
    """Each piece by ONNX Runtime alone, its own frames put together by hand."""
    waveform = load_audio(long)
    (found,) = json.loads(spoken(capsys, long, "--cut", "3", "--json", "--bundle", exported.bundle))
    bundle = open_bundle(exported.bundle)
    frames = bundle.manifest.frames
    pieces = cut_pieces(waveform, longest=3 * 16_000, frames=frames)
    assert found["seams"] == [
        round(piece.frames[0] * frames.hop / 16_000, 3) for piece in pieces[1:]
    ]
    assert len(found["seams"]) >= 2
    session = onnxruntime.InferenceSession(exported.bundle / "model.onnx")
    rows = []
    for piece in pieces:
        heard = waveform[slice(*piece.samples)]
        given = {"waveform": heard[None], "lengths": np.array([len(heard)])}
        logits = np.asarray(session.run(["logits"], given)[0])[0]
        start = piece.samples[0] // frames.hop
        rows += list(logits[piece.frames[0] - start : piece.frames[1] - start])
    assert len(rows) == frames.count(len(waveform))
    vocabulary = load_checkpoint(exported.checkpoint).vocabulary
    assert found["text"] == greedy_text(np.array(rows), vocabulary)
    assert found["words"][-1]["end"] > found["seams"][-1]
    assert found["duration"] == pytest.approx(len(waveform) / 16_000, abs=1e-3)


def test_auto_cuts_what_is_longer_than_twenty_seconds_and_never_does_not(
    exported: Any, tmp_path: Path
) -> None:
    speech = np.concatenate([load_audio(path) for path in DEMO])
    write_flac(tmp_path / "a.flac", np.resize(speech, 30 * 16_000))
    bundle = exported.bundle
    (auto,) = transcribe([tmp_path / "a.flac"], bundle=bundle)
    (never,) = transcribe([tmp_path / "a.flac"], bundle=bundle, cut="never")
    assert len(auto.seams) == 1 and 10 < auto.seams[0] <= 20
    assert never.seams == () and "seams" not in never.to_json()


@pytest.mark.parametrize(
    ("cut", "said"), [("3", ""), ("auto", ""), ("30", "pieces are of 8 s at most")]
)
def test_pieces_that_are_shorter_than_asked_for_are_said(
    exported: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch, cut: str, said: str
) -> None:
    """As with a bundle whose longest bucket is of eight seconds."""
    opened = transcribe_module._open

    def short(*given: Any) -> Any:
        return replace(opened(*given), max_samples=8 * 16_000)

    monkeypatch.setattr(transcribe_module, "_open", short)
    assert main([str(DEMO[0]), "--cut", cut, "--bundle", str(exported.bundle)]) == 0
    assert capsys.readouterr().err.count("warning") == bool(said)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transcribe([DEMO[0]], bundle=exported.bundle, cut=cut)
    assert [said in str(warning.message) for warning in caught] == [True] * bool(said)


@pytest.mark.parametrize("cut", ["sometimes", "0", "-3", "nan", "inf"])
def test_a_cut_that_is_none_is_one_line(exported: Any, capsys: Capture, cut: str) -> None:
    message = refusal(capsys, DEMO[0], "--cut", cut, "--bundle", exported.bundle)
    assert f"--cut must be auto, never or a number of seconds, found '{cut}'" in message


def test_pieces_too_short_to_overlap_are_refused(
    exported: Any, long: Path, capsys: Capture
) -> None:
    message = refusal(capsys, long, "--cut", "1", "--bundle", exported.bundle)
    assert "too short to be cut" in message


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    """A language model of three short words, made by the command that makes them."""
    from lpa_export.decoding.ngram import main as make

    pytest.importorskip("flashlight.lib.text", reason="the extra lm is not installed")
    (tmp_path / "texts.txt").write_text("a b\nb ca a\nca b a\n")
    sources = [str(tmp_path / "texts.txt"), "--out", str(tmp_path / "words.arpa.gz")]
    assert make(sources) == 0
    return tmp_path / "words.arpa.gz"


def test_with_a_language_model_the_text_is_that_of_the_search(
    exported: Any, capsys: Capture, lm: Path
) -> None:
    """Of the same model in torch, searched in this process; JSON has the times of its words."""
    from lpa_export.decoding.beam import BeamSearch
    from lpa_export.decoding.settings import Settings

    capsys.readouterr()
    checkpoint = load_checkpoint(exported.checkpoint)
    logits = TorchReference(checkpoint).logits(load_audio(DEMO[0]))
    search = BeamSearch(checkpoint.vocabulary, Settings(lm, lm_weight=0.9, word_score=0.5, beam=6))
    settings = ("--lm-weight", 0.9, "--word-score", 0.5, "--beam", 6)
    flags = ("--bundle", exported.bundle, "--lm", lm, *settings)
    text = spoken(capsys, DEMO[0], *flags)
    assert text == path_text(search.path(logits), checkpoint.vocabulary) + "\n"
    assert text != greedy_text(logits, checkpoint.vocabulary) + "\n"
    (entry,) = json.loads(spoken(capsys, DEMO[0], "--json", *flags))
    assert " ".join(word["text"] for word in entry["words"]) + "\n" == text
    times = [time for word in entry["words"] for time in (word["start"], word["end"])]
    assert times and times == sorted(times) and times[-1] <= entry["duration"]


def test_a_language_model_that_cannot_be_used_is_refused_before_any_file_is_read(
    exported: Any, capsys: Capture, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    flags = (lm.with_name("no.wav"), "--bundle", exported.bundle)
    damaged = lm.with_name("damaged.arpa.gz")
    damaged.write_bytes(lm.read_bytes()[:-30])
    assert "damaged.arpa.gz: " in refusal(capsys, *flags, "--lm", damaged)
    assert "--lm-weight goes with --lm" in refusal(capsys, *flags, "--lm-weight", 1)
    monkeypatch.setattr("lpa_export.decoding.language_model.find_spec", lambda name: None)
    assert "pip install 'lpa-export[lm]'" in refusal(capsys, *flags, "--lm", lm)
