"""Fixtures that several test folders share.

Real speech lies outside the repository: ``LPA_SHARED`` names its folder, ``../shared`` beside the
checkout is the default. Tests that need it skip by name where it is absent.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lpa_export.environment import collect_rarely
from tests.torchlib import one_torchlib

REPOSITORY = Path(__file__).resolve().parent.parent

# Before anything that reads it is imported: tiny models run slower on many threads, results must
# not depend on the core count, and tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
collect_rarely()  # as every command does


@pytest.fixture(scope="session", autouse=True)
def _one_torchlib() -> None:
    one_torchlib()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The lengths that each of torch's traces is free in, noted as they are made."""
    import torch

    noted: list[Any] = []
    export = torch.export.export

    def counting(*arguments: Any, **options: Any) -> Any:
        noted.append(options["dynamic_shapes"])
        return export(*arguments, **options)

    monkeypatch.setattr(torch.export, "export", counting)
    return noted


class _AbsentTarget(pytest.Module):
    """Tests of a target that is not installed: skipped by name, never imported."""

    def collect(self) -> NoReturn:
        from lpa_export.targets import target_named

        pytest.skip(target_named(self.path.parent.name).missing(), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """A folder that is named as a target has that target's tests."""
    from lpa_export.targets import absent_targets

    if module_path.parent.name in absent_targets():
        return _AbsentTarget.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the data sets."""
    root = os.environ.get("LPA_SHARED")
    data = (Path(root) if root else REPOSITORY.parent / "shared") / "data"
    return _present(data, "shared data")


@pytest.fixture(scope="session")
def an4_dev(shared_data: Path) -> Path:
    """Manifest of the AN4 development set."""
    return _present(shared_data / "an4" / "dev.jsonl", "AN4 dev")


@pytest.fixture(scope="session")
def samples(shared_data: Path) -> Path:
    """Folder with a few recordings at several sample rates and a manifest."""
    return _present(shared_data / "samples", "sample recordings")


@pytest.fixture(scope="session")
def librispeech_sample(shared_data: Path) -> Path:
    """A LibriSpeech folder with a few utterances."""
    return _present(shared_data / "librispeech_sample", "LibriSpeech sample")


@pytest.fixture(scope="session")
def shipped_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX bundle of the shipped model, made once for all processes of a run: to be copied."""
    from lpa_export.commands.export import main

    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = common / "shipped-onnx"
    with (common / "shipped-onnx.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            assert main(["--target", "onnx", "--out", str(folder)]) == 0
    return folder


def _present(path: Path, name: str) -> Path:
    if not path.exists():
        pytest.skip(f"{name} not found at {path}; set LPA_SHARED to the folder that holds data/")
    return path


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Any]:
    """`tiny_config(norm, **changes)`: a wav2vec2 of some 40 k parameters in either norm style."""

    def make(norm: str = "pre", **changes: Any) -> Any:
        from transformers import Wav2Vec2Config

        base: dict[str, Any] = {
            "vocab_size": 29,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "conv_dim": (24, 24),
            "conv_kernel": (400, 3),
            "conv_stride": (160, 2),
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "feat_extract_norm": "layer" if norm == "pre" else "group",
            "conv_bias": norm == "pre",
            "do_stable_layer_norm": norm == "pre",
            "pad_token_id": 0,
        }
        return Wav2Vec2Config(**base | changes)

    return make


HOST_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2 pre-norm": (
        "Wav2Vec2",
        {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    ),
    "wav2vec2 odd kernel": ("Wav2Vec2", {"num_conv_pos_embeddings": 7, "hidden_act": "relu"}),
    "wav2vec2 add_adapter": ("Wav2Vec2", {"add_adapter": True, "num_adapter_layers": 2}),
    "wav2vec2 add_adapter projected": (
        "Wav2Vec2",
        {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 24},
    ),
    "wav2vec2 language adapter": (
        "Wav2Vec2",
        {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "adapter_attn_dim": 4},
    ),
    "hubert": ("Hubert", {}),
    "hubert batch norm": ("Hubert", {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}),
    "hubert pre-norm": ("Hubert", {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
    "data2vec-audio": (
        "Data2VecAudio",
        {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 5, "add_adapter": True},
    ),
    "data2vec-audio even kernel": (
        "Data2VecAudio",
        {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 4},
    ),
    "unispeech": ("UniSpeech", {}),
    "unispeech pre-norm": ("UniSpeech", {"do_stable_layer_norm": True, "adapter_attn_dim": 4}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "unispeech-sat pre-norm": ("UniSpeechSat", {"do_stable_layer_norm": True}),
    "wavlm": ("WavLM", {"num_buckets": 16, "max_bucket_distance": 20}),
    "wavlm pre-norm": (
        "WavLM",
        {"num_buckets": 16, "max_bucket_distance": 20, "do_stable_layer_norm": True},
    ),
}
"""Name -> (prefix of the classes in transformers, what differs from `tiny_host`'s sizes)."""


@pytest.fixture(scope="session", params=HOST_VARIANTS)
def host_variant(request: pytest.FixtureRequest) -> str:
    """Each of `HOST_VARIANTS`, one after the other."""
    return str(request.param)


def as_if_trained(model: Any) -> None:
    """Bring random weights to the scale of trained ones.

    Fresh transformers have zero biases, unit norms and layers that add little, where mistakes hide.
    """
    import torch

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif name.endswith(("bias", "running_mean", "gru_rel_pos_const")) or "norm" in name:
                if tensor.is_floating_point() and "parametrizations" not in name:
                    tensor.add_(0.2 * torch.randn_like(tensor))
            elif "rel_attn_embed" in name:
                tensor.normal_()
            elif "encoder.layers" in name and tensor.dim() == 2:
                tensor.mul_(8)


@pytest.fixture(scope="session")
def tiny_host() -> Callable[..., Any]:
    """`tiny_host(variant, **changes)`: a CTC model of two layers, width 32, of any host family."""

    def make(variant: str, **changes: Any) -> Any:
        import torch
        import transformers

        prefix, differing = HOST_VARIANTS[variant]
        sizes: dict[str, Any] = {
            "vocab_size": 29,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "conv_dim": (16, 24),
            "conv_kernel": (400, 3),
            "conv_stride": (160, 2),
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "pad_token_id": 0,
        }
        config = getattr(transformers, f"{prefix}Config")(**sizes | differing | changes)
        torch.manual_seed(5)
        model = getattr(transformers, f"{prefix}ForCTC")(config).eval()
        as_if_trained(model)
        return model

    return make


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_config: Callable[..., Any]) -> Callable[..., Path]:
    """`tiny_checkpoint(norm, layers)`: a folder with random weights and LPA in `layers`."""

    def make(norm: str = "pre", layers: tuple[int, ...] = (0, 2), name: str = "tiny") -> Path:
        import torch
        from transformers import Wav2Vec2ForCTC

        from lpa_export.formats.checkpoint import LPASection, save_checkpoint
        from lpa_export.hosts import replace_layers
        from lpa_export.layers import LPAConfig, Pulses
        from lpa_export.training.teacher import CHARACTERS

        torch.manual_seed(7)
        model = Wav2Vec2ForCTC(tiny_config(norm)).eval()
        section = None
        if layers:
            replace_layers(model, layers, LPAConfig(32, 2))
            section = LPASection(layers, Pulses(), temperature=0.1, name=name)
        return save_checkpoint(tmp_path / "checkpoint" / name, model, CHARACTERS, section)

    return make
