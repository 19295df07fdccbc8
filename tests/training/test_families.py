"""A checkpoint of another family than wav2vec2: ranked, replaced, loaded again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpa_export.commands.train import main as train_main
from lpa_export.formats.checkpoint import load_checkpoint, save_checkpoint
from lpa_export.formats.text import Vocabulary
from lpa_export.hosts import lpa_layers

TOKENS = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@pytest.mark.parametrize(
    "family",
    [
        "hubert",
        "data2vec-audio",
        "wavlm",
        pytest.param("unispeech", marks=pytest.mark.slow),
        pytest.param("unispeech-sat", marks=pytest.mark.slow),
    ],
)
def test_a_family_is_swept_and_replaced(
    tmp_path: Path,
    tiny_host: Callable[..., Any],
    tone_manifest: Callable[..., Path],
    family: str,
) -> None:
    teacher = save_checkpoint(tmp_path / "teacher", tiny_host(family), TOKENS, None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
name: small
data: {{train: [{tone_manifest("train", 6, 0)}], dev: {tone_manifest("dev", 3, 1)}}}
model: {{checkpoint: {teacher}}}
lpa: {{layers: [0], kernel_size: 5, max_offset: 4, max_width: 8}}
sweep: {{steps: 2, seconds: 6, batch_seconds: 3}}
replace: {{epochs_per_layer: 1, joint_epochs: 1, batch_seconds: 6}}
"""
    )
    asked = ["--recipe", str(recipe)]
    assert train_main(["sweep", *asked, "--out", str(tmp_path / "sweep")]) == 0
    ranked = json.loads((tmp_path / "sweep" / "sweep.json").read_text("utf-8"))
    assert sorted(ranked["order"]) == [0, 1]
    assert train_main(["replace", *asked, "--out", str(tmp_path / "replaced")]) == 0
    places = [path.parent for path in (tmp_path / "replaced").rglob("model.safetensors")]
    loaded = [load_checkpoint(place) for place in places if (place / "config.json").is_file()]
    assert loaded
    for checkpoint in loaded:
        assert checkpoint.model.config.model_type == family
        assert set(lpa_layers(checkpoint.model)) == {0}
