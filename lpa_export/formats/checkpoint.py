"""Checkpoints: a Hugging Face wav2vec2 folder, with an `lpa` section when layers are replaced.

A checkpoint is untrusted: safetensors only (a pickle is never opened), and the shapes in the file
are compared with the model that its config describes before any memory is taken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import new_folder
from lpa_export.formats.text import Vocabulary
from lpa_export.layers.config import Pulses

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lpa_export.hosts import Host
    from lpa_export.layers import LPAConfig

__all__ = [
    "FORMAT_VERSION",
    "SHIPPED",
    "Checkpoint",
    "LPASection",
    "load_checkpoint",
    "save_checkpoint",
]

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent.parent / "assets" / "model"
CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.json"
PREPROCESSOR = "preprocessor_config.json"
MAX_LAYERS = 200  # far above any speech encoder; a config is not trusted


@dataclass(frozen=True)
class LPASection:
    """What `config.json` says under `lpa`: which layers, their shape, and how training ended.

    `name` is what its bundles are called. `figures` holds measured numbers by name, for example
    the WER (percent) of the teacher and of the soft and the hard model; `hardness` one entry per
    replaced layer.
    """

    layers: tuple[int, ...]
    pulses: Pulses
    temperature: float
    name: str = ""
    hardness: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    training_data_sha256: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model: float32, in eval mode, LPA gates hard.

    `sha256` covers config, weights, vocabulary and preprocessor; `lpa` is None when nothing is
    replaced.
    """

    model: Any  # a model of transformers with a CTC head, of one of `hosts.HOSTS`
    vocabulary: Vocabulary
    lpa: LPASection | None
    name: str
    sha256: str
    do_normalize: bool

    @property
    def replaced(self) -> tuple[int, ...]:
        """Indices of the encoder layers that are LPA."""
        return self.lpa.layers if self.lpa else ()

    @property
    def receptive_field(self) -> int:
        """The fewest samples that give an output frame."""
        from lpa_export.hosts.frames import FrameArithmetic

        return FrameArithmetic.of(self.model.config).receptive_field


