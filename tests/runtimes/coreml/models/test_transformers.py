"""Speech encoders and transformers of other people, tiny and with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Build = Callable[[], tuple[nn.Module, list[Tensor]]]

_WIDTH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 20,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_WAVE: dict[str, Any] = {
    **_WIDTH,
    "conv_dim": (16, 16, 24),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 4, 2),
}


class Block(nn.Module):
    """Attention through torch's own function, rotary positions, gated feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.projection = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.gate = nn.Linear(width, 4 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor, turns: Tensor) -> Tensor:
        q, k, v = self.projection(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = self._turned(q.transpose(1, 2), turns), k.transpose(1, 2), v.transpose(1, 2)
        k = self._turned(k, turns)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        value, gate = self.gate(self.norms[1](x)).chunk(2, -1)
        return x + self.down(value * F.gelu(gate))

    def _turned(self, x: Tensor, turns: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * turns.cos() + torch.cat([-second, first], -1) * turns.sin()


class Encoder(nn.Module):
    """Token ids in float (as coremltools inputs are), embeddings, two blocks, pooled logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.blocks = nn.ModuleList([Block(32, 4), Block(32, 4)])
        self.head = nn.Linear(32, 10)

    def forward(self, ids: Tensor, kept: Tensor) -> Tensor:
        x = self.embedding(ids.int())
        mask = torch.where(kept[:, None, None, :] > 0, 0.0, -1e4)
        steps = torch.arange(24, dtype=torch.float32)[:, None]
        turns = steps * (10000.0 ** (-torch.arange(0, 8, 2).float() / 8)).repeat(2)
        for block in self.blocks:
            x = block(x, mask, turns)
        pooled = (x * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
        return F.log_softmax(self.head(pooled) + x.amax(1)[:, :10], -1)


class Conformer(nn.Module):
    """One conformer block: half feed-forwards, attention, gated depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.subsample = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        self.inward = nn.Linear(8 * 4, 32)
        self.halves = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32))
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(32)
        self.projection, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.positions = nn.Parameter(torch.randn(4, 14, 14))
        self.convolution = nn.Sequential(
            nn.Conv1d(32, 64, 1),
            nn.GLU(1),
            nn.Conv1d(32, 32, 7, padding="same", groups=32),
            nn.BatchNorm1d(32),
            nn.SiLU(),
            nn.Conv1d(32, 32, 1),
        )
        self.last = nn.LayerNorm(32)

    def forward(self, features: Tensor) -> Tensor:
        x = self.subsample(features.unsqueeze(1))
        x = self.inward(x.transpose(1, 2).flatten(2))
        x = x + 0.5 * self.halves[0](x)
        q, k, v = self.projection(self.norm(x)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        weights = (torch.matmul(q, k.transpose(-1, -2)) / 8**0.5 + self.positions).softmax(-1)
        x = x + self.out(torch.einsum("bhts,bhsd->bthd", weights, v).flatten(2))
        x = x + self.convolution(x.transpose(1, 2)).transpose(1, 2)
        return self.last(x + 0.5 * self.halves[1](x)).log_softmax(-1)


class Only(nn.Module):
    """A model of transformers as a function of one tensor to one tensor."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(self.model(x), self.output)
        return result


def encoder() -> tuple[nn.Module, list[Tensor]]:
    kept = torch.ones(2, 24)
    kept[1, 17:] = 0
    return Encoder(), [torch.randint(0, 50, (2, 24)).float(), kept]


def conformer() -> tuple[nn.Module, list[Tensor]]:
    return Conformer(), [torch.randn(2, 61, 19)]


def wav2vec2() -> tuple[nn.Module, list[Tensor]]:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    return Only(Wav2Vec2ForCTC(Wav2Vec2Config(**_WAVE)), "logits"), [torch.randn(1, 4000)]


def wav2vec2_with_layer_norm() -> tuple[nn.Module, list[Tensor]]:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        **_WAVE, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
    )
    return Only(Wav2Vec2Model(config), "last_hidden_state"), [torch.randn(2, 3000)]


def hubert() -> tuple[nn.Module, list[Tensor]]:
    from transformers import HubertConfig, HubertModel

    return Only(HubertModel(HubertConfig(**_WAVE)), "last_hidden_state"), [torch.randn(1, 4000)]


def sew() -> tuple[nn.Module, list[Tensor]]:
    from transformers import SEWConfig, SEWModel

    model = SEWModel(SEWConfig(**_WAVE))
    # coremltools cannot convert its own division of a traced size under NumPy 2.4.
    up = model.encoder.upsample
    plain = nn.Sequential(up.projection, up.activation, nn.Unflatten(-1, (2, 32)), nn.Flatten(1, 2))
    model.encoder.register_module("upsample", plain)
    return Only(model, "last_hidden_state"), [torch.randn(1, 4000)]


def whisper() -> tuple[nn.Module, list[Tensor]]:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        num_mel_bins=16,
        max_source_positions=40,
    )
    return Only(WhisperEncoder(config), "last_hidden_state"), [torch.randn(1, 16, 80)]


@pytest.mark.parametrize(
    ("build", "target", "precision"),
    [
        (encoder, "iOS17", "fp32"),
        (encoder, "iOS18", "fp16"),
        (conformer, "iOS15", "fp32"),
        (conformer, "iOS17", "fp16"),
        (wav2vec2, "iOS16", "fp32"),
        (wav2vec2, "iOS18", "fp16"),
        (wav2vec2_with_layer_norm, "iOS15", "fp16"),
        (hubert, "iOS18", "fp32"),
        (sew, "iOS17", "fp16"),
        (whisper, "iOS16", "fp16"),
        (whisper, "iOS18", "fp32"),
    ],
)
def test_speech_encoders_and_transformers(
    convert: Callable[..., Any],
    require_agreement: Callable[..., None],
    build: Build,
    target: str,
    precision: str,
) -> None:
    torch.manual_seed(0)
    model, inputs = build()
    mlmodel = convert(model, inputs, target, precision)
    require_agreement(model, inputs, mlmodel, precision)
