"""The tensors of a checkpoint: safetensors only, one file or shards, never a pickle.

Files are untrusted: shapes are compared with the model that the config describes before any
memory is taken for a tensor, and a shard's name must be that of a file beside its index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.paths import names_a_file_inside

if TYPE_CHECKING:
    import torch

__all__ = ["HEAD", "INDEX", "WEIGHTS", "Weights", "find_weights", "read_tensors", "shape_of",
           "store_tensors", "tensor_names"]  # fmt: skip

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = ("lm_head.weight", "lm_head.bias")

# Names that older transformers wrote for the weight norm of the positional convolution.
_RENAMED = {"conv.weight_g": "conv.parametrizations.weight.original0",
            "conv.weight_v": "conv.parametrizations.weight.original1"}  # fmt: skip

# What the pretraining classes of these families have beside the encoder: no CTC model uses it, and
# transformers passes over it. Anything else that belongs to no layer is a mistake.
_OF_PRETRAINING = (
    "quantizer.",
    "project_hid.",
    "project_q.",
    "ctc_proj.",
    "speaker_proj.",
    "label_embeddings_concat",
    "layer_norm_for_extract.",
)

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HOW_TO_CONVERT = (
    "where you trust it, convert it: AutoModelForCTC.from_pretrained(it).save_pretrained(a new "
    "folder), which writes safetensors"
)
_HOW_TO_CONVERT_SPEECHBRAIN = (
    "where you trust it, convert it in SpeechBrain's environment: python "
    "lpa_export/hosts/sepformer/from_speechbrain.py it a-new-folder, which writes safetensors"
)
_HOW_TO_MERGE = (
    "merge it into its model first: "
    "PeftModel.from_pretrained(model, it).merge_and_unload().save_pretrained(a new folder)"
)


@dataclass(frozen=True)
class Weights:
    """Where the tensors lie: `first` names the weights in messages, `files` are all of them.

    `overlay`: a file whose tensors replace those of the same name (a language's adapter), or None.
    """

    first: Path
    files: tuple[Path, ...]
    overlay: Path | None = None


def find_weights(folder: Path, overlay: Path | None = None) -> Weights:
    """The weights of a folder; LpaError says what is there instead when there are none."""
    if (folder / WEIGHTS).is_file():
        return Weights(folder / WEIGHTS, (folder / WEIGHTS,), overlay)
    if (folder / INDEX).is_file():
        return Weights(folder / INDEX, _shards(folder / INDEX), overlay)
    if (folder / "adapter_config.json").is_file():
        raise LpaError(f"{folder}: a LoRA adapter, no whole model; {_HOW_TO_MERGE}")
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    if pickles:
        how = _HOW_TO_CONVERT_SPEECHBRAIN if "masknet.ckpt" in pickles else _HOW_TO_CONVERT
        raise LpaError(
            f"{folder}: only pickled weights ({pickles[0]}), which are never opened; {how}"
        )
    raise LpaError(f"{folder / WEIGHTS}: missing; expected the weights as safetensors")


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        stated = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(stated.values()))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise LpaError(f"{index}: not readable as an index of shards ({error})") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not names_a_file_inside(name):
            raise LpaError(f"{index}: {name!r} is no file beside the index")
        if not (index.parent / name).is_file():
            raise LpaError(f"{index}: the shard {name} is missing; download all of them")
    if not names:
        raise LpaError(f"{index}: names no shard")
    return tuple(index.with_name(name) for name in names)


def read_tensors(
    weights: Weights, wanted: Mapping[str, torch.Tensor], optional: str = ""
) -> dict[str, torch.Tensor]:
    """Every tensor that is wanted, numbers as float32; LpaError names the first that fits not.

    `wanted`: a state dict, of which only shapes and kinds are read. `optional`: a name that may
    be missing (it is zeros then), or there without being wanted.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    with ExitStack() as opened:
        places = _places(weights, opened)
        missing = sorted(wanted.keys() - places.keys() - {optional})
        unknown = sorted(
            name
            for name in places.keys() - wanted.keys() - {optional}
            if not name.startswith(_OF_PRETRAINING)
        )
        if missing or unknown:
            _refuse(weights.first, missing, unknown)
        for name, expected in wanted.items():
            if name in places:
                tensors[name] = _tensor(places[name], name, expected)
    if optional in wanted and optional not in tensors:
        tensors[optional] = torch.zeros(wanted[optional].shape)
    return tensors


def store_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to `path`, as readable as any other file of this process.

    safetensors 0.8 writes for the owner alone: no colleague and no service could load that.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata=None if metadata is None else dict(metadata))
    path.chmod(mode)


def tensor_names(weights: Weights) -> frozenset[str]:
    """Today's names of all tensors that are there; LpaError for files that are no safetensors."""
    with ExitStack() as opened:
        return frozenset(_places(weights, opened))


def shape_of(path: Path, name: str) -> tuple[int, ...]:
    """The shape of one tensor of a file; LpaError when it is not there."""
    with ExitStack() as opened:
        places = _places(Weights(path, (path,)), opened)
        if name not in places:
            raise LpaError(f"{path}: {name} is missing")
        return tuple(places[name].file.get_slice(places[name].name).get_shape())


@dataclass(frozen=True)
class _Place:
    """A tensor in an open file, under the name that it has there."""

    path: Path
    file: Any
    name: str


def _places(weights: Weights, opened: ExitStack) -> dict[str, _Place]:
    """Today's name of each tensor -> where it is; files that come later win."""
    from safetensors import SafetensorError, safe_open

    places: dict[str, _Place] = {}
    for path in (*weights.files, *([weights.overlay] if weights.overlay else [])):
        try:
            file = opened.enter_context(safe_open(path, framework="pt"))
            names = file.keys()
        except (SafetensorError, OSError) as error:
            raise LpaError(f"{path}: not a readable safetensors file ({error})") from error
        places |= {_current_name(name): _Place(path, file, name) for name in names}
    return places


def _tensor(place: _Place, name: str, expected: torch.Tensor) -> torch.Tensor:
    import torch
    from safetensors import SafetensorError

    try:
        found = tuple(place.file.get_slice(place.name).get_shape())
        if found != tuple(expected.shape):
            raise LpaError(
                f"{place.path}: {name} has shape {found}, expected {tuple(expected.shape)}"
            )
        # Counters of batch norms stay whole numbers.
        kind = torch.float32 if expected.is_floating_point() else expected.dtype
        tensor: torch.Tensor = place.file.get_tensor(place.name).to(kind)
    except (SafetensorError, OSError) as error:
        raise LpaError(f"{place.path}: not a readable safetensors file ({error})") from error
    if not torch.isfinite(tensor).all():
        raise LpaError(f"{place.path}: {name} holds NaN or infinite values")
    return tensor


def _refuse(path: Path, missing: list[str], unknown: list[str]) -> None:
    """Raise the LpaError that says what these tensors, or their absence, mean."""
    if any("lora_" in name or ".base_layer." in name for name in unknown):
        raise LpaError(f"{path}: LoRA adapters lie beside the weights; {_HOW_TO_MERGE}")
    if set(HEAD) <= set(missing):
        raise LpaError(
            f"{path}: no CTC head ({HEAD[0]} is missing): a pretrained encoder, or a model for "
            "another task; fine-tune it for CTC first"
        )
    if missing:
        raise LpaError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    raise LpaError(f"{path}: {len(unknown)} tensors belong to no layer, the first is {unknown[0]}")


def _current_name(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
