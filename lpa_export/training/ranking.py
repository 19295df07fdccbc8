"""Which layers to replace: the sweep's figures for each, as file and picture, and a choice of them.

matplotlib is imported when the picture is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.training.files import read_json, replace_file, write_json

__all__ = [
    "SWEEP",
    "AutoLayers",
    "KindOfLayers",
    "LayerChoice",
    "LayerFit",
    "Ranking",
    "draw_sweep",
    "easiest_first",
    "numbered",
    "parse_layers",
    "read_ranking",
    "require_count",
    "require_layers",
    "write_ranking",
]

SWEEP = "sweep.json"
FORMAT_VERSION = 1

# Errors farther apart than this factor are drawn on a logarithmic scale.
WIDE = 10.0


@dataclass(frozen=True)
class AutoLayers:
    """`auto:N`: the first `count` layers of the sweep's order."""

    count: int


@dataclass(frozen=True)
class KindOfLayers:
    """Layers of a separator: those within chunks (`intra`), across chunks (`inter`), or `all`."""

    name: str


KINDS = ("intra", "inter", "all")
LayerChoice = AutoLayers | KindOfLayers | tuple[int, ...]


def parse_layers(text: str) -> LayerChoice:
    """`auto:4`, `0,1,2` or `intra`; LpaError for others, and for a layer that is there twice."""
    if text in KINDS:
        return KindOfLayers(text)
    if match := re.fullmatch(r"auto:([1-9][0-9]{0,3})", text):
        return AutoLayers(int(match[1]))
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", text):
        raise LpaError(
            "expected layers as 0,1,2 or auto:4, or of a separator intra, inter or all; "
            f"found {text!r}"
        )
    layers = tuple(map(int, text.split(",")))
    if len(set(layers)) != len(layers):
        raise LpaError(f"layers must differ, found {text}")
    return layers


def numbered(layers: LayerChoice | None) -> AutoLayers | tuple[int, ...] | None:
    """The same choice, of a recogniser. Raises LpaError for kinds of layers, which it has none
    of."""
    if isinstance(layers, KindOfLayers):
        raise LpaError(f"{layers.name} layers are those of a separator; give numbers or auto:N")
    return layers


def require_layers(layers: Sequence[int], count: int) -> None:
    """Raise LpaError for a layer that a model of `count` layers does not have."""
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside:
        raise LpaError(
            f"layer {outside[0]} does not exist: the model has layers 0 to {count - 1}; "
            "correct --layers or the recipe's lpa.layers"
        )


def require_count(layers: AutoLayers, count: int, kind: str = "layers") -> None:
    """Raise LpaError where there are fewer layers (of that kind) to choose from."""
    if layers.count > count:
        raise LpaError(f"auto:{layers.count} asks for more than the model's {count} {kind}")


@dataclass(frozen=True)
class LayerFit:
    """Normalised MSE of a layer's LPA on held-out audio, with soft gates and with hard ones."""

    layer: int
    soft: float
    hard: float


def easiest_first(fits: Iterable[LayerFit]) -> tuple[LayerFit, ...]:
    """By the error with hard gates, which is what is deployed."""
    return tuple(sorted(fits, key=lambda fit: (fit.hard, fit.layer)))


@dataclass(frozen=True)
class Ranking:
    """The layers, easiest first, and what their figures belong to.

    `speech` says, for `fitted` and `held_out`, how many utterances (held-out mixtures) there were,
    and a hash of them;
    `settings` is the recipe's `sweep` section, `pulses` the shape of the LPA.
    """

    recipe: str
    teacher_sha256: str
    pulses: Mapping[str, Any]
    initialise: str
    settings: Mapping[str, Any]
    speech: Mapping[str, Mapping[str, Any]]
    fits: tuple[LayerFit, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Layers, easiest first."""
        return tuple(fit.layer for fit in self.fits)


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write `ranking` as JSON; a kill leaves the old file or the new one."""
    order = {"format_version": FORMAT_VERSION, **asdict(ranking), "order": ranking.order}
    write_json(path, order)


def read_ranking(path: Path) -> Ranking:
    """Read what `write_ranking` wrote; LpaError when the file is missing or damaged."""
    return read_json(path, _ranking, "the file of a sweep")


def _ranking(content: Any) -> Ranking:
    if content.pop("format_version") != FORMAT_VERSION:
        raise ValueError("another format version")
    del content["order"]
    fits = tuple(
        LayerFit(int(entry["layer"]), float(entry["soft"]), float(entry["hard"]))
        for entry in content["fits"]
    )
    return Ranking(**content | {"fits": fits})


def draw_sweep(path: Path, ranking: Ranking) -> None:
    """A PNG with two bars per layer, soft and hard gates, and the layer's place in the order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fits = sorted(ranking.fits, key=lambda fit: fit.layer)
    figure = Figure(figsize=(max(4.8, 0.55 * len(fits) + 2), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, name in ((-0.2, "soft"), (0.2, "hard")):
        heights = [getattr(fit, name) for fit in fits]
        places = [place + shift for place in range(len(fits))]
        axes.bar(places, heights, width=0.4, label=f"{name} gates")
    for place, fit in enumerate(fits):
        number = f"{ranking.order.index(fit.layer) + 1}."
        axes.annotate(
            number,
            (place, max(fit.soft, fit.hard)),
            (0, 2),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xticks(range(len(fits)), [str(fit.layer) for fit in fits])
    errors = [error for fit in fits for error in (fit.soft, fit.hard)]
    if max(errors) > WIDE * min(errors):
        axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xlabel("layer (above its bars: its place, easiest first)")
    axes.set_ylabel("normalised MSE, held-out audio")
    axes.set_title(f"{ranking.recipe}: an LPA in place of each attention layer", fontsize=10)
    axes.legend()
    replace_file(
        path,
        lambda beside: figure.savefig(beside, dpi=150, format="png", metadata={"Software": None}),
    )
