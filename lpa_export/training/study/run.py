"""Running chains of a study, and what a run has come to: `result.json`, with every utterance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint, load_checkpoint
from lpa_export.measures.word_errors import count_errors
from lpa_export.training.clips import Recordings
from lpa_export.training.evaluate import read_transcripts, transcribe, write_transcripts
from lpa_export.training.files import read_json, write_json
from lpa_export.training.loop import Conduct
from lpa_export.training.records import read_log
from lpa_export.training.replace import layer_folders, phase_record
from lpa_export.training.replacement_log import ReplacedLayer, read_log_of_layers
from lpa_export.training.stages import Trainer
from lpa_export.training.study.plan import Chain, Run, phases_folder
from lpa_export.training.study.settings import OVERRIDES, Variant

__all__ = [
    "RESULT",
    "Announce",
    "UtteranceErrors",
    "VariantResult",
    "read_result",
    "result_line",
    "result_of",
    "run_chain",
    "run_folder",
    "settings_of",
    "write_result",
]

RESULT = "result.json"
FORMAT_VERSION = 3
READABLE = (2, FORMAT_VERSION)  # version 2 said nothing of the joint phase

Announce = Callable[[str], None]
"""Called with a line when a run has ended."""


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance of dev: its reference words, and how many errors each model makes."""

    id: str
    speaker: str | None
    words: int
    teacher: int
    soft: int
    hard: int


_TAKEN_FROM_THE_TEACHER = (
    *("time_mask_probability", "time_mask_length"),
    *("feature_mask_probability", "feature_mask_length"),
    *("dropout", "speeds", "noise_share", "weight_decay"),
)
"""What the phases of a variant have of the teacher's last cycle."""


@dataclass(frozen=True)
class VariantResult:
    """WER in percent on dev. `layers` in the order of replacement; none of them is the teacher.

    `layer_wer`: with hard gates after each of `layers`, so the last is that before the joint phase.
    `hardness` by layer (share of soft gates, PSNR in dB), `psnr_db` of the hard logits against
    the soft ones (None: nothing is replaced). `seconds` of training, where phases that several
    variants share count in each. `settings`: the recipe's sections that make the variant, and its
    choice of layers. `joint`: how much the joint phase was (updates, learning rate, averaged
    epochs, looks at dev, hash of its batches and their order); empty for the teacher.
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
    joint: Mapping[str, Any] = field(default_factory=dict)


def write_result(folder: Path, result: VariantResult) -> None:
    """Write it into the run's folder."""
    write_json(folder / RESULT, {"format_version": FORMAT_VERSION, **asdict(result)})


def read_result(folder: Path) -> VariantResult | None:
    """Read what `write_result` wrote; None where the run has not ended, LpaError when damaged."""
    path = folder / RESULT
    return read_json(path, _result_in, "the result of a study") if path.is_file() else None


def _result_in(content: Any) -> VariantResult:
    if content.pop("format_version") not in READABLE:
        raise ValueError("another format version")
    utterances = tuple(UtteranceErrors(**entry) for entry in content["utterances"])
    layers = tuple(int(layer) for layer in content["layers"])
    layer_wer = tuple(float(wer) for wer in content["layer_wer"])
    return VariantResult(
        **content | {"layers": layers, "layer_wer": layer_wer, "utterances": utterances}
    )


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
    chain: Chain,
    source: Checkpoint,
    out: Path,
    announce: Announce = lambda line: None,
    conduct: Conduct | None = None,
) -> None:
    """Run what has no result yet, one after another; a run that was killed continues."""
    recordings = Recordings()
    for run in chain:
        folder = run_folder(out, run.variant.name, run.seed)
        result = result_of(out, run.variant, run.seed)
        if result is None:
            layers = ", ".join(map(str, run.layers)) or "none"
            what = (
                "layers that keep their attention" if run.variant.control else "layers to replace"
            )
            announce(f"{run.name}: seed {run.seed}, {what}: {layers}")
            trainer = Trainer(run.recipe, conduct or Conduct(), recordings)
            if not run.layers:
                result = _ask(run, trainer, source, folder)
            elif run.variant.control:
                result = _train_on(run, trainer, source, folder)
            else:
                result = _train(run, trainer, source, folder, phases_folder(out, run.recipe))
            write_result(folder, result)
        announce(result_line(result))


