"""Checkpoints of models that separate or enhance speech: config.json and model.safetensors.

The configuration is `SepFormerConfig`'s; where layers are replaced it has the `lpa` section of any
checkpoint (layers are counted in the order of computation). The tensors have SpeechBrain's names,
`encoder.`, `masknet.` or `decoder.` in front. Untrusted, as `checkpoint` says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder
from lpa_export.formats.json_files import read_json
from lpa_export.formats.lpa_section import LPASection, harden_gates, put_in, read_section
from lpa_export.formats.source import (
    CONFIG,
    checkpoint_folder,
    checkpoint_name,
    checkpoint_sha256,
)
from lpa_export.formats.weights import (
    WEIGHTS,
    Weights,
    find_weights,
    read_tensors,
    store_tensors,
    tensor_names,
)

if TYPE_CHECKING:
    import torch

    from lpa_export.hosts.sepformer import SepFormer, SepFormerConfig

__all__ = [
    "Separator",
    "is_separator",
    "load_separator",
    "save_separator",
    "separator_config",
]

_SINUSOIDS = ".pos_enc.pe"
# Of numbers up to 1 that float32 rounds twice.
_SAME_SINUSOID = 1e-4


@dataclass(frozen=True)
class Separator:
    """A loaded model: float32, in eval mode, LPA gates hard.

    `sha256` covers every file that was read; `lpa` is None when nothing is replaced.
    """

    model: SepFormer
    lpa: LPASection | None
    name: str
    sha256: str

    @property
    def replaced(self) -> tuple[int, ...]:
        """Numbers of the layers that are LPA."""
        return self.lpa.layers if self.lpa else ()


def is_separator(source: str | Path | None, language: str | None = None) -> bool:
    """Whether a checkpoint says of itself that it separates speech; None is the shipped model.

    Raises LpaError for a folder that is not there.
    """
    from lpa_export.hosts.sepformer import MODEL_TYPE

    place = checkpoint_folder(source, language) / CONFIG
    return place.is_file() and read_json(place).get("model_type") == MODEL_TYPE


def load_separator(source: str | Path) -> Separator:
    """Load a folder or a Hugging Face hub id.

    Raises LpaError when it is missing, corrupt, pickled (with the way to convert it), of a newer
    format or another architecture, or when weights are missing, of the wrong shape or not finite.
    """
    folder = checkpoint_folder(source)
    weights = find_weights(folder)
    config, section = _read_config(folder)
    return Separator(
        model=_build(config, section, weights, folder / CONFIG),
        lpa=section,
        name=(section.name if section else "") or checkpoint_name(source, folder),
        sha256=checkpoint_sha256(folder),
    )


def separator_config(source: str | Path) -> SepFormerConfig:
    """The shape alone of a model in a folder or on the hub. Raises LpaError as `load_separator`."""
    return _read_config(checkpoint_folder(source))[0]


def _read_config(folder: Path) -> tuple[SepFormerConfig, LPASection | None]:
    from lpa_export.hosts.sepformer import SepFormerConfig

    place = folder / CONFIG
    content = read_json(place, f"; a checkpoint folder has {CONFIG} and {WEIGHTS}")
    section = read_section(content.pop("lpa", None), place)
    return SepFormerConfig.from_json(content, place), section


def save_separator(
    folder: Path,
    model: SepFormer,
    section: LPASection | None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write `model` as a checkpoint folder; `half` stores float16 (it loads as float32 again).

    Raises LpaError when the folder exists or cannot be written; nothing is left half-written.
    """
    import torch

    content = model.config.to_json() | ({} if section is None else {"lpa": asdict(section)})
    dtype = torch.float16 if half else torch.float32
    tensors = {n: t.detach().to(dtype) for n, t in model.state_dict().items()}
    with new_folder(folder, overwrite=overwrite, proof=CONFIG) as new:
        store_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        (new / CONFIG).write_text(text, encoding="utf-8")
    return folder


def _build(
    config: SepFormerConfig, section: LPASection | None, weights: Weights, place: Path
) -> SepFormer:
    import torch

    from lpa_export.hosts.sepformer import SepFormer

    with torch.device("meta"):
        model = SepFormer(config)
        if section is not None:
            put_in(model, section, place)
    model.load_state_dict(_tensors(weights, model), assign=True)
    harden_gates(model, section)
    return model.eval()


def _tensors(weights: Weights, model: SepFormer) -> dict[str, torch.Tensor]:
    """What the model wants. SpeechBrain stores its sinusoids too: they must be the computed ones.

    Raises LpaError for what is missing, of no place, of another shape or not finite.
    """
    import torch

    from lpa_export.hosts.sepformer import sinusoids

    stored = sorted(name for name in tensor_names(weights) if name.endswith(_SINUSOIDS))
    wanted = dict(model.state_dict())
    width, longest = model.config.hidden_size, 2500  # SpeechBrain's longest sequence
    for name in stored:
        wanted[name] = torch.empty(1, longest, width, device="meta")
    tensors = read_tensors(weights, wanted)
    for name in stored:
        found = tensors.pop(name)
        if not torch.allclose(found[0], sinusoids(longest, width), rtol=0, atol=_SAME_SINUSOID):
            raise LpaError(f"{weights.first}: {name} holds other positions than sinusoids")
    return tensors
