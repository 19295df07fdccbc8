"""A separator's graph gives what SpeechBrain gives, at every length, alone and in a batch."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from lpa_export.commands.export import export
from lpa_export.commands.export import main as export_main
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import open_bundle
from lpa_export.formats.separation_bundle import (
    open_separator_bundle,
    read_golden_mixtures,
    task_of_bundle,
)
from lpa_export.formats.separator import load_separator
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig, separator_parts
from lpa_export.targets.golden import edge_margins
from lpa_export.targets.onnx.optimise import optimise
from lpa_export.targets.onnx.separator import lower_separator
from lpa_export.targets.separation.golden import golden_mixtures
from lpa_export.targets.separation.model import SeparatorModel

from .conftest import CONFIG, Build

SPEECHBRAIN = Path(__file__).parents[1] / "hosts" / "sepformer_tiny.safetensors"
CLOSE = 2e-6
EDGE = 2e-5

Session: TypeAlias = onnxruntime.InferenceSession
Lengths = Mapping[int, tuple[np.ndarray, np.ndarray]]


def _session(model: SepFormer, scratch: Path) -> Session:
    parts = separator_parts(model)
    graph = optimise(lower_separator(SeparatorModel(parts), tuple(parts.taps)), scratch)
    return onnxruntime.InferenceSession(graph.SerializeToString())


def _run(session: Session, rows: Sequence[np.ndarray], behind: int = 0) -> list[np.ndarray]:
    """(sources, samples) of each row; something loud lies behind its end."""
    lengths = [len(row) for row in rows]
    padded = np.full((len(rows), max(lengths) + behind), 7.0, np.float32)
    for row, samples in zip(padded, rows, strict=True):
        row[: len(samples)] = samples
    inputs = {"waveform": padded, "lengths": np.array(lengths)}
    (found,) = session.run(["sources"], inputs)
    assert not any(row[:, length:].any() for row, length in zip(found, lengths, strict=True))
    return [row[:, :length] for row, length in zip(found, lengths, strict=True)]


@pytest.fixture(scope="module")
def theirs() -> tuple[SepFormer, Lengths]:
    """Our module with SpeechBrain's weights; SpeechBrain's mixtures and estimates by length."""
    with safe_open(SPEECHBRAIN, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = SepFormer(SepFormerConfig.from_json(config, "config.json")).eval()
    weights = {n.removeprefix("weights:"): t for n, t in tensors.items() if "weights:" in n}
    model.load_state_dict(weights)
    lengths = (int(name.partition(":")[2]) for name in tensors if name.startswith("mixture:"))
    return model, {
        length: (tensors[f"mixture:{length}"].numpy(), tensors[f"estimate:{length}"].numpy())
        for length in lengths
    }


def _sounds_the_same(
    model: SepFormer, found: Sequence[np.ndarray], mixture: np.ndarray, close: float = CLOSE
) -> bool:
    """Whether all found are what the host's module gives, which was never padded.

    Where rounding may move the edge of a window by a frame they need not be.
    """
    with torch.no_grad(), edge_margins(model) as margins:
        expected = model(torch.from_numpy(mixture)[None])[0].numpy()
    worst = max(float(np.abs(one - expected).max()) for one in found)
    assert worst < close or min(margins) < EDGE
    return worst < close


@torch.no_grad()
def test_what_is_traced_gives_what_speechbrain_gives_alone_and_in_a_batch(
    theirs: tuple[SepFormer, Lengths],
) -> None:
    """At every length modulo the hop of chunks; SpeechBrain's own output moves with padding."""
    module, clips = theirs
    traced = SeparatorModel(separator_parts(module))
    batch = torch.full((len(clips), max(clips) + 37), float("nan"))
    for row, (mixture, _) in zip(batch, clips.values(), strict=True):
        row[: len(mixture)] = torch.from_numpy(mixture)
    together = traced(batch, torch.tensor([*clips]))[0].numpy()
    for row, (length, (mixture, expected)) in zip(together, clips.items(), strict=True):
        alone = traced(torch.from_numpy(mixture)[None], torch.tensor([length]))[0][0].numpy()
        np.testing.assert_allclose(alone, expected, rtol=0, atol=CLOSE)
        np.testing.assert_allclose(row[:, :length], expected, rtol=0, atol=CLOSE)
        assert not row[:, length:].any()


@pytest.mark.slow
def test_its_graph_gives_what_speechbrain_gives_alone_and_in_a_batch(
    theirs: tuple[SepFormer, Lengths], tmp_path: Path
) -> None:
    module, clips = theirs
    session = _session(module, tmp_path)
    together = _run(session, [mixture for mixture, _ in clips.values()], behind=37)
    for (mixture, expected), in_batch in zip(clips.values(), together, strict=True):
        np.testing.assert_allclose(_run(session, [mixture])[0], expected, rtol=0, atol=CLOSE)
        np.testing.assert_allclose(in_batch, expected, rtol=0, atol=CLOSE)


def test_every_length_modulo_the_hop_of_chunks_sounds_as_without_padding(
    build: Build, bundle: Path
) -> None:
    model, session = build(), onnxruntime.InferenceSession(bundle / "model.onnx")
    rng = np.random.default_rng(0)
    longer = rng.standard_normal(900).astype(np.float32)
    lengths = [*range(16, 26), *range(400, 400 + 8 * 25, 7), 600]
    same = []
    for samples in lengths:
        mixture = rng.standard_normal(samples).astype(np.float32)
        found = [_run(session, rows, behind=5)[0] for rows in ([mixture], [mixture, longer])]
        same.append(_sounds_the_same(model, found, mixture))
    assert sum(same) > 0.9 * len(lengths)


