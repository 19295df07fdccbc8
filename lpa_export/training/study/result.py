"""`result.json`: what one run of a variant came to, with the errors in every utterance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.training.files import replace_file

__all__ = ["RESULT", "UtteranceErrors", "VariantResult", "read_result", "write_result"]

RESULT = "result.json"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance of dev: its reference words, and how many errors each model makes."""

    id: str
    speaker: str | None
    words: int
    teacher: int
    soft: int
    hard: int


@dataclass(frozen=True)
class VariantResult:
    """WER in percent on dev. `layers` in the order of replacement; none of them is the teacher.

    `layer_wer`: with hard gates after each of `layers`, so the last is that before the joint phase.
    `hardness` by layer (share of soft gates, PSNR in dB), `psnr_db` of the hard logits against
    the soft ones (None: nothing is replaced). `seconds` of training, where phases that several
    variants share count in each. `settings`: the recipe's sections
    that make the variant, and its choice of layers.
    """

    variant: str
    seed: int
    layers: tuple[int, ...]
    layer_wer: tuple[float, ...]
    teacher_sha256: str
    teacher_wer: float
    soft_wer: float
    hard_wer: float
    psnr_db: float | None
    hardness: Mapping[str, Mapping[str, float]]
    seconds: float
    settings: Mapping[str, Any]
    utterances: tuple[UtteranceErrors, ...]


def write_result(folder: Path, result: VariantResult) -> None:
    """Write it into the run's folder."""
    content = {"format_version": FORMAT_VERSION, **asdict(result)}
    text = json.dumps(content, indent=1) + "\n"
    replace_file(folder / RESULT, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_result(folder: Path) -> VariantResult | None:
    """Read what `write_result` wrote; None where the run has not ended, LpaError when damaged."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format_version") != FORMAT_VERSION:
            raise ValueError("another format version")
        utterances = tuple(UtteranceErrors(**entry) for entry in content["utterances"])
        layers = tuple(int(layer) for layer in content["layers"])
        layer_wer = tuple(float(wer) for wer in content["layer_wer"])
        return VariantResult(
            **content | {"layers": layers, "layer_wer": layer_wer, "utterances": utterances}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LpaError(
            f"{path}: not the result of a study ({type(error).__name__}: {error}); delete its "
            "folder and run the study again"
        ) from error
