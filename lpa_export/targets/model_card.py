"""The bundle's README.md, generated from its manifest: for whoever finds the folder in an app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lpa_export.formats.manifest import (
    Bucket,
    BundleManifest,
    Frames,
    Manifest,
    Normalisation,
    SelfCheck,
    Source,
    VocabularyEntry,
)

__all__ = ["CARD", "card_of", "lengths", "model_card"]

CARD = "README.md"


def model_card(manifest: Manifest, usage: str, *, measured: Mapping[str, str] | None = None) -> str:
    """Markdown; `usage`: how to run the artifacts, `files` of the manifest are not looked at.

    `measured`: time and memory by what they are of, once there is a benchmark of the bundle.
    """
    frames = manifest.frames
    facts = {
        "Input": f"{manifest.sample_rate} Hz mono; {_normalisation(manifest.normalisation)}",
        "Lengths": lengths(manifest.buckets, frames, manifest.sample_rate),
        "Frames": _frames(frames, manifest.sample_rate),
        "Tokens": _tokens(manifest.vocabulary),
    }
    what = f"A {manifest.checkpoint.family} CTC speech recogniser"
    units = "WER in percent, PSNR in dB"
    return card_of(manifest, what, facts, units, manifest.gates, usage, measured=measured)


def card_of(
    manifest: BundleManifest,
    what: str,
    facts: Mapping[str, str],
    units: str,
    held: msgspec.Struct,
    usage: str,
    *,
    measured: Mapping[str, str] | None = None,
) -> str:
    """The card of a bundle of any task. `what`: the model in a few words; `facts`: those of its
    task alone; `units` of the checkpoint's figures; `held`: its gates."""
    checkpoint = manifest.checkpoint
    facts = {
        "Model": manifest.model,
        "Target": f"{manifest.target}, {manifest.scheme.name}",
        "Artifacts": ", ".join(f"`{name}`" for name in manifest.artifacts),
        "Layers": _layers(checkpoint),
        "Lowering": _pairs(manifest.lowering),
        **facts,
        "Checkpoint": f"`{checkpoint.name}`, SHA-256 `{checkpoint.sha256}`",
        "Self-check": _self_check(manifest.selfcheck),
        "Made with": _pairs(manifest.tools),
    }
    lines = [f"# {manifest.model} for {manifest.target}", "", _about(what, checkpoint), ""]
    lines += _table(("", ""), facts)
    lines += _section(f"Figures of the checkpoint ({units})", _figures(checkpoint.figures))
    if measured:
        lines += _section("Time and memory, measured by lpa-bench", _table(("", ""), measured))
    gates = {name: _number(value) for name, value in msgspec.structs.asdict(held).items()}
    lines += _section("Gates that validation holds it to", _table(("gate", "value"), gates))
    lines += ["", "## Use", "", usage.strip()]
    lines += [
        "",
        "`golden/` holds a few clips with the reference model's output at every tap; "
        "`manifest.json` the SHA-256 of every file. Check the bundle with "
        f"`lpa-validate --target {manifest.target} --bundle .`; what was measured stands in "
        "`report.json` then.",
    ]
    return "\n".join(lines) + "\n"


def _about(what: str, checkpoint: Source) -> str:
    if not checkpoint.replaced_layers:
        return f"{what} with its own self-attention in every layer: none is replaced."
    return (
        f"{what} whose self-attention is replaced, in the layers named below, by Learnable Pulse "
        "Accumulators with hard gates ([arXiv:2603.16922](https://arxiv.org/abs/2603.16922); the "
        "formulation is lpa-export's own)."
    )


def _self_check(check: SelfCheck) -> str:
    if check.status == "not_run":
        return f"not run: {check.reason}"
    worst = min(check.taps.values())
    return (
        f"passed ({check.label}): {len(check.taps)} taps, the worst with a PSNR of {worst:.1f} dB, "
        f"{check.floor_db:g} dB were required"
    )


def _layers(checkpoint: Source) -> str:
    replaced = checkpoint.replaced_layers
    if not replaced:
        return f"{checkpoint.layers}, all self-attention (nothing replaced)"
    numbers = ", ".join(map(str, replaced))
    return f"{checkpoint.layers}, of which {len(replaced)} are LPA: {numbers}"


def _normalisation(normalisation: Normalisation) -> str:
    if normalisation.kind == "none":
        return "taken as it is"
    return (
        f"zero mean, unit variance per utterance (epsilon {normalisation.epsilon:g}), done in "
        f"the {normalisation.where}"
    )


def lengths(buckets: Sequence[Bucket] | None, frames: Frames, rate: int) -> str:
    """Which lengths of audio a bundle takes, in words."""
    if buckets:
        return "buckets of " + ", ".join(f"{bucket.seconds:g}" for bucket in buckets) + " s"
    shortest = 1000 * frames.receptive_field / rate
    return f"any, from {frames.receptive_field} samples ({shortest:.0f} ms)"


def _frames(frames: Frames, rate: int) -> str:
    return (
        f"one per {frames.hop} samples ({1000 * frames.hop / rate:g} ms); their number is "
        f"floor((n - kernel) / stride) + 1, repeated for kernels {list(frames.kernels)} and "
        f"strides {list(frames.strides)}"
    )


def _tokens(vocabulary: VocabularyEntry) -> str:
    return (
        f"{vocabulary.size} (`{vocabulary.file}`, with what each says); blank "
        f"{vocabulary.blank_id}, {_parted(vocabulary.word_delimiter)}"
    )


def _parted(delimiter: str | None) -> str:
    return "no word delimiter" if delimiter is None else f"words parted by `{delimiter}`"


def _figures(figures: Mapping[str, Any]) -> list[str]:
    numbers = {
        name: _number(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return _table(("figure", "value"), numbers) if numbers else []


def _pairs(pairs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items()) or "none"


def _number(value: float | None) -> str:
    return "no gate" if value is None else f"{value:g}"


def _section(title: str, table: list[str]) -> list[str]:
    return ["", f"## {title}", "", *table] if table else []


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> list[str]:
    body = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return [f"| {head[0]} | {head[1]} |", "| --- | --- |", *body]


def _cell(value: str) -> str:
    """A pipe would end the cell: the word delimiter of most vocabularies is one."""
    return value.replace("|", "\\|")