def result_line(result: VariantResult) -> str:
    """The line about a run that has ended."""
    return (
        f"{result.variant}:{result.seed}: WER {result.hard_wer:.2f} %, soft gates "
        f"{result.soft_wer:.2f} %, {result.seconds:.0f} s of training"
    )


def _train(
    run: Run, trainer: Trainer, source: Checkpoint, folder: Path, shared: Path
) -> VariantResult:
    """Replace the layers, and count what the models of the run say wrong."""
    checkpoint = trainer.replace(source, folder, layers=run.layers, shared=shared)
    section = load_checkpoint(checkpoint).lpa
    assert section is not None
    log = read_log_of_layers(folder)
    return _result(
        run,
        source,
        folder,
        [*layer_folders(shared, log.layers), folder / "joint"],
        replaced=log.kept,
        psnr_db=section.figures["hard_psnr_db"],
        hardness=section.hardness,
    )


def _train_on(run: Run, trainer: Trainer, source: Checkpoint, folder: Path) -> VariantResult:
    """The attention itself through the joint phase: nothing is replaced."""
    trainer.replace(source, folder, layers=run.layers, control=True)
    return _result(run, source, folder, [folder / "joint"])


def _ask(run: Run, trainer: Trainer, source: Checkpoint, folder: Path) -> VariantResult:
    """The teacher itself, as it is."""
    speech = trainer.speech
    dev = speech.of(speech.held_out, source.vocabulary, source.receptive_field)
    said = transcribe(source.model, dev)
    write_transcripts(folder, dev.utterances, dict.fromkeys(("teacher", "soft", "hard"), said))
    return _result(run, source, folder, [])


def _joint(run: Run, phase: Path) -> dict[str, Any]:
    """How much the joint phase was, to see that rows which are compared had the same."""
    lines, settings = read_log(phase), run.recipe.replace
    return {
        "updates": max(int(line.get("step", 0)) for line in lines),
        "learning_rate": settings.joint_learning_rate,
        "averaged_epochs": settings.average_epochs,
        "looks_at_dev": sum("wer" in line for line in lines),
        "batches_sha256": phase_record(phase).get("batches_sha256", ""),
    }


def _result(
    run: Run,
    source: Checkpoint,
    folder: Path,
    phases: Sequence[Path],
    *,
    replaced: Sequence[ReplacedLayer] = (),
    psnr_db: float | None = None,
    hardness: Mapping[str, Mapping[str, float]] | None = None,
) -> VariantResult:
    """The errors in every utterance; `phases` were trained for it, the joint one last."""
    rows = read_transcripts(folder)
    texts = [row.text for row in rows]
    counted = {
        who: count_errors(texts, [getattr(row, who) for row in rows], source.vocabulary.normalise)
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
    seconds = sum(line.get("seconds", 0.0) for phase in phases for line in read_log(phase))
    wer = {f"{who}_wer": round(errors.wer, 4) for who, errors in counted.items()}
    return VariantResult(
        variant=run.variant.name,
        seed=run.seed,
        layers=tuple(one.layer for one in replaced),
        layer_wer=tuple(one.value for one in replaced),
        teacher_sha256=source.sha256,
        psnr_db=psnr_db,
        hardness=hardness or {},
        seconds=round(seconds, 1),
        settings=settings_of(run.variant, run.seed),
        utterances=tuple(utterances),
        joint=_joint(run, phases[-1]) if phases else {},
        **wer,
    )


def settings_of(variant: Variant, seed: int) -> dict[str, Any]:
    """What makes the run of a variant, as JSON; of paths the names, wherever they lie."""
    recipe = variant.seeded(seed)
    content = asdict(recipe)
    del content["lpa"]["layers"]  # of the recipe; the variant's own choice is beside it
    choice = {"layers": variant.layers, "order": variant.order, "count": variant.count}
    if variant.control:
        choice["control"] = True
    last = asdict(recipe.last_cycle)
    augmentation = {name: last[name] for name in _TAKEN_FROM_THE_TEACHER}
    chosen = {name: content[name] for name in OVERRIDES}
    chosen |= {"augmentation": augmentation, "choice": choice}
    settings: dict[str, Any] = json.loads(json.dumps(chosen, default=lambda path: path.name))
    return settings
