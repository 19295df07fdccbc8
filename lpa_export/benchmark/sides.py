"""What can be measured: a bundle, a checkpoint in torch, or a user's own export of the original.

A side is a few words, so that a fresh process can open it by itself: `open_side` is all that the
process needs. A further named baseline is a row of `BASELINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from lpa_export.runtimes.timing import Timed

__all__ = ["BASELINES", "GROUPS", "TORCH", "Baseline", "Side", "open_side", "write_baseline"]

TORCH = "torch"


@dataclass(frozen=True)
class Baseline:
    """What a user would take instead. `kind`: of its side; `writes`: "module:name" of a function
    (checkpoint folder, file) that exports it, empty where it runs as it is; `opens`: of one (path,
    threads) that gives a `Timed`, where no kind here does; `scheme`: how it keeps its numbers."""

    kind: str
    writes: str = ""
    opens: str = ""
    scheme: str = "fp32"


BASELINES: Mapping[str, Baseline] = {
    "hub-export": Baseline("export", "lpa_export.benchmark.hub_export:plain"),
    "hub-export-fused": Baseline("export", "lpa_export.benchmark.hub_export:fused"),
    "hub-eager": Baseline("eager"),
    "hub-sdpa": Baseline("sdpa"),
    **{
        name: Baseline(name, opens=f"lpa_export.targets.mlx.timed:{function}", scheme=scheme)
        for name, function, scheme in (
            ("mlx-fused", "fused", "fp32"),
            ("mlx-unfused", "unfused", "fp32"),
            ("mlx-fused-bf16", "fused_bf16", "bf16"),
            ("mlx-unfused-bf16", "unfused_bf16", "bf16"),
        )
    },
}
"""By the name for `--against`, all of the untouched architecture of a checkpoint: its plain export
to ONNX, the same with each attention as one node of ONNX Runtime's, and the model in torch, its
attention written out or PyTorch's fused one; the model in MLX, its attention
`mx.fast.scaled_dot_product_attention` or two products and a softmax."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ("mlx-unfused", "mlx-fused"),
    "attention-bf16": ("mlx-unfused-bf16", "mlx-fused-bf16"),
}
"""Names for `--against` that stand for several baselines, one after another."""


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of the two: `kind` names how it is opened, `path` what, `name` what tables call it."""

    name: str
    kind: str
    path: str
    device: str = "cpu"


def open_side(side: Side, *, threads: int) -> Timed:
    """The side, ready to run. Raises LpaError where its runtime is not here."""
    openers: Mapping[str, Callable[[Side, int], Timed]] = {
        "bundle": _open_bundle,
        "export": _open_export,
        TORCH: _open_torch,
        "eager": _open_original,
        "sdpa": _open_original,
    }
    if side.kind in openers:
        return openers[side.kind](side, threads)
    found: Timed = _resolved(BASELINES[side.kind].opens)(Path(side.path), threads)
    return found


def write_baseline(row: Baseline, checkpoint: Path, file: Path) -> None:
    """Export the untouched architecture of a checkpoint folder as the baseline does."""
    _resolved(row.writes)(checkpoint, file)


def _resolved(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _open_bundle(side: Side, threads: int) -> Timed:
    from lpa_export.formats.separation_bundle import open_any_bundle
    from lpa_export.targets import target_named

    bundle = open_any_bundle(Path(side.path))
    return target_named(bundle.manifest.target).timed(bundle, threads=threads)


def _open_export(side: Side, threads: int) -> Timed:
    from lpa_export.benchmark.hub_export import TimedExport

    return TimedExport(Path(side.path), threads=threads)


def _open_torch(side: Side, threads: int) -> Timed:
    from lpa_export.benchmark.in_torch import TimedTorch
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.formats.separator import is_separator, load_separator

    how: Any = {"threads": threads, "device": side.device}
    if is_separator(side.path):
        return TimedTorch(load_separator(side.path).model.eval(), normalise=False, **how)
    loaded = load_checkpoint(side.path)
    return TimedTorch(loaded.model, normalise=loaded.do_normalize, **how)


def _open_original(side: Side, threads: int) -> Timed:
    from lpa_export.benchmark.hub_export import original_model
    from lpa_export.benchmark.in_torch import TimedTorch

    model = original_model(Path(side.path), attention=side.kind)
    return TimedTorch(model, normalise=True, threads=threads, device=side.device)
