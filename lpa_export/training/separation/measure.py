"""Separators side by side on the stored test mixtures, and whether they differ by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lpa_export.formats.mixing import Draw
from lpa_export.measures.bootstrap import Interval, mean_difference
from lpa_export.measures.separation import Quality, quality
from lpa_export.training.separation.mixtures import Sounds

__all__ = ["MIXTURE", "Measured", "measure", "table"]

MIXTURE = "the mixture itself"
"""Instead of a model's name: what all of them are above, or not."""

FIGURES = tuple(part.name for part in fields(Quality) if part.name != "silenced")


@dataclass(frozen=True)
class Measured:
    """One model on all mixtures, or `MIXTURE`: `qualities` in the order of the list."""

    name: str
    sha256: str | None
    draws: tuple[Draw, ...]
    qualities: tuple[Quality, ...]

    def mean(self, figure: str, snr_db: float | None = None) -> float | None:
        """Of the mixtures of one ratio, or all; None where it is defined for none of them."""
        values = [
            getattr(found, figure)
            for draw, found in zip(self.draws, self.qualities, strict=True)
            if snr_db is None or draw.snr_db == snr_db
        ]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    @property
    def silenced(self) -> int:
        """Outputs that are far below their mixture."""
        return sum(found.silenced for found in self.qualities)

    def against(self, other: Measured) -> tuple[float, Interval]:
        """How much more SI-SNRi, in dB, and its 95 % interval by paired bootstrap."""
        ours, theirs = ([q.si_snri_db for q in m.qualities] for m in (self, other))
        return float(np.mean(ours) - np.mean(theirs)), mean_difference(ours, theirs)

    def to_json(self) -> dict[str, Any]:
        """All figures, clip by clip too."""
        ratios = sorted({draw.snr_db for draw in self.draws})
        return {
            "name": self.name,
            "sha256": self.sha256,
            "mixtures": len(self.draws),
            "silenced": self.silenced,
            "mean": _plain({figure: self.mean(figure) for figure in FIGURES}),
            "by_snr_db": {
                f"{ratio:g}": _plain({figure: self.mean(figure, ratio) for figure in FIGURES})
                for ratio in ratios
            },
            "clips": [_plain(asdict(found)) for found in self.qualities],
        }


@torch.inference_mode()
def measure(
    name: str,
    sha256: str | None,
    separate: Callable[..., Any],
    sounds: Sounds,
    draws: Sequence[Draw],
) -> Measured:
    """What `separate` (1, samples) -> (1, 1, samples) makes of every mixture."""
    found = []
    for draw in tqdm(draws, desc=name, disable=None, leave=False):
        mixture, speech = sounds.mix(draw)
        estimate = separate(torch.from_numpy(mixture)[None])[0, 0].numpy()
        found.append(quality(mixture, speech, estimate, sounds.rate))
    return Measured(name, sha256, tuple(draws), tuple(found))


def table(found: Sequence[Measured]) -> list[str]:
    """Lines of Markdown: a row per model and ratio, then differences to the first model.

    found: the mixtures themselves, then the models.
    """
    head = ["model", "SNR, dB", *(_TITLES[figure] for figure in FIGURES)]
    lines = [_row(head), _row(["---"] * 2 + ["---:"] * len(FIGURES))]
    for model in found:
        ratios = sorted({draw.snr_db for draw in model.draws})
        for ratio in (*ratios, None):
            values = (model.mean(figure, ratio) for figure in FIGURES)
            cells = ("-" if value is None else f"{value:.2f}" for value in values)
            lines.append(_row([model.name, "all" if ratio is None else f"{ratio:g}", *cells]))
    models = found[1:]
    lines += [
        f"{model.name}: {model.silenced} of {len(model.draws)} outputs silenced" for model in models
    ]
    for model in models[1:]:
        gain, interval = model.against(models[0])
        lines.append(
            f"{model.name} against {models[0].name}: {gain:+.2f} dB of SI-SNRi, 95 % interval "
            f"{interval.low:+.2f} to {interval.high:+.2f}"
        )
    return lines


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which an output of silence has for a ratio: as text it passes."""
    return {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


_TITLES = {
    "si_snr_db": "SI-SNR, dB",
    "si_snri_db": "SI-SNRi, dB",
    "sdr_db": "SDR, dB",
    "sdri_db": "SDRi, dB",
    "stoi": "STOI",
    "pesq": "PESQ",
}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
