"""The bundle's README: what it says is so, and what it tells to run runs as it stands."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

from lpa_export.commands.export import export
from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.manifest import Bucket, Frames, Normalisation, SelfCheck
from lpa_export.formats.schemes import scheme_named
from lpa_export.formats.text import Vocabulary, greedy_text
from lpa_export.hosts import replace_layers
from lpa_export.layers import LPAConfig
from lpa_export.layers.config import Pulses
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets.model_card import model_card
from lpa_export.targets.onnx import usage as onnx_usage
from lpa_export.targets.usage import decoding, frame_count, reading
from tests.manifests import stated

BLANK = 5
TOKENS = (*"abcde", "<pad>", *"fghijklmn")
SAMPLES = 20_123
BUCKETED = {"backend": "portable", "buckets": (0.7, 2.0), "lowering": "local_dense_mask"}


@pytest.fixture(scope="module")
def checkpoint(tiny_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer, LPA; blank 5, no word delimiter."""
    torch.manual_seed(11)
    config = tiny_config("pre", vocab_size=len(TOKENS), num_hidden_layers=1, pad_token_id=BLANK)
    model = Wav2Vec2ForCTC(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(30)  # so that the blank is not all that is ever heard
    replace_layers(model, (0,), LPAConfig(hidden_size=32, num_heads=2))
    section = LPASection((0,), Pulses(), temperature=0.1, name="syllables")
    vocabulary = Vocabulary(TOKENS, blank=BLANK, word_delimiter=None)
    folder = tmp_path_factory.mktemp("checkpoint") / "syllables"
    return save_checkpoint(folder, model, vocabulary, section)


@pytest.fixture(scope="module")
def speech() -> np.ndarray[Any, Any]:
    """(samples,) noise that comes and goes, as 16-bit audio gives it back."""
    noise = np.random.default_rng(3).normal(0, 0.2, SAMPLES)
    swelling = noise * (1 + np.sin(np.arange(SAMPLES) / 1500))
    return (np.clip(np.round(swelling * 2**15), -(2**15), 2**15 - 1) / 2**15).astype(np.float32)


def said(bundle: Path, speech: np.ndarray[Any, Any]) -> str:
    """What the README's one Python snippet prints, run as it stands beside a speech.wav."""
    import soundfile

    soundfile.write(bundle / "speech.wav", speech, 16_000, subtype="PCM_16")
    (snippet,) = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.S)
    ran = subprocess.run(
        [sys.executable, "-c", snippet], cwd=bundle, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.removesuffix("\n")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``bundle(target, settings)``, made at the first call."""

    @cache
    def made(target: str, settings: tuple[tuple[str, Any], ...] = ()) -> Path:
        folder = tmp_path_factory.mktemp(target) / "bundle"
        export(target=target, checkpoint=checkpoint, out=folder, **dict(settings))
        return folder

    return made


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("onnx", {}),
        ("executorch", {"backend": "portable"}),
        pytest.param("executorch", BUCKETED, marks=pytest.mark.slow),
    ],
    ids=["onnx", "executorch", "executorch in buckets"],
)
def test_the_snippet_prints_what_the_model_says(
    checkpoint: Path,
    bundle: Callable[..., Path],
    speech: np.ndarray[Any, Any],
    target: str,
    settings: dict[str, Any],
) -> None:
    loaded = load_checkpoint(checkpoint)
    expected = greedy_text(TorchReference(loaded).logits(speech), loaded.vocabulary)
    assert len(expected) > 10 and {*expected} <= {*TOKENS}
    assert said(bundle(target, tuple(settings.items())), speech) == expected


@pytest.mark.parametrize(
    ("tokens", "pad", "delimiter"),
    [
        (("<pad>", "|", "a", "b"), "<pad>", "|"),
        (("|", "a", "b", "[PAD]"), "[PAD]", "|"),
        (("a", "*", "_", "b"), "_", "*"),
        (("a", " ", "b", "|", "<pad>"), "<pad>", " "),
    ],
)
def test_the_generated_decoding_is_transformers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tokens: tuple[str, ...],
    pad: str,
    delimiter: str,
) -> None:
    """Wherever the blank stands, whatever parts words; a bar is text where it parts none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    theirs = Wav2Vec2CTCTokenizer("vocab.json", pad_token=pad, unk_token=pad,
                                  bos_token=None, eos_token=None,
                                  word_delimiter_token=delimiter)  # fmt: skip
    Vocabulary(tokens, tokens.index(pad), delimiter).write(stated().vocabulary.file)
    best = np.random.default_rng(0).integers(0, len(tokens), 60).repeat(2)
    lines = decoding(stated())
    exec(lines, {"json": json, "itertools": itertools, "logits": np.eye(len(tokens))[best]})
    assert capsys.readouterr().out == theirs.decode(best.tolist()) + "\n"


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_int8_of_onnx_says_where_its_sums_are_clipped(weights: str) -> None:
    found = onnx_usage.usage(replace(stated(), scheme=scheme_named(weights)))
    assert ("x86 without VNNI" in found) == (weights == "int8")
    assert found.endswith("\n") and found.count("```") == 2


def test_the_card_says_what_was_checked_and_how_words_are_parted(
    bundle: Callable[..., Path],
) -> None:
    card = (bundle("onnx") / "README.md").read_text()
    checked = r"Self-check \| passed \(measured\): 5 taps, the worst with a PSNR of \d+"
    assert re.search(checked, card)
    assert "blank 5, no word delimiter" in card


@pytest.mark.parametrize("replaced", [(), (0, 2)])
def test_a_model_with_nothing_replaced_is_not_said_to_be_without_attention(
    replaced: tuple[int, ...],
) -> None:
    source = replace(stated().checkpoint, family="hubert", replaced_layers=replaced)
    card = model_card(stated(checkpoint=source), "Run it.")
    assert ("self-attention is replaced" in card) == bool(replaced)
    assert ("none is replaced" in card) != bool(replaced)
    assert "A hubert CTC" in card


def test_an_artifact_that_nothing_here_runs_is_not_said_to_have_passed() -> None:
    check = SelfCheck(status="not_run", reason="programs of backend mps run on its devices only")
    card = model_card(stated(selfcheck=check), "Run it.")
    assert "| Self-check | not run: programs of backend mps" in card


def test_frames_are_counted_by_the_generated_lines_as_by_the_manifest() -> None:
    frames = Frames(kernels=(10, 3), strides=(5, 2), hop=10, receptive_field=10, paddings=(0, 1))
    lines = frame_count(stated(frames=frames))
    for samples in (10, 14, 15, 333, 1000):
        found: dict[str, Any] = {"waveform": np.zeros(samples)}
        exec(lines, found)
        assert found["frames"] == frames.count(samples)


def test_an_app_is_told_to_normalise_where_the_graph_does_not() -> None:
    stated_so = Normalisation(kind="zero_mean_unit_variance", where="app", epsilon=1e-5)
    lines = reading(stated(normalisation=stated_so))
    assert "waveform.var() + 1e-05" in lines
    assert "var()" not in reading(stated())


def test_audio_beyond_the_longest_bucket_is_refused_with_its_length() -> None:
    buckets = tuple(Bucket.of(frames, 320 * frames, 16_000) for frames in (50, 250))
    lines = reading(stated(buckets=buckets))
    assert "assert len" not in reading(stated())
    for samples in (80_000, 80_001):
        waveform = np.zeros(samples, np.float32)
        soundfile = SimpleNamespace(read=lambda *_, heard=waveform, **__: (heard, 16_000))
        if samples == 80_000:
            exec(lines, {"soundfile": soundfile})
        else:
            with pytest.raises(AssertionError, match="longer than the 5 s of the longest bucket"):
                exec(lines, {"soundfile": soundfile})
