"""The doorway to the original model, on a small one of Hugging Face's with random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lpa_validate.reference import open_reference
from msgspec.structs import replace

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import Bundle
from lpa_export.formats.text import Vocabulary
from tests.manifests import restated


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer wav2vec2."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    from lpa_export.formats.checkpoint import save_checkpoint

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 4),
        conv_stride=(10, 16),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        vocab_size=4,
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_checkpoint(folder, Wav2Vec2ForCTC(config), Vocabulary(("<pad>", "|", "A", "B")), None)
    return folder


def test_a_checkpoint_gives_logits_and_stages_in_order(
    make_bundle: Callable[..., Bundle], checkpoint: Path
) -> None:
    from lpa_export.formats.checkpoint import load_checkpoint

    sha256 = load_checkpoint(checkpoint).sha256
    bundle = make_bundle()
    source = replace(bundle.manifest.checkpoint, sha256=sha256)
    model, problem = open_reference(restated(bundle, checkpoint=source), checkpoint)
    assert model is not None, problem
    assert model.identity.sha256 == sha256
    waveform = np.random.default_rng(0).normal(0, 0.1, 3_200).astype(np.float32)
    stages = model.taps(waveform)
    assert list(stages) == [
        "features",
        "projection",
        "encoder.embed",
        "encoder.layers.0",
        "encoder.layers.1",
        "logits",
    ]
    np.testing.assert_array_equal(stages["logits"], model.logits(waveform))
    assert stages["logits"].shape == (len(stages["features"]), 4)
    assert model.text(np.eye(4, dtype=np.float32)[[2, 2, 0, 2, 1, 3]]) == "AA B"


def test_nothing_of_the_exporters_loader_takes_part(
    make_bundle: Callable[..., Bundle], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mistakes would be in both models, and in no comparison."""
    from lpa_export.formats.source import checkpoint_sha256

    bundle = make_bundle()
    source = replace(bundle.manifest.checkpoint, sha256=checkpoint_sha256(checkpoint))
    for name in ("load_checkpoint", "read_preprocessing", "read_vocabulary", "read_tensors"):
        monkeypatch.setattr(f"lpa_export.formats.checkpoint.{name}", pytest.fail)
    model, problem = open_reference(restated(bundle, checkpoint=source), checkpoint)
    assert model is not None, problem
    assert model.text(model.logits(np.ones(3_200, np.float32))).isascii()


def test_another_checkpoint_than_the_bundles_is_refused(
    make_bundle: Callable[..., Bundle], checkpoint: Path
) -> None:
    with pytest.raises(LpaError, match="give the checkpoint the bundle was made from"):
        open_reference(make_bundle(), checkpoint)