@pytest.mark.parametrize(
    "layers",
    [(0, 1), pytest.param((), marks=pytest.mark.slow), pytest.param((1,), marks=pytest.mark.slow)],
)
def test_lpa_within_and_across_chunks_is_the_hosts_own(
    build: Build, layers: tuple[int, ...]
) -> None:
    """In torch, padded and for one length: what is traced, before any exporter sees it."""
    model = build(layers=layers)
    parts = separator_parts(model)
    free = SeparatorModel(parts)
    for samples in (16, 17, 215, 400, 1000):
        mixture = torch.randn(1, samples)
        with torch.no_grad():
            expected = model(mixture)
            padded = torch.nn.functional.pad(mixture, (0, 300), value=7.0)
            lengths = torch.tensor([samples])
            for traced in (free, SeparatorModel(parts, samples + 300)):
                found = traced(padded, lengths)[0]
                torch.testing.assert_close(found[..., :samples], expected, rtol=0, atol=CLOSE)
                assert not found[..., samples:].any()


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(0,), (0, 1)])
def test_chunks_of_the_published_size_at_all_lengths_modulo_their_hop(
    build: Build, layers: tuple[int, ...], tmp_path: Path
) -> None:
    sizes = CONFIG.to_json() | {"chunk": 250, "kernel_size": 4, "sources": 2}
    model = build(SepFormerConfig.from_json(sizes, "config.json"), layers)
    session = _session(model, tmp_path)
    rng = np.random.default_rng(0)
    same = []
    for frames in range(250, 375):
        mixture = rng.standard_normal(2 * (frames + 1)).astype(np.float32)
        longer = rng.standard_normal(2 * 500).astype(np.float32)
        found = [_run(session, rows)[0] for rows in ([mixture], [mixture, longer])]
        same.append(_sounds_the_same(model, found, mixture, 1e-5))
    assert sum(same) > 0.9 * len(same)


def test_the_bundle_says_its_task_and_holds_audio_out(bundle: Path) -> None:
    assert task_of_bundle(bundle) == "separation"
    opened = open_separator_bundle(bundle)
    manifest = opened.manifest
    assert (manifest.sources, manifest.chunk, manifest.sample_rate) == (1, 50, 8000)
    assert manifest.selfcheck.status == "passed"
    assert [tap.name for tap in manifest.taps] == [
        "encoder",
        "blocks.0.intra",
        "blocks.0.inter",
        "sources",
    ]
    for clip in read_golden_mixtures(opened):
        assert clip.taps["sources"].shape == (len(clip.waveform), 1)
        assert np.abs(clip.waveform - clip.clean[0]).max() > 0.001
    quiet, *loud = sorted(float(clip.waveform.std()) for clip in read_golden_mixtures(opened))
    assert quiet < 0.2 * loud[0]
    card = (bundle / "README.md").read_text("utf-8")
    assert "takes noise out of speech" in card and "Tokens" not in card
    with pytest.raises(LpaError, match="lpa-enhance and lpa-validate take it"):
        open_bundle(bundle)


def test_golden_clips_are_no_longer_than_the_artifact_takes(checkpoint: Path) -> None:
    separator = load_separator(checkpoint)
    lengths = {len(clip.waveform) for clip in golden_mixtures(separator, 3000)}
    assert lengths == {3000}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--target", "{absent}"], "target {absent} cannot separate speech yet; onnx"),
        (["--target", "onnx", "--language", "deu"], "--language and --recipe go with models"),
    ],
)
def test_what_separators_cannot_do_is_refused_in_one_line(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    said: str,
) -> None:
    import lpa_export.targets as targets

    without = next(iter(targets.known_targets()[1:]))
    row = targets.target_named(without)
    bare = {**vars(row), "separation": None, "needs": ()}
    monkeypatch.setitem(targets._TARGETS, without, targets.TargetSpec(**bare))
    command = [flag.format(absent=without) for flag in flags]
    code = export_main([*command, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "new")])
    captured = capsys.readouterr().err
    assert code == 2 and captured.count("\n") == 1 and said.format(absent=without) in captured
    assert not (tmp_path / "new").exists()


def test_a_dry_run_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    result = export(target="onnx", checkpoint=checkpoint, out=tmp_path / "new", dry_run=True)
    assert (result.model, result.layers, result.replaced_layers) == ("quiet", 2, (0,))
    assert not (tmp_path / "new").exists()


def test_layers_that_are_alike_are_traced_once(build: Build, traced: list[Any]) -> None:
    """Two blocks, so two layers of each kind."""
    parts = separator_parts(
        build(SepFormerConfig.from_json(CONFIG.to_json() | {"blocks": 2}, "config.json"), (0, 2))
    )
    model = SeparatorModel(parts)
    layers = {path: module for path, module in model.named_modules() if path.endswith("layers.0")}
    graph = lower_separator(model, tuple(parts.taps))
    # All but the layers, LPA within chunks, attention across them.
    assert len(traced) == 3
    assert len(layers) == 4
    assert {path: model.get_submodule(path) for path in layers} == layers
    assert not graph.functions
    assert {node.domain for node in graph.graph.node} == {""}


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    again = export(target="onnx", checkpoint=checkpoint, out=tmp_path / "again").bundle
    for one, other in itertools.pairwise((bundle, again)):
        assert (one / "model.onnx").read_bytes() == (other / "model.onnx").read_bytes()
