"""Checkpoints: a Hugging Face folder of a known host family, with an `lpa` section where layers
are replaced.

A checkpoint is untrusted: safetensors only (a pickle is never opened), and the shapes in the file
are compared with the model that its config describes before any memory is taken for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder
from lpa_export.formats.json_files import read_json
from lpa_export.formats.lpa_section import (
    FORMAT_VERSION,
    LPASection,
    harden_gates,
    put_in,
    read_section,
)
from lpa_export.formats.preprocessing import PREPROCESSOR, Preprocessing, read_preprocessing
from lpa_export.formats.source import (
    CONFIG,
    SHIPPED,
    checkpoint_folder,
    checkpoint_name,
    checkpoint_sha256,
    language_adapter,
)
from lpa_export.formats.text import Vocabulary
from lpa_export.formats.tokenizer import languages_of, read_vocabulary, tokenizer_files
from lpa_export.formats.weights import (
    HEAD,
    WEIGHTS,
    Weights,
    find_weights,
    read_tensors,
    shape_of,
    store_tensors,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from lpa_export.hosts import Host

__all__ = [
    "FORMAT_VERSION",
    "SHIPPED",
    "Checkpoint",
    "LPASection",
    "load_checkpoint",
    "save_checkpoint",
]

# Far above any speech encoder; a config is not trusted.
MAX_LAYERS, MAX_SIZE = 200, 1 << 20

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "output_hidden_size",
    "adapter_kernel_size",
    "adapter_stride",
)
_RETURNED = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}
"""What a call of the model gives is for its caller to say."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model: float32, in eval mode, LPA gates hard.

    `model`: of transformers, with a CTC head, of one of `hosts.HOSTS`. `sha256` covers every file
    that was read; `lpa` is None when nothing is replaced, `language` where there is one only.
    """

    model: Any
    vocabulary: Vocabulary
    lpa: LPASection | None
    name: str
    sha256: str
    do_normalize: bool
    language: str | None = None

    @property
    def replaced(self) -> tuple[int, ...]:
        """Indices of the encoder layers that are LPA."""
        return self.lpa.layers if self.lpa else ()

    @property
    def receptive_field(self) -> int:
        """The fewest samples that give an output frame."""
        from lpa_export.hosts.frames import FrameArithmetic

        return FrameArithmetic.of(self.model.config).receptive_field


def load_checkpoint(source: str | Path | None = None, *, language: str | None = None) -> Checkpoint:
    """Load a folder or a Hugging Face hub id; None loads the model that ships with the package.

    `language` chooses among nested vocabularies and language adapters (MMS). Raises LpaError when
    it is missing, corrupt, a pickle, of a newer format, of another architecture, or when weights
    are missing, of the wrong shape, or not finite, and when its tokenizer or feature extractor is
    none that can be reproduced.
    """
    from lpa_export.hosts import host_named

    folder = checkpoint_folder(source, language)
    weights = find_weights(folder, language_adapter(folder, language))
    content = read_json(folder / CONFIG, f"; a checkpoint folder has {CONFIG} and {WEIGHTS}")
    host = host_named(content.get("model_type"), folder / CONFIG)
    section = read_section(content.pop("lpa", None), folder / CONFIG)
    config = _config(host, content, folder, weights)
    if language is not None and weights.overlay is None and not languages_of(folder):
        raise LpaError(f"{folder}: has one language only; leave --language out")
    preprocessing = read_preprocessing(folder)
    vocabulary = read_vocabulary(
        folder, width=config.vocab_size, blank=config.pad_token_id, language=language
    )
    return Checkpoint(
        model=_build(host, config, section, weights, folder / CONFIG),
        vocabulary=vocabulary,
        lpa=section,
        name=(section.name if section else "") or checkpoint_name(source, folder, language),
        sha256=checkpoint_sha256(folder, language),
        do_normalize=preprocessing.do_normalize,
        language=language,
    )


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    section: LPASection | None,
    *,
    half: bool = False,
    overwrite: bool = False,
    preprocessing: Preprocessing | None = None,
) -> Path:
    """Write `model` as a checkpoint folder; `half` stores float16 (it loads as float32 again).

    `preprocessing`: what its audio goes through first, normalised unless it says otherwise.
    Raises LpaError when the folder exists or cannot be written; nothing is left half-written.
    """
    import torch

    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    config["dtype"] = "float16" if half else "float32"
    if section is not None:
        config["lpa"] = asdict(section)
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: t.detach().to(dtype) if t.is_floating_point() else t.detach()
        for name, t in model.state_dict().items()
    }
    with new_folder(folder, overwrite=overwrite, proof=CONFIG) as new:
        store_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        _write_json(new / CONFIG, config)
        _write_json(new / PREPROCESSOR, (preprocessing or Preprocessing()).to_json())
        for name, text in tokenizer_files(vocabulary).items():
            (new / name).write_text(text, encoding="utf-8")
    return folder


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _config(host: Host, content: dict[str, Any], folder: Path, weights: Weights) -> Any:
    """The configuration; a language's adapter brings a head of its own width."""
    place = folder / CONFIG
    layers = content.get("num_hidden_layers", 12)
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise LpaError(f"{place}: num_hidden_layers is {layers!r}, expected 1 to {MAX_LAYERS}")
    for name in _SIZES:
        stated = content.get(name)
        for size in stated if isinstance(stated, list) else [stated]:
            if isinstance(size, int | float) and not 1 <= size <= MAX_SIZE:
                raise LpaError(f"{place}: {name} is {stated!r}, expected 1 to {MAX_SIZE}")
    try:
        config: Any = host.config(content | _RETURNED)
    except Exception as error:  # transformers raises many types for a config it cannot read
        raise LpaError(f"{place}: describes no model ({_line(error)})") from error
    if weights.overlay is not None:
        config.vocab_size = shape_of(weights.overlay, HEAD[0])[0]
    if type(config.vocab_size) is not int or config.vocab_size < 1:
        raise LpaError(f"{place}: vocab_size is {config.vocab_size!r}, expected a number above 0")
    return config


def _build(
    host: Host, config: PretrainedConfig, section: LPASection | None, weights: Weights, place: Path
) -> PreTrainedModel:
    """The model of `config` with the tensors of `weights`, float32, eval, gates hard."""
    import torch

    try:
        with torch.device("meta"):
            model = host.build(config)
            if section is not None:
                put_in(model, section, place)
    except LpaError:
        raise
    except Exception as error:  # transformers raises many types for a config it cannot build
        raise LpaError(f"{place}: describes no model ({_line(error)})") from error
    # Only SpecAugment uses this embedding: a model without masking has none.
    optional = f"{host.backbone}.masked_spec_embed"
    tensors = read_tensors(weights, model.state_dict(), optional)
    model.load_state_dict(tensors, assign=True)
    harden_gates(model, section)
    return model.eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
