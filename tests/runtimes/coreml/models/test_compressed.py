"""Weights compressed by coremltools.optimize, against torch with the weights it restores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Small(nn.Module):
    """Convolutions and linear layers large enough for coremltools to compress."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(16, 64, 5, padding=2)
        self.second = nn.Conv1d(64, 64, 3, padding=1, groups=2)
        self.third = nn.Linear(64, 96)
        self.fourth = nn.Linear(96, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.second(F.relu(self.first(x))))
        return self.fourth(torch.tanh(self.third(x.transpose(1, 2))))


def compress(mlmodel: Any, how: str) -> Any:
    """One of the ways of coremltools.optimize, for every weight."""
    import coremltools.optimize.coreml as opt

    if how == "int8 per channel":
        setting: Any = opt.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
        return opt.linear_quantize_weights(mlmodel, opt.OptimizationConfig(setting))
    if how == "uint8 with zero points":
        setting = opt.OpLinearQuantizerConfig(
            mode="linear", dtype="uint8", granularity="per_tensor", weight_threshold=0
        )
        return opt.linear_quantize_weights(mlmodel, opt.OptimizationConfig(setting))
    if how == "int4 in blocks":
        setting = opt.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype="int4",
            granularity="per_block",
            block_size=16,
            weight_threshold=0,
        )
        return opt.linear_quantize_weights(mlmodel, opt.OptimizationConfig(setting))
    if how in ("4 bit palette", "6 bit palettes of 16 channels"):
        grouped = {"granularity": "per_grouped_channel", "group_size": 16}
        setting = opt.OpPalettizerConfig(
            mode="uniform",
            nbits=int(how[0]),
            weight_threshold=0,
            **({} if how == "4 bit palette" else grouped),
        )
        return opt.palettize_weights(mlmodel, opt.OptimizationConfig(setting))
    setting = opt.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)
    pruned = opt.prune_weights(mlmodel, opt.OptimizationConfig(setting))
    if how == "sparse":
        return pruned
    palette: Any = opt.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
    return opt.palettize_weights(pruned, opt.OptimizationConfig(palette), joint_compression=True)


def restored(mlmodel: Any, model: nn.Module) -> nn.Module:
    """``model`` with the weights that coremltools itself unpacks from a compressed package."""
    import coremltools.optimize.coreml as opt

    unpacked = opt.get_weights_metadata(opt.decompress_weights(mlmodel), weight_threshold=0)
    weights = {name: torch.from_numpy(np.array(one.val)).float() for name, one in unpacked.items()}
    state = model.state_dict()
    for name, before in state.items():
        found = [
            weight for key, weight in weights.items() if key.startswith(name.replace(".", "_"))
        ]
        if name.endswith("weight"):
            assert len(found) == 1, f"{name} is not among {sorted(weights)}"
            assert not torch.allclose(found[0], before, atol=1e-4), "nothing was lost"
            state[name] = found[0].reshape(before.shape)
    other = Small().eval()
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize(
    ("how", "target", "precision"),
    [
        ("int8 per channel", "iOS16", "fp32"),
        ("int8 per channel", "iOS18", "fp16"),
        ("uint8 with zero points", "iOS17", "fp16"),
        ("int4 in blocks", "iOS18", "fp16"),
        ("4 bit palette", "iOS16", "fp16"),
        ("6 bit palettes of 16 channels", "iOS18", "fp16"),
        ("sparse", "iOS17", "fp32"),
        ("sparse", "iOS18", "fp16"),
        ("sparse palette", "iOS18", "fp16"),
    ],
)
def test_compressed_weights(
    convert: Callable[..., Any],
    require_agreement: Callable[..., None],
    how: str,
    target: str,
    precision: str,
) -> None:
    torch.manual_seed(0)
    model, inputs = Small().eval(), [torch.randn(2, 16, 30)]
    mlmodel = compress(convert(model, inputs, target, precision), how)
    require_agreement(restored(mlmodel, model), inputs, mlmodel, precision)
