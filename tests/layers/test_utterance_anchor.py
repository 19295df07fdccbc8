"""Pulses anchored to the utterance: the numbers of the slow loop, and who refuses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.commands.export import main as export
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.hosts import lpa_layers
from lpa_export.layers import LPA, LPAConfig, Pulses
from lpa_export.layers.folding import fold
from lpa_export.layers.harden import count_by_family, harden
from lpa_export.targets import targets_named

Make = Callable[..., LPA]
Oracle = Callable[..., dict[int, np.ndarray]]

FAMILIES = st.sampled_from([(2, 1, 1), (1, 0, 0), (3, 0, 1), (1, 2, 0)])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    families=FAMILIES,
    frames=st.integers(1, 40),
    padding=st.integers(0, 30),
    temperature=st.one_of(st.none(), st.floats(0.05, 3.0)),
)
def test_soft_and_hard_forms_equal_the_loop_whatever_the_padding(
    make_layer: Make,
    slow_lpa: Oracle,
    seed: int,
    families: tuple[int, int, int],
    frames: int,
    padding: int,
    temperature: float | None,
) -> None:
    counts = dict(zip(("aperiodic", "periodic", "positional"), families, strict=True))
    layer = make_layer(seed, spread=1.0, anchor="utterance", **counts)
    layer.hard, layer.temperature = temperature is None, temperature or 1.0
    total = frames + padding
    hidden = torch.randn(
        2, total, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    valid = torch.arange(total) < torch.tensor([[frames], [total]])
    hidden[0, frames:] = torch.nan
    output = layer(hidden, valid)
    slow = slow_lpa(layer, hidden[0, :frames].numpy(), temperature=temperature)
    assert max(float(np.abs(output[0, t].numpy() - row).max()) for t, row in slow.items()) < 1e-10
    assert not output[~valid].any()
    assert (layer(hidden[:1, :frames])[0] - output[0, :frames]).abs().max() < 1e-12


@pytest.mark.parametrize("hard", [False, True])
def test_an_utterance_without_valid_frames_gives_zeros(make_layer: Make, hard: bool) -> None:
    layer = make_layer(0, anchor="utterance")
    layer.hard = hard
    valid = torch.tensor([[False] * 9, [True] * 9])
    output = layer(torch.randn(2, 9, 6, dtype=torch.float64), valid)
    assert not output[0].any() and output[1].isfinite().all()


def test_the_soft_form_becomes_the_hard_one_as_the_temperature_falls(make_layer: Make) -> None:
    layer = make_layer(5, spread=1.0, anchor="utterance")
    hidden = torch.randn(1, 37, 6, dtype=torch.float64)
    layer.hard = True
    hard = layer(hidden)
    layer.hard, layer.temperature = False, 1e-8
    assert (layer(hidden) - hard).abs().max() < 1e-10


def test_every_window_learns_from_what_is_said() -> None:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(12, 2, anchor="utterance"))
    layer(torch.randn(2, 30, 12)).square().sum().backward()
    assert layer.utterance is not None
    for parameter in layer.utterance.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


def test_a_window_counts_once_per_valid_frame_and_hardens() -> None:
    torch.manual_seed(0)
    layer = LPA(LPAConfig(12, 2, aperiodic=3, anchor="utterance")).requires_grad_(False)
    hidden = torch.randn(2, 30, 12)
    valid = torch.arange(30) < torch.tensor([[30], [11]])
    soft, total = count_by_family(layer, hidden, valid)["aperiodic"]
    assert total == 2 * 3 * (30 + 11) and 0 < soft < total
    layer.temperature = 1e-4
    (figures,) = harden({0: layer}, {0: [(hidden, valid)]})
    assert layer.hard and figures.soft_share < 0.01 and figures.psnr_db > 60


def test_an_unknown_anchor_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="anchor must be one of frame, utterance"):
        LPAConfig(12, 2, anchor="word")  # type: ignore[arg-type]


def test_there_is_no_folded_form(make_layer: Make) -> None:
    with pytest.raises(ValueError, match="utterance have no folded form"):
        fold(make_layer(0, anchor="utterance"), form="prefix_sum")


@pytest.fixture
def anchored(tiny_config: Callable[..., Any], tmp_path: Path) -> Path:
    """A checkpoint with one layer anchored to the utterance."""
    from transformers import Wav2Vec2ForCTC

    from lpa_export.formats.checkpoint import LPASection, save_checkpoint
    from lpa_export.hosts import replace_layers
    from lpa_export.training.teacher import CHARACTERS

    torch.manual_seed(7)
    model = Wav2Vec2ForCTC(tiny_config("pre")).eval()
    pulses = Pulses(aperiodic=1, anchor="utterance")
    replace_layers(model, [1], LPAConfig(32, 2, **pulses.shape))
    section = LPASection((1,), pulses, temperature=0.1, name="anchored")
    return save_checkpoint(tmp_path / "anchored", model, CHARACTERS, section)


def test_a_checkpoint_remembers_the_anchor(anchored: Path) -> None:
    loaded = load_checkpoint(anchored)
    lpa = lpa_layers(loaded.model)[1]
    assert lpa.config.anchor == "utterance" and lpa.utterance is not None
    with torch.no_grad():
        assert loaded.model(torch.randn(1, 8000)).logits.isfinite().all()


def test_a_checkpoint_from_before_the_anchor_loads(tiny_checkpoint: Callable[..., Path]) -> None:
    folder = tiny_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    del config["lpa"]["pulses"]["anchor"]
    (folder / "config.json").write_text(json.dumps(config))
    lpa = lpa_layers(load_checkpoint(folder).model)[0]
    assert lpa.config.anchor == "frame" and lpa.utterance is None


@pytest.mark.parametrize("target", targets_named("all"))
def test_every_target_refuses_it_in_one_line(
    anchored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    out = tmp_path / "bundle"
    code = export(["--target", target, "--checkpoint", str(anchored), "--out", str(out)])
    errors = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(errors) == 1 and not out.exists()
    assert "anchored to the utterance, which no target can export" in errors[0]