def load_checkpoint(source: str | Path | None = None) -> Checkpoint:
    """Load a folder or a Hugging Face hub id; None loads the model that ships with the package.

    Raises LpaError when it is missing, corrupt, a pickle, of a newer format, of another
    architecture, or when weights are missing, of the wrong shape, or not finite.
    """
    from lpa_export.hosts import host_named

    folder = _folder(source)
    config = _read_json(folder / CONFIG)
    host = host_named(config.get("model_type"), folder / CONFIG)
    section = _section(config.pop("lpa", None), folder / CONFIG)
    vocabulary = Vocabulary.from_json(folder / VOCABULARY)
    if len(vocabulary) != config.get("vocab_size", 32):
        raise LpaError(
            f"{folder / VOCABULARY}: {len(vocabulary)} tokens, but {CONFIG} says vocab_size "
            f"{config.get('vocab_size', 32)}"
        )
    model = _build(host, config, section, _weights_file(folder))
    preprocessor = folder / PREPROCESSOR
    do_normalize = (
        _read_json(preprocessor).get("do_normalize", True) if preprocessor.is_file() else True
    )
    return Checkpoint(
        model=model,
        vocabulary=vocabulary,
        lpa=section,
        name=(section.name if section else "") or _plain_name(source, folder),
        sha256=_digest(folder),
        do_normalize=bool(do_normalize),
    )


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    section: LPASection | None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write `model` as a checkpoint folder; `half` stores float16 (it loads as float32 again).

    Raises LpaError when the folder exists or cannot be written; nothing is left half-written.
    """
    import torch
    from safetensors.torch import save_file

    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    config["dtype"] = "float16" if half else "float32"
    if section is not None:
        config["lpa"] = asdict(section)
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: (t.detach().to(dtype) if t.is_floating_point() else t.detach()).contiguous()
        for name, t in model.state_dict().items()
    }
    with new_folder(folder, overwrite=overwrite, proof=CONFIG) as new:
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        _write_json(new / CONFIG, config)
        vocabulary.write_json(new / VOCABULARY)
        _write_json(new / PREPROCESSOR, _PREPROCESSOR)
        _write_json(new / "tokenizer_config.json", _tokenizer(vocabulary))
    return folder


_PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16_000,
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": True,
}


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    blank = vocabulary.tokens[vocabulary.blank]
    return {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": blank,
        "unk_token": blank,
        "bos_token": None,
        "eos_token": None,
        "word_delimiter_token": vocabulary.word_delimiter,
        "do_lower_case": False,
    }


def _folder(source: str | Path | None) -> Path:
    if source is None:
        return SHIPPED
    folder = Path(source)
    if folder.is_dir():
        return folder
    parts = str(source).split("/")
    local = Path(parts[0]).is_dir()  # a mistyped folder, not somebody's hub repository
    if folder.exists() or local or len(parts) != 2 or not all(parts) or str(source).startswith("."):
        raise LpaError(f"{source}: no such checkpoint folder, and no hub id (owner/name) either")
    return _download(str(source))


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, WEIGHTS, VOCABULARY, PREPROCESSOR]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except Exception as error:  # the hub client raises many unrelated types
        reason = (
            str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        )
        raise LpaError(
            f"{hub_id}: no such folder, and the Hugging Face hub did not give it ({reason})"
        ) from error


def _plain_name(source: str | Path | None, folder: Path) -> str:
    return (
        str(source).replace("/", "--")
        if source and not Path(source).is_dir()
        else folder.resolve().name
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LpaError(
            f"{path}: missing; a checkpoint folder has {CONFIG}, {WEIGHTS}, {VOCABULARY}"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise LpaError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise LpaError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "pulses": (dict, "an object"),
    "temperature": ((int, float), "a number"),
    "name": (str, "a text"),
    "hardness": (dict, "an object"),
    "figures": (dict, "an object"),
    "training_data_sha256": (str, "a text"),
}


def _section(content: Any, place: Path) -> LPASection | None:
    """The `lpa` section, checked; None when there is none."""
    if content is None:
        return None
    if not isinstance(content, dict):
        raise LpaError(f"{place}: 'lpa' must be an object, found {type(content).__name__}")
    version = content.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise LpaError(f"{place}: 'lpa' has no usable format_version, found {version!r}")
    if version > FORMAT_VERSION:
        raise LpaError(
            f"{place}: lpa format {version} is newer than this tool's {FORMAT_VERSION}: "
            "update lpa-export"
        )
    known = {f.name for f in fields(LPASection)}
    missing = {"layers", "pulses", "temperature"} - content.keys()
    unknown = content.keys() - known
    if missing or unknown:
        what = f"lacks {sorted(missing)}" if missing else f"has unknown keys {sorted(unknown)}"
        raise LpaError(f"{place}: the lpa section {what}")
    for key, (kind, expected) in _KINDS.items():
        if key in content and not isinstance(content[key], kind):
            raise LpaError(f"{place}: lpa {key} must be {expected}, found {content[key]!r}")
    layers = content["layers"]
    if not isinstance(layers, list) or not all(type(i) is int for i in layers):
        raise LpaError(f"{place}: lpa layers must be a list of integers, found {layers!r}")
    try:
        pulses = Pulses(**content["pulses"])
    except (TypeError, ValueError) as error:
        raise LpaError(f"{place}: lpa pulses: {error}") from error
    return LPASection(**content | {"layers": tuple(layers), "pulses": pulses})


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.is_file():
        return path
    pickles = sorted(
        p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern)
    )
    if pickles:
        raise LpaError(
            f"{folder}: only pickled weights ({pickles[0]}), which are never opened: save the "
            "model with save_pretrained (safetensors)"
        )
    raise LpaError(f"{path}: missing; expected the weights as safetensors")


def _build(
    host: Host, config: dict[str, Any], section: LPASection | None, weights: Path
) -> PreTrainedModel:
    """The model of `config` with the tensors of `weights`, float32, eval, gates hard."""
    import torch

    from lpa_export.hosts import lpa_layers, replace_layers

    layers = config.get("num_hidden_layers", 12)
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise LpaError(
            f"{weights.with_name(CONFIG)}: num_hidden_layers is {layers!r}, expected 1 to "
            f"{MAX_LAYERS}"
        )
    try:
        with torch.device("meta"):
            model = host.build(host.config(config))
            if section is not None:
                replace_layers(model, section.layers, _lpa_config(section, model.config))
    except LpaError as error:
        raise LpaError(f"{weights.with_name(CONFIG)}: {error}") from error
    except Exception as error:  # transformers raises many types for a config it cannot build
        reason = " ".join(str(error).split())[:200]
        raise LpaError(f"{weights.with_name(CONFIG)}: describes no model ({reason})") from error
    optional = f"{host.backbone}.{_OPTIONAL}"
    tensors = _read_tensors(weights, model.state_dict(), optional)
    model.load_state_dict(tensors, assign=True)
    for lpa in lpa_layers(model).values():
        lpa.hard = True
        lpa.temperature = section.temperature if section else lpa.temperature
    return model.eval()


def _lpa_config(section: LPASection, host: Any) -> LPAConfig:
    from lpa_export.layers import LPAConfig

    try:
        return LPAConfig(host.hidden_size, host.num_attention_heads, **section.pulses.shape)
    except (TypeError, ValueError) as error:
        raise LpaError(f"lpa pulses: {error}") from error


# Names that older transformers wrote for the weight norm of the positional convolution, and the
# embedding that only SpecAugment uses: a model without masking has none.
_RENAMED = {"conv.weight_g": "conv.parametrizations.weight.original0",
            "conv.weight_v": "conv.parametrizations.weight.original1"}  # fmt: skip
_OPTIONAL = "masked_spec_embed"


def _read_tensors(
    path: Path, wanted: Mapping[str, torch.Tensor], optional: str
) -> dict[str, torch.Tensor]:
    """Every tensor that is wanted, numbers as float32; LpaError names the first that fits not."""
    import torch
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = {_current_name(name): name for name in file.keys()}  # noqa: SIM118 - no dict
            missing = sorted(wanted.keys() - names.keys() - {optional})
            if missing:
                raise LpaError(
                    f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}"
                )
            if optional not in wanted:
                names.pop(optional, None)
            unknown = sorted(names.keys() - wanted.keys())
            if unknown:
                raise LpaError(
                    f"{path}: {len(unknown)} tensors belong to no layer, the first is {unknown[0]}"
                )
            for name in names:
                found = tuple(file.get_slice(names[name]).get_shape())
                expected = wanted[name]
                if found != tuple(expected.shape):
                    raise LpaError(
                        f"{path}: {name} has shape {found}, expected {tuple(expected.shape)}"
                    )
                # Counters of batch norms stay whole numbers.
                kind = torch.float32 if expected.is_floating_point() else expected.dtype
                tensors[name] = file.get_tensor(names[name]).to(kind)
                if not torch.isfinite(tensors[name]).all():
                    raise LpaError(f"{path}: {name} holds NaN or infinite values")
    except (SafetensorError, OSError) as error:
        raise LpaError(f"{path}: not a readable safetensors file ({error})") from error
    if optional in wanted and optional not in tensors:
        tensors[optional] = torch.zeros(wanted[optional].shape)
    return tensors


def _current_name(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, VOCABULARY, PREPROCESSOR):
        if not (folder / name).is_file():
            continue
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
