"""A checkpoint of SpeechBrain as safetensors: run this file in SpeechBrain's own environment.

    python from_speechbrain.py FOLDER OUT [--sampling-rate HZ]

FOLDER holds `hyperparams.yaml`, `encoder.ckpt`, `masknet.ckpt` and `decoder.ckpt`, as SpeechBrain
publishes them. They are pickles, which lpa_export never opens; here torch reads them, tensors only.
The YAML makes Python objects of whatever it names: take it from where you trust it. OUT gets
`config.json` and `model.safetensors`, the same keys with the part's name in front.

Needs speechbrain, hyperpyyaml, safetensors, and nothing of lpa_export.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["describe", "tensors"]

PARTS = ("encoder", "masknet", "decoder")


def describe(encoder: Any, masknet: Any, decoder: Any, *, sampling_rate: int) -> dict[str, Any]:
    """config.json of SpeechBrain's three modules; ValueError for what lpa_export has no form of."""
    from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBTransformerBlock
    from speechbrain.nnet.attention import MultiheadAttention
    from torch import nn

    _require(isinstance(masknet, Dual_Path_Model), masknet, "Dual_Path_Model")
    blocks = list(masknet.dual_mdl)
    stacks = [stack for block in blocks for stack in (block.intra_mdl, block.inter_mdl)]
    for stack in stacks:
        _require(isinstance(stack, SBTransformerBlock), stack, "SBTransformerBlock")
    layers = [layer for stack in stacks for layer in stack.mdl.layers]
    shapes = {(layer.self_att.att.num_heads, layer.pos_ffn.ffn[0].out_features) for layer in layers}
    plain = {
        "one number of heads and one d_ffn": len(shapes) == 1,
        "regularMHA": all(isinstance(layer.self_att, MultiheadAttention) for layer in layers),
        "norm_before": all(layer.normalize_before for layer in layers),
        "ReLU": all(isinstance(layer.pos_ffn.ffn[1], nn.ReLU) for layer in layers),
        "use_positional_encoding": all(stack.use_positional_encoding for stack in stacks),
        "norm: ln": isinstance(masknet.norm, nn.GroupNorm)
        and all(isinstance(block.intra_norm, nn.GroupNorm) for block in blocks),
        "skip_around_intra": all(block.skip_around_intra for block in blocks),
        "no linear_layer_after_inter_intra": not any(
            block.linear_layer_after_inter_intra for block in blocks
        ),
        "no use_global_pos_enc": not masknet.use_global_pos_enc,
        "one channel": encoder.conv1d.in_channels == 1,
    }
    for what, holds in plain.items():
        if not holds:
            raise ValueError(f"expected a masknet with {what}")
    heads, inner = shapes.pop()
    return {
        "model_type": "sepformer",
        "sampling_rate": sampling_rate,
        "sources": masknet.num_spks,
        "filters": encoder.conv1d.out_channels,
        "kernel_size": encoder.conv1d.kernel_size[0],
        "hidden_size": masknet.conv1d.out_channels,
        "chunk": masknet.K,
        "blocks": len(blocks),
        "intra_layers": len(blocks[0].intra_mdl.mdl.layers),
        "inter_layers": len(blocks[0].inter_mdl.mdl.layers),
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


def tensors(encoder: Any, masknet: Any, decoder: Any) -> dict[str, Any]:
    """The weights by the names that lpa_export reads; sinusoids are left out, they are computed."""
    modules = dict(zip(PARTS, (encoder, masknet, decoder), strict=True))
    return {
        f"{part}.{name}": tensor.detach().contiguous()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
        if not name.endswith("pos_enc.pe")
    }


def _require(holds: bool, module: Any, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}, found {type(module).__name__}: not dual-path")


def _convert(folder: Path, out: Path, sampling_rate: int | None) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml

    settings = load_hyperpyyaml((folder / "hyperparams.yaml").read_text("utf-8"))
    modules = {part: settings["modules"][part] for part in PARTS}
    for part, module in modules.items():
        state = torch.load(folder / f"{part}.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    config = describe(**modules, sampling_rate=sampling_rate or settings["sample_rate"])
    write(out, config, tensors(**modules))


def write(out: Path, config: dict[str, Any], weights: dict[str, Any]) -> None:
    """Both files in a new folder, the weights as readable as the other: safetensors says 0600."""
    from safetensors.torch import save_file

    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod((out / "config.json").stat().st_mode)


def _main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sampling-rate", type=int, help="where the YAML has no sample_rate")
    arguments = parser.parse_args()
    try:
        _convert(arguments.folder, arguments.out, arguments.sampling_rate)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        print(f"{arguments.folder}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
