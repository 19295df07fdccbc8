"""Random small checkpoints of the kinds that people have, written as transformers writes them.

A seed gives one checkpoint, always the same: family, sizes, norms, vocabulary, preprocessing, the
form it is stored in, layers replaced by LPA. Beside the folder stands the model as it was made and
a tokenizer with every setting written out, so that what the folder must give is known without
reading it.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from lpa_export.formats.checkpoint import LPASection, save_checkpoint
from lpa_export.formats.preprocessing import Preprocessing
from lpa_export.formats.tokenizer import read_vocabulary
from lpa_export.hosts import lpa_layers, replace_layers
from lpa_export.layers import LPAConfig, Pulses
from tests.conftest import HOST_VARIANTS, as_if_trained

__all__ = ["Drawn", "draw"]


@dataclass(frozen=True)
class Drawn:
    """A checkpoint on disk, what it must give, and how it came about (``choices``)."""

    folder: Path
    choices: Mapping[str, Any]
    model: Any
    tokenizer: Any
    extractor: Any
    waveform: np.ndarray
    """(samples,) at 16 kHz, long enough for a few frames."""

    def said(self) -> str:
        """The text by transformers' own pipeline, from the model that was made."""
        pipeline: Any = transformers.pipeline(
            "automatic-speech-recognition",
            model=self.model,
            tokenizer=self.tokenizer,
            feature_extractor=self.extractor,
        )
        answer = pipeline({"raw": self.waveform.copy(), "sampling_rate": 16_000})
        return str(answer["text"]).strip()


ALPHABETS: Mapping[str, tuple[str, ...]] = {
    "lower": tuple("abcdefghijklmnopqrstuvwxyz'"),
    "upper": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ'"),
    "both cases": tuple("abcdeABCDE"),
    "turkish": tuple("abcçdefgğhıijklmnoöprsştuüvyz"),  # noqa: RUF001
    "greek": tuple("αβγδεζηθικλμνξοπρσςτυφχψω"),
    "cyrillic": tuple("абвгдеёжзийклмнопрстуфхцчшщъыьэюя-"),
    "german": tuple("abcdefghijklmnopqrstuvwxyzäöüß’"),  # noqa: RUF001
    "han": tuple("你好世界天地人大小上下左右"),
    "arabic": tuple("ابتثجحخدذرزسشصضطظعغفقكلمنهوي"),
    "long tokens": ("a", "b", "c", "sch", "th", "tʃ", "dʒ", "ŋ", "ː"),  # noqa: RUF001
    "odd": ("a", "b", "<script>", "&amp;", '"', "\\", "\u200d", "\u0301", ".", ",", "1"),
}
_PADS = ("<pad>", "[PAD]", "_", "<blank>", "<epsilon>", "ε-")
_DELIMITERS = ("|", "|", "|", " ", "▁", None)


def draw(seed: int, folder: Path) -> Drawn:
    """The checkpoint of that seed, written into ``folder`` (which must not exist)."""
    random_ = random.Random(seed)
    torch.manual_seed(seed)
    choices: dict[str, Any] = {"seed": seed}
    tokens, named = _vocabulary(random_, choices)
    width = len(tokens) + choices["unnamed"]
    model = _model(random_, choices, width, tokens.index(named["pad_token"]))
    settings = {**named, "do_lower_case": choices["do_lower_case"]}
    extractor = transformers.Wav2Vec2FeatureExtractor(
        do_normalize=choices["do_normalize"],
        return_attention_mask=model.config.feat_extract_norm == "layer",
    )
    _STORE.get(choices["storage"], _as_saved)(model, folder)
    _write_texts(folder, tokens, settings, extractor, choices)
    vocab = folder.with_name(f"{folder.name}.vocab.json")
    vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(vocab), **settings)
    if choices["replaced"]:
        _replace(model, folder, choices)
    return Drawn(folder, choices, model, tokenizer, extractor, _waveform(seed, random_, model))


