"""What SpeechBrain's own SepFormer computes: run in SpeechBrain's environment, from the repository.

    python -m tests.hosts.speechbrain_sepformer tiny OUT        the file that the tests compare with
    python -m tests.hosts.speechbrain_sepformer published OUT   25.7 M parameters, one second

Weights are seeded and random. A file holds them, the mixtures, SpeechBrain's estimates and, as its
metadata, the configuration. Without torchaudio, which only SpeechBrain's loaders use, a stand-in
takes its place.
"""

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

CONVERTER = Path(__file__).parents[2] / "lpa_export" / "hosts" / "sepformer" / "from_speechbrain.py"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "encoder_kernel_size": 4,
        "encoder_out_nchannels": 8,
        "masknet_chunksize": 10,
        "masknet_numspks": 2,
        "intra_numlayers": 2,
        "inter_numlayers": 1,
        "intra_nhead": 2,
        "inter_nhead": 2,
        "intra_dffn": 12,
        "inter_dffn": 12,
    },
    "published": {},
}
"""The published configuration is SpeechBrain's default."""

# Every number of frames modulo half a chunk, and of samples modulo the stride.
LENGTHS = {"tiny": range(50, 72), "published": range(8000, 8001)}
SAMPLING_RATE = 8000


def stand_in_for_torchaudio() -> None:
    """Let speechbrain be imported without torchaudio."""
    if importlib.util.find_spec("torchaudio") is None:
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            sys.modules[name] = module
        vars(sys.modules["torchaudio"]).update(
            list_audio_backends=lambda: ["soundfile"], __version__="2.13.0"
        )


def speechbrain_model(seed: int = 0, **sizes: Any) -> Any:
    """A SepformerWrapper of random weights, none of them at the value that hides a mistake."""
    stand_in_for_torchaudio()
    from speechbrain.lobes.models.dual_path import SepformerWrapper

    torch.manual_seed(seed)
    model = SepformerWrapper(**sizes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def converter() -> ModuleType:
    """The script that turns SpeechBrain's modules into a checkpoint."""
    specification = importlib.util.spec_from_file_location("from_speechbrain", CONVERTER)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def converted(model: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """config.json and weights of a SepformerWrapper."""
    script, parts = converter(), (model.encoder, model.masknet, model.decoder)
    return script.describe(*parts, sampling_rate=SAMPLING_RATE), script.tensors(*parts)


@torch.no_grad()
def main(name: str, out: str) -> None:
    """Write weights, mixtures (samples,) and estimates (sources, samples), each of every length."""
    from safetensors.torch import save_file

    model = speechbrain_model(**SIZES[name])
    config, weights = converted(model)
    content = {f"weights:{key}": tensor for key, tensor in weights.items()}
    for samples in LENGTHS[name]:
        mixture = torch.randn(samples)
        content[f"mixture:{samples}"] = mixture
        content[f"estimate:{samples}"] = model(mixture[None])[0].T.contiguous()
    save_file(content, out, metadata={"config": json.dumps(config)})


if __name__ == "__main__":
    main(*sys.argv[1:])
