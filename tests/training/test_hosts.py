"""Every host family can be swept, replaced and trained on; its attention is profiled as it is."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.formats.recipe import Recipe, load_recipe
from lpa_export.formats.speech import load_utterances
from lpa_export.hosts import encoder_layers, lpa_layers
from lpa_export.training.attention_profile import attention_profiles
from lpa_export.training.batches import SpeechSet, normalise, pad
from lpa_export.training.evaluate import encoder_frames, frame_lengths
from lpa_export.training.stages import Trainer, attention_teacher
from lpa_export.training.teacher import CHARACTERS

from ..conftest import HOST_VARIANTS

REACH = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def manifest(tone_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_folder(tmp_path_factory.mktemp("speech") / "clips", 4, seed=2)


@pytest.fixture(scope="module")
def recipe(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "host.yaml"
    path.write_text(
        f"name: host\ndata: {{train: [{manifest}], dev: {manifest}}}\n"
        "model: {checkpoint: any}\n"
        "teacher: {speeds: [1.0], noise_share: 0}\n"
        "lpa: {layers: [0], kernel_size: 5, max_offset: 4, max_width: 8}\n"
        "sweep: {steps: 1, batch_seconds: 4, seconds: 4}\n"
        "replace: {epochs_per_layer: 1, joint_epochs: 1, batch_seconds: 9}\n"
    )
    return load_recipe(path)


FAMILIES = (
    "wav2vec2 add_adapter",
    "hubert batch norm",
    "data2vec-audio",
    "unispeech pre-norm",
    "wavlm",
)
"""Between them all that training has to know of a host; the other variants are `slow`."""


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=() if name in FAMILIES else pytest.mark.slow)
        for name in HOST_VARIANTS
    ],
)
def test_every_family_is_swept_replaced_and_trained_on(
    variant: str, tiny_host: Callable[..., Any], recipe: Recipe, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "teacher", tiny_host(variant), CHARACTERS, None)
    trainer, source = Trainer(recipe), attention_teacher(folder)
    ranking = trainer.sweep(source, tmp_path / "sweep")
    assert set(ranking.order) == {0, 1}
    assert all(0 < fit.hard < np.inf for fit in ranking.fits)
    made = load_checkpoint(trainer.replace(source, tmp_path / "replace"))
    assert set(lpa_layers(made.model)) == {0} and made.lpa is not None
    assert made.model.config.model_type == source.model.config.model_type
    assert np.isfinite(list(made.lpa.figures.values())).all()
    control = load_checkpoint(trainer.replace(source, tmp_path / "control", control=True))
    assert not lpa_layers(control.model)
    head = source.model.lm_head.weight.half()
    for trained in (made, control):
        assert not torch.equal(trained.model.lm_head.weight.half(), head)
    with torch.no_grad():
        logits = [one.model(torch.randn(1, 9_000)).logits for one in (made, control)]
    assert all(one.isfinite().all() for one in logits)


def test_frames_of_encoder_and_output_are_those_of_the_model(
    host_variant: str, tiny_host: Callable[..., Any]
) -> None:
    model = tiny_host(host_variant)
    for samples in (8_000, 8_321, 16_000):
        batch = pad([np.zeros(samples, np.float32)], [[]])
        with torch.no_grad():
            out = model(batch.waveforms, output_hidden_states=True)
        assert int(encoder_frames(model, batch)) == out.hidden_states[0].shape[1]
        assert int(frame_lengths(model, batch)) == out.logits.shape[1]


def test_a_profile_is_the_mean_of_the_hosts_own_attention(
    host_variant: str, tiny_host: Callable[..., Any], manifest: Path
) -> None:
    """transformers gives the weights of each head; those of WavLM as their mean over heads."""
    model = tiny_host(host_variant)
    for layer in encoder_layers(model):
        attention: Any = layer.attention
        attention.q_proj.weight.data.mul_(4)
    speech = SpeechSet(load_utterances(manifest), CHARACTERS, receptive_field=1200)
    found = attention_profiles(model, [1], speech, reach=REACH)[1]
    model.set_attn_implementation("eager")
    near, counts = np.zeros((2, 2 * REACH + 1)), np.zeros(2 * REACH + 1)
    for index in range(len(speech)):
        waveform = torch.from_numpy(normalise(speech.clips[index][0]))[None]
        with torch.no_grad():
            maps = model(waveform, output_attentions=True).attentions[1][0].double().numpy()
        for query, key in product(range(maps.shape[-1]), repeat=2):
            if abs(key - query) <= REACH:
                near[:, REACH + key - query] += maps[:, query, key]
                counts[REACH + key - query] += 1
    relative = found.relative
    if host_variant.startswith("wavlm"):
        relative = np.broadcast_to(relative.mean(0), relative.shape)
    assert np.allclose(relative, near / counts, atol=1e-5)