def _vocabulary(
    random_: random.Random, choices: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Tokens by id, and the tokenizer's settings."""
    choices["alphabet"] = random_.choice(list(ALPHABETS))
    letters = list(ALPHABETS[choices["alphabet"]])
    random_.shuffle(letters)
    letters = letters[: random_.randint(3, len(letters))]
    choices["pad"] = pad = random_.choice(_PADS)
    choices["delimiter"] = delimiter = random_.choice(_DELIMITERS)
    unknown = random_.choice(("<unk>", "[UNK]"))
    ends = ["<s>", "</s>"] if random_.random() < 0.4 else []
    extra = [token for token in (pad, delimiter, unknown, *ends) if token is not None]
    place = random_.choice(("first", "last", "between"))
    choices["special tokens"] = place
    if place == "between":
        tokens = letters + extra
        random_.shuffle(tokens)
    else:
        tokens = extra + letters if place == "first" else letters + extra
    choices["do_lower_case"] = random_.random() < 0.1
    choices["added"] = random_.random() < 0.2
    choices["unnamed"] = random_.choice((0, 0, 0, 1, 2)) if not choices["added"] else 0
    choices["vocabulary"] = tokens
    settings = {
        "pad_token": pad,
        "unk_token": unknown,
        "bos_token": ends[0] if ends else None,
        "eos_token": ends[1] if ends else None,
        "word_delimiter_token": delimiter,
    }
    return tokens, settings


def _model(random_: random.Random, choices: dict[str, Any], width: int, blank: int) -> Any:
    choices["variant"] = random_.choice(list(HOST_VARIANTS))
    prefix, differing = HOST_VARIANTS[choices["variant"]]
    heads = random_.choice((1, 2, 4))
    hidden = heads * random_.choice((8, 12, 16))
    convolutions = random_.choice(
        (((400, 3), (160, 2)), ((10, 3, 3), (5, 4, 8)), ((320,), (320,)), ((64, 8, 4), (16, 8, 2)))
    )
    groups = random_.choice([n for n in (1, 2, 4) if hidden % n == 0])
    sizes: dict[str, Any] = {
        "vocab_size": width,
        "pad_token_id": blank,
        "hidden_size": hidden,
        "num_hidden_layers": random_.randint(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": random_.choice((17, 32, 64)),
        "conv_dim": tuple(random_.choice((8, 12, 16)) for _ in convolutions[0]),
        "conv_kernel": convolutions[0],
        "conv_stride": convolutions[1],
        "conv_bias": random_.random() < 0.5,
        "feat_extract_norm": random_.choice(("group", "layer")),
        "feat_extract_activation": random_.choice(("gelu", "relu")),
        "hidden_act": random_.choice(("gelu", "gelu", "relu", "gelu_new")),
        "num_conv_pos_embeddings": random_.choice((3, 8, 16)),
        "num_conv_pos_embedding_groups": groups,
        "layer_norm_eps": random_.choice((1e-5, 1e-6)),
    }
    config = getattr(transformers, f"{prefix}Config")(**sizes | differing)
    choices |= {key: value for key, value in sizes.items() if key != "vocab_size"}
    choices["do_normalize"] = random_.random() < 0.6
    choices["stated in"] = random_.choice(
        ("processor_config.json", "preprocessor_config.json", "both", "nowhere")
    )
    if choices["stated in"] == "nowhere":
        choices["do_normalize"] = True
    choices["storage"] = random_.choice((*_STORE, _WITH_LPA, _WITH_LPA))
    layers = list(range(config.num_hidden_layers))
    chosen = random_.sample(layers, random_.choice((1, len(layers))))
    choices["replaced"] = sorted(chosen) if choices["storage"] == _WITH_LPA else []
    model = getattr(transformers, f"{prefix}ForCTC")(config).eval()
    as_if_trained(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # or its biases alone would choose the letters
    return model


def _as_saved(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def _in_shards(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="20KB")


def _in_half(model: Any, folder: Path) -> None:
    """Float16 on disk; the model takes the rounded weights back."""
    model.half().save_pretrained(folder)
    model.float()


def _with_old_names(model: Any, folder: Path) -> None:
    """The names of weight norm before torch 2, as most checkpoints on the hub have them."""
    _rewritten(model, folder, {"original0": "weight_g", "original1": "weight_v"})


def _with_leftovers(model: Any, folder: Path) -> None:
    """Tensors of pre-training, which transformers passes over."""
    _rewritten(model, folder, {})
    path = folder / "model.safetensors"
    more = {"quantizer.codevectors": torch.zeros(1, 4, 2), "project_q.bias": torch.zeros(3)}
    save_file(load_file(path) | more, path, metadata={"format": "pt"})


def _rewritten(model: Any, folder: Path, renamed: Mapping[str, str]) -> None:
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {}
    for name, tensor in load_file(path).items():
        for new, old in renamed.items():
            name = name.replace(f"parametrizations.weight.{new}", old)
        tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


_WITH_LPA = "with LPA"

_STORE: Mapping[str, Callable[[Any, Path], None]] = {
    "as saved": _as_saved,
    "in shards": _in_shards,
    "in half": _in_half,
    "old names": _with_old_names,
    "leftovers": _with_leftovers,
}


def _write_texts(
    folder: Path,
    tokens: list[str],
    settings: Mapping[str, Any],
    extractor: Any,
    choices: Mapping[str, Any],
) -> None:
    """The tokenizer's and the feature extractor's files."""
    ids = {token: index for index, token in enumerate(tokens)}
    added = {}
    if choices["added"] and tokens[-1] not in settings.values():
        added = {tokens[-1]: ids.pop(tokens[-1])}
    contents = {"vocab.json": ids, "tokenizer_config.json": dict(settings)}
    if added:
        contents["added_tokens.json"] = added
    stated = extractor.to_dict()
    if choices["stated in"] in ("processor_config.json", "both"):
        contents["processor_config.json"] = {"feature_extractor": stated}
    if choices["stated in"] == "preprocessor_config.json":
        contents["preprocessor_config.json"] = stated
    if choices["stated in"] == "both":  # an older version's, which transformers passes over
        other = stated | {"do_normalize": not choices["do_normalize"]}
        contents["preprocessor_config.json"] = other
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), "utf-8")


def _replace(model: Any, folder: Path, choices: Mapping[str, Any]) -> None:
    """The folder written anew by this package, with LPA in the layers drawn, gates hard."""
    config, layers = model.config, tuple(choices["replaced"])
    blank, width = config.pad_token_id, config.vocab_size
    vocabulary = read_vocabulary(folder, width=width, blank=blank)
    pulses = Pulses(aperiodic=2, periodic=1, positional=1)
    shape = LPAConfig(config.hidden_size, config.num_attention_heads, **pulses.shape)
    replace_layers(model, layers, shape)
    for lpa in lpa_layers(model).values():
        lpa.hard = True
    save_checkpoint(
        folder,
        model,
        vocabulary,
        LPASection(layers, pulses, temperature=0.1, name="drawn"),
        overwrite=True,
        preprocessing=Preprocessing(do_normalize=choices["do_normalize"]),
    )


def _waveform(seed: int, random_: random.Random, model: Any) -> np.ndarray:
    """Noise whose loudness changes, not centred; half a second to a second and a half."""
    generator = np.random.default_rng(seed)
    samples = random_.randint(8_000, 24_000)
    loudness = 0.5 + 0.4 * np.sin(np.arange(samples) / random_.randint(800, 4_000))
    noise = loudness * generator.standard_normal(samples)
    return (random_.choice((0.02, 0.3)) * noise + random_.choice((0, 0.1))).astype(np.float32)
