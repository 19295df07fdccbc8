"""Running chains of a study, and what a run has come to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import load_checkpoint
from lpa_export.formats.speech import load_utterances
from lpa_export.formats.text import normalise_text
from lpa_export.measures.word_errors import count_errors
from lpa_export.training.data import SpeechSet
from lpa_export.training.evaluate import transcribe
from lpa_export.training.records import read_log
from lpa_export.training.replace import layer_folders
from lpa_export.training.stages import attention_teacher, replace_stage
from lpa_export.training.study.plan import Chain, Run, phases_folder
from lpa_export.training.study.result import (
    UtteranceErrors,
    VariantResult,
    read_result,
    write_result,
)
from lpa_export.training.study.settings import OVERRIDES, Variant
from lpa_export.training.trail import Step, read_trail
from lpa_export.training.transcripts import read_transcripts, write_transcripts

__all__ = ["Announce", "result_of", "run_chain", "run_folder", "settings_of", "told"]

Announce = Callable[[str], None]
"""Called with a line when a run has ended."""


def run_folder(out: Path, variant: str, seed: int) -> Path:
    """Where a run of the study in `out` lies."""
    return out / "variants" / variant / f"seed-{seed}"


def result_of(out: Path, variant: Variant, seed: int) -> VariantResult | None:
    """What a run has come to; None where it has not ended.

    Raises LpaError where it was run under other settings than the study file's. A setting that
    the recipe did not have then is no difference.
    """
    folder = run_folder(out, variant.name, seed)
    result = read_result(folder)
    if result is None:
        return None
    current = settings_of(variant, seed)
    for section, recorded in result.settings.items():
        for name, value in recorded.items():
            if current[section].get(name) != value:
                raise LpaError(
                    f"{folder}: was run with {section}.{name} {value}, now it is "
                    f"{current[section].get(name)}; delete the folder, or put the study back"
                )
    return result


def run_chain(
    chain: Chain, teacher: str | Path, out: Path, announce: Announce = lambda line: None
) -> None:
    """Run what has no result yet, one after another; a run that was killed continues."""
    for run in chain:
        folder = run_folder(out, run.variant.name, run.seed)
        result = result_of(out, run.variant, run.seed)
        if result is None:
            layers = ", ".join(map(str, run.layers)) or "none"
            announce(f"{run.name}: seed {run.seed}, layers to replace: {layers}")
            result = _train(run, teacher, folder, out) if run.layers else _ask(run, teacher, folder)
            write_result(folder, result)
        announce(told(result))


def told(result: VariantResult) -> str:
    """The line about a run that has ended."""
    return (
        f"{result.variant}:{result.seed}: WER {result.hard_wer:.2f} %, soft gates "
        f"{result.soft_wer:.2f} %, {result.seconds:.0f} s of training"
    )


def _train(run: Run, teacher: str | Path, folder: Path, out: Path) -> VariantResult:
    """Replace the layers, and count what the models of the run say wrong."""
    shared = phases_folder(out, run.recipe)
    checkpoint = replace_stage(run.recipe, teacher, folder, layers=run.layers, shared=shared)
    section = load_checkpoint(checkpoint).lpa
    assert section is not None
    trail = read_trail(folder)
    phases = [*layer_folders(shared, trail.layers), folder / "joint"]
    return _result(
        run,
        load_checkpoint(teacher).sha256,
        folder,
        steps=trail.kept,
        psnr_db=section.figures["hard_psnr_db"],
        hardness=section.hardness,
        seconds=sum(line.get("seconds", 0.0) for phase in phases for line in read_log(phase)),
    )


def _ask(run: Run, teacher: str | Path, folder: Path) -> VariantResult:
    """The teacher itself: nothing is replaced, so nothing is soft or hard."""
    source = attention_teacher(teacher)
    data = run.recipe.data
    if data is None or data.dev is None:
        raise LpaError(f"{run.recipe.name}: 'data' names no 'dev' speech to measure on")
    utterances = load_utterances(data.dev)
    dev = SpeechSet(utterances, source.vocabulary, receptive_field=source.receptive_field)
    said = transcribe(source.model, dev)
    write_transcripts(folder, utterances, dict.fromkeys(("teacher", "soft", "hard"), said))
    return _result(run, source.sha256, folder, steps=(), psnr_db=None, hardness={}, seconds=0.0)


def _result(
    run: Run,
    teacher_sha256: str,
    folder: Path,
    *,
    steps: Sequence[Step],
    psnr_db: float | None,
    hardness: Mapping[str, Mapping[str, float]],
    seconds: float,
) -> VariantResult:
    rows = read_transcripts(folder)
    texts = [row.text for row in rows]
    counted = {
        who: count_errors(texts, [getattr(row, who) for row in rows], normalise_text)
        for who in ("teacher", "soft", "hard")
    }
    utterances = (
        UtteranceErrors(row.id, row.speaker, words, teacher, soft, hard)
        for row, words, teacher, soft, hard in zip(
            rows,
            counted["hard"].words_per_utterance,
            *(counted[who].per_utterance for who in ("teacher", "soft", "hard")),
            strict=True,
        )
    )
    wer = {f"{who}_wer": round(errors.wer, 4) for who, errors in counted.items()}
    return VariantResult(
        variant=run.variant.name,
        seed=run.seed,
        layers=tuple(step.layer for step in steps),
        layer_wer=tuple(step.wer for step in steps),
        teacher_sha256=teacher_sha256,
        psnr_db=psnr_db,
        hardness=hardness,
        seconds=round(seconds, 1),
        settings=settings_of(run.variant, run.seed),
        utterances=tuple(utterances),
        **wer,
    )


def settings_of(variant: Variant, seed: int) -> dict[str, Any]:
    """What makes the run of a variant, as JSON; of paths the names, wherever they lie."""
    content = asdict(variant.seeded(seed))
    del content["lpa"]["layers"]  # of the recipe; the variant's own choice is beside it
    choice = {"layers": variant.layers, "order": variant.order, "count": variant.count}
    chosen = {name: content[name] for name in OVERRIDES} | {"choice": choice}
    settings: dict[str, Any] = json.loads(json.dumps(chosen, default=lambda path: path.name))
    return settings
