"""Pictures of windows: the numbers that are drawn, and that something is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lpa_export.commands.train import main
from lpa_export.formats.audio import load_audio, write_flac
from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.formats.lpa_section import LPASection
from lpa_export.formats.separator import load_separator, save_separator
from lpa_export.formats.speech import load_utterances
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig
from lpa_export.layers import LPAConfig, Pulses
from lpa_export.training.window_view import view_separator, view_windows

MAX_BYTES = 150_000


def _picture(path: Path) -> np.ndarray:
    assert path.stat().st_size < MAX_BYTES
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
    assert pixels.shape[1] == 1000
    assert pixels.var() > 500 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    return pixels


def test_the_shipped_model_and_a_demo_recording_are_drawn_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "windows"
    assert main(["windows", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("wrote") == 5
    layers = [_picture(out / f"layer-{layer}.png") for layer in range(4)]
    assert not np.array_equal(layers[0], layers[1])
    _picture(out / "hardness.png")


def test_windows_are_those_by_which_the_hard_layer_computes() -> None:
    loaded = load_checkpoint(None)
    waveform = load_audio(load_utterances(None)[0].audio)
    seen: dict[str, torch.Tensor] = {}
    lpa = lpa_layers(loaded.model)[2]
    handle = lpa.register_forward_hook(lambda _, inputs, output: seen.update(x=inputs[0], y=output))
    view = view_windows(loaded, waveform)
    handle.remove()
    layer = view.layers[2]
    assert (layer.layer, layer.anchored) == (2, None)
    assert layer.moving is not None and layer.teeth is not None and layer.bases is not None
    with torch.no_grad():
        read, controls, _ = lpa.read(seen["x"], None)
    values, gains = read[0].double().numpy(), controls.amplitudes[0].double().numpy()
    for frame in (0, 7, view.frames - 1):
        heads = []
        for h in range(4):
            spans = [(layer.moving, (frame, h, k)) for k in range(2)] + [
                (layer.teeth, (frame, h, 0))
            ]
            total = sum(
                gains[frame, h, k] * values[family.starts[at] : family.ends[at], h].mean(0)
                for k, (family, at) in enumerate(spans)
            )
            start, end = layer.bases.starts[h, 0], layer.bases.ends[h, 0]
            if start <= frame < end:
                total = total + gains[frame, h, 3] * values[start:end, h].mean(0)
            heads.append(total)
        mixed = torch.from_numpy(np.concatenate(heads)).float()
        with torch.no_grad():
            expected = lpa.output(mixed)
        torch.testing.assert_close(seen["y"][0, frame], expected, atol=1e-4, rtol=1e-4)
    hidden = seen["x"].shape[1] * view.frame_seconds
    # The last frame begins where a whole receptive field is left.
    left = len(waveform) - hidden * 16_000
    assert float(view.seconds(0)) >= 0 and 0 <= left < loaded.receptive_field


@pytest.mark.parametrize("pulses", [{"anchor": "utterance", "periodic": 0}, {"aperiodic": 0}])
def test_models_without_a_family_or_with_the_other_anchor_are_drawn(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, pulses: dict[str, Any]
) -> None:
    from lpa_export.training.teacher import CHARACTERS

    model = load_checkpoint(tiny_checkpoint(layers=())).model
    replace_layers(model, [1], LPAConfig(32, 2, **pulses))
    folder = save_checkpoint(
        tmp_path / "model", model, CHARACTERS, LPASection((1,), Pulses(**pulses), temperature=0.2)
    )
    out = tmp_path / "windows"
    audio = load_utterances(None)[1].audio
    command = ["windows", "--checkpoint", str(folder), "--audio", str(audio), "--out", str(out)]
    assert main(command) == 0
    _picture(out / "layer-1.png")


def test_what_cannot_be_drawn_is_said_in_one_line(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "windows")]
    assert main(["windows", "--checkpoint", str(tiny_checkpoint(layers=())), *out]) == 2
    assert main(["windows", "--audio", str(tmp_path / "nothing.wav"), *out]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "has no LPA layer" in first and "nothing.wav" in second
    assert not (tmp_path / "windows").exists()


def test_a_separator_is_drawn_within_its_loudest_chunk_and_across_chunks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = SepFormerConfig(
        sampling_rate=8000, sources=1, filters=16, kernel_size=32, hidden_size=16, chunk=100,
        blocks=1, intra_layers=1, inter_layers=1, num_attention_heads=2, intermediate_size=16,
    )  # fmt: skip
    model = SepFormer(config).eval()
    replace_layers(model, (0, 1), LPAConfig(16, 2))
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    section = LPASection((0, 1), Pulses(), temperature=0.2)
    folder = save_separator(tmp_path / "quiet", model, section)
    # 0.2 s of loud noise from 1.42 s on: in one chunk of 0.2 s only, which begins at 1.4 s.
    rng = np.random.default_rng(0)
    heard = 0.001 * rng.standard_normal(3 * 16_000).astype(np.float32)
    heard[int(1.42 * 16_000) : int(1.58 * 16_000)] *= 300
    write_flac(tmp_path / "burst.flac", heard)
    within, across = view_separator(load_separator(folder), heard[::2].copy(), heard)
    assert [layer.layer for layer in within.layers] == [0]
    assert (within.frames, within.frame_seconds, within.first_second) == (100, 0.002, 0.0)
    assert within.mel_seconds == pytest.approx((0.0, 0.2))
    loud = np.quantile(across.log_mel, 0.96)
    assert np.median(within.log_mel) > loud > np.median(across.log_mel)
    # 1,499 frames, half a chunk of zeros in front and at least half a chunk behind.
    assert [layer.layer for layer in across.layers] == [1]
    assert (across.frames, across.frame_seconds) == pytest.approx((32, 0.1))
    assert across.seconds(0.5) == pytest.approx(0.0)
    out = tmp_path / "windows"
    audio = str(tmp_path / "burst.flac")
    command = ["windows", "--checkpoint", str(folder), "--audio", audio, "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.count("wrote") == 3
    for name in ("layer-0", "layer-1", "hardness"):
        _picture(out / f"{name}.png")
    plain = save_separator(tmp_path / "plain", SepFormer(config), None)
    assert main(["windows", "--checkpoint", str(plain), "--out", str(out)]) == 2
    assert "has no LPA layer" in capsys.readouterr().err
