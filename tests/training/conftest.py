"""A toy task that a toy model learns in seconds: two tones, two letters."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lpa_export.formats.audio import write_flac

TONES = {"A": 400.0, "B": 2500.0}


@pytest.fixture(scope="session")
def tone_folder() -> Callable[..., Path]:
    """`tone_folder(folder, count, seed)`: clips of one to three tones, a word of A or B each."""

    def make(folder: Path, count: int, seed: int) -> Path:
        rng = np.random.default_rng(seed)
        folder.mkdir()
        rows = []
        for index in range(count):
            words = rng.choice(list(TONES), size=rng.integers(1, 4))
            pieces = [_tone(TONES[word], rng) for word in words]
            write_flac(folder / f"{index}.flac", np.concatenate(pieces))
            rows.append(
                {
                    "audio_filepath": f"{index}.flac",
                    "text": " ".join(words),
                    "speaker": f"speaker{index % 2}",
                }
            )
        manifest = folder / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return manifest

    return make


@pytest.fixture
def tone_manifest(tmp_path: Path, tone_folder: Callable[..., Path]) -> Callable[..., Path]:
    """`tone_manifest(name, count, seed)`: such a folder in the test's own."""

    def make(name: str, count: int, seed: int) -> Path:
        return tone_folder(tmp_path / name, count, seed)

    return make


def _tone(hertz: float, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(3_200) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * hertz * time) * np.hanning(3_200)
    padded = np.concatenate([np.zeros(1_600), tone, np.zeros(1_600)])
    return (padded + 0.003 * rng.standard_normal(len(padded))).astype(np.float32)


@pytest.fixture
def toy_recipe(tmp_path: Path, tone_manifest: Callable[..., Path]) -> Callable[..., Path]:
    """`toy_recipe(epochs, clips)`: a recipe file over the tones, model of three narrow layers."""

    def make(epochs: int = 1, clips: int = 12) -> Path:
        train = tone_manifest("train", clips, seed=0)
        dev = tone_manifest("dev", clips // 4, seed=1)
        path = tmp_path / "toy.yaml"
        path.write_text(
            f"""
name: toy
data: {{train: [{train}], dev: {dev}}}
model:
  architecture:
    hidden_size: 32
    layers: 3
    heads: 2
    intermediate_size: 64
    conv_dim: [32, 32]
    conv_kernel: [400, 3]
    conv_stride: [160, 2]
    conv_bias: true
    feat_extract_norm: layer
    positional_kernel: 8
    positional_groups: 2
    norm: pre
teacher:
  epochs: {epochs}
  learning_rate: 5.0e-3
  batch_seconds: 4
  time_mask_probability: 0
  feature_mask_probability: 0
  dropout: 0
  noise_share: 0.1
  speeds: [1.0]
  frontend_steps: 3
  average_epochs: 2
lpa: {{layers: [0, 1], kernel_size: 5, max_offset: 4, max_width: 8}}
replace:
  epochs_per_layer: 1
  joint_epochs: 1
  learning_rate: 2.0e-3
  joint_learning_rate: 2.0e-3
  batch_seconds: 6
"""
        )
        return path

    return make
