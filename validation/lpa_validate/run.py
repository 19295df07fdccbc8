"""``lpa-validate`` as a function: a bundle and speech in, a report out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from platform import machine, python_version, system
from typing import TYPE_CHECKING

from lpa_export.decoding.language_model import LanguageModel
from lpa_export.decoding.settings import Settings
from lpa_export.environment import installed_versions
from lpa_export.errors import LpaError
from lpa_export.formats.audio import stated_seconds
from lpa_export.formats.bundle import (
    AnyBundle,
    Bundle,
    artifact_digest,
    artifacts_size,
    default_bundle,
    open_bundle,
)
from lpa_export.formats.manifest import MANIFEST, Normaliser
from lpa_export.formats.separation_bundle import open_separator_bundle, task_of_bundle
from lpa_export.formats.speech import Utterance, data_hash, load_utterances
from lpa_export.formats.task import RECOGNITION, SEPARATION
from lpa_export.formats.text import Vocabulary, normalise_text
from lpa_export.runtimes import ArtifactError, Runner
from lpa_export.runtimes.memory import require_memory
from lpa_export.targets import TargetSpec, register_target, target_named
from lpa_validate.checks import CheckSpec, check_that_gives, checks_of, known_checks
from lpa_validate.device import check_device, device_name, read_device_report
from lpa_validate.evaluation import Evaluated, Opened, Placement, Validation
from lpa_validate.jobs import Jobs, Work, evaluate_over
from lpa_validate.reference import ReferenceModel, open_reference
from lpa_validate.report import Check, Data, Reference, Report, not_run

if TYPE_CHECKING:
    from lpa_validate.separation.reference import SeparatorModel

__all__ = ["parse_checks", "run_checks", "validate"]

_TOOLS = (
    *("coreai-core", "coremltools", "executorch", "flashlight-text", "jiwer", "mlx", "numpy"),
    *("onnx", "onnxruntime", "torch", "transformers"),
)

ALONE = Jobs()
"""All utterances in this process."""


def validate(
    *,
    target: str,
    bundle: str | Path | None = None,
    data: str | Path | None = None,
    checkpoint: str | Path | None = None,
    checks: Sequence[str] | None = None,
    limit: int | None = None,
    placement: Placement | None = None,
    case_folder: str | Path | None = None,
    allow_unjudged: bool = False,
    merge: str | Path | None = None,
    lm: str | Path | None = None,
    lm_weight: float | None = None,
    word_score: float | None = None,
    beam: int | None = None,
    jobs: Jobs = ALONE,
) -> Report:
    """Run ``checks`` (None: all) on a bundle of ``target`` and report.

    Of a bundle that separates speech, ``data`` are mixtures with their sources, or a separation
    recipe for its stored list.

    ``bundle`` None: the only one under ``build/``; ``data`` None: the demo speech; ``limit``:
    the first so many utterances; ``placement``: what the ops check compares with;
    ``case_folder``: where the operation that makes parity fail is written with its inputs;
    ``allow_unjudged``: too little speech to judge by is no fault; ``merge``: what the demo app
    measured on a device with this very bundle; ``lm``: an ARPA file, with which the WER is counted
    a second time, and the three after it as in `lpa_export.decoding.settings`; ``jobs``: the
    processes that utterances are spread over, which changes no digit of the report. Raises
    LpaError for anything that keeps it from running; a damaged artifact is a failed check, not an
    error.
    """
    started = time.monotonic()
    target_named(target)  # a name that nobody knows is refused before anything is read
    settings = Settings.of(lm, lm_weight=lm_weight, word_score=word_score, beam=beam)
    folder = Path(bundle or default_bundle(target))
    if task_of_bundle(folder) == SEPARATION:
        for given, flag in ((merge, "--merge"), (placement, "--placement"), (lm, "--lm")):
            if given is not None:
                raise LpaError(f"{folder}: it separates speech: {flag} goes with recognisers")
        if not jobs.alone:
            raise LpaError(f"{folder}: mixtures are separated in one process; leave out --jobs")
        found = _validate_separator(folder, target, data, checkpoint, checks, limit)
        return replace(found, seconds=time.monotonic() - started)
    opened = open_bundle(folder)
    _require_target(opened, target)
    names = _names(target, checks)
    if settings is not None and "wer" not in names:
        raise LpaError("--lm goes with the check wer, which is not among those asked for")
    device = None if merge is None else read_device_report(Path(merge), opened)
    utterances: list[Utterance] = []
    reference: ReferenceModel | None = None
    problem = ""
    known = checks_of(target)
    if any(known[name].needs_speech for name in names):
        utterances = load_utterances(None if data is None else Path(data), limit=limit)
        _require_memory(opened, utterances, jobs)
        reference, problem = open_reference(opened, checkpoint)
    validation = open_validation(
        opened, utterances, reference, problem, placement, case_folder, settings
    )
    if not jobs.alone:
        validation = replace(
            validation, evaluate_all=_elsewhere(jobs, opened, checkpoint, settings)
        )
    if "wer" in names and validation.tokens is not None:
        _require_transcribable(utterances, validation.tokens)
    report = run_checks(
        validation,
        names,
        data=_data_name(data) if utterances else None,
        asked=() if checks is None else names,
    )
    if device is not None:
        report = replace(
            report,
            checks=(*report.checks, check_device(device, opened, report)),
            environment={**report.environment, "device": device_name(device)},
        )
    seconds = time.monotonic() - started
    return replace(report, seconds=seconds, allow_unjudged=allow_unjudged)


def _validate_separator(
    folder: Path,
    target: str,
    data: str | Path | None,
    checkpoint: str | Path | None,
    checks: Sequence[str] | None,
    limit: int | None,
) -> Report:
    from lpa_validate.separation.run import data_of, open_separation

    _require_target(open_separator_bundle(folder), target)
    names = _names(target, checks, SEPARATION)
    validation = open_separation(
        folder,
        data=None if data is None else Path(data),
        checkpoint=checkpoint,
        limit=limit,
        names=names,
    )
    done = _run_all(validation, target, names, SEPARATION)
    return _report(
        validation.bundle,
        done,
        data=data_of(validation, _data_name(data)) if validation.places else None,
        reference=_identity(validation.bundle, validation.reference, names),
        asked=() if checks is None else names,
    )


def _elsewhere(
    jobs: Jobs, bundle: Bundle, checkpoint: str | Path | None, settings: Settings | None
) -> Callable[[Sequence[Utterance]], list[Evaluated]]:
    """What evaluates utterances over processes; paths are made whole for those on other machines.

    A hub id stays what it is.
    """
    row = target_named(bundle.manifest.target)
    named = Path(checkpoint).resolve() if checkpoint and Path(checkpoint).exists() else checkpoint
    if settings is not None:
        settings = replace(settings, path=settings.path.resolve())
    work = Work(_open_in_process, (row, bundle.path.resolve(), named, settings))

    def evaluate_all(utterances: Sequence[Utterance]) -> list[Evaluated]:
        if jobs.cluster is not None:
            utterances = [replace(item, audio=item.audio.resolve()) for item in utterances]
        return evaluate_over(jobs, work, utterances)

    return evaluate_all


def _open_in_process(
    row: TargetSpec, bundle: Path, checkpoint: str | Path | None, settings: Settings | None
) -> Validation:
    """What a process of ours evaluates with; it may not know of a target that was registered."""
    register_target(row)
    opened = open_bundle(bundle)
    return open_validation(opened, (), *open_reference(opened, checkpoint), settings=settings)


def _require_memory(bundle: Bundle, utterances: Sequence[Utterance], jobs: Jobs) -> None:
    """Raise LpaError where the longest recording takes more memory than there is.

    Once for every process of this machine: the longest may meet in all of them.
    """
    seconds = {utterance.audio: stated_seconds(utterance.audio) for utterance in utterances}
    longest = max(seconds, key=lambda audio: seconds[audio])
    processes = 1 if jobs.cluster else jobs.count or 1
    require_memory(bundle.manifest, seconds[longest], str(longest), processes=processes)


def _require_transcribable(utterances: Sequence[Utterance], tokens: Vocabulary) -> None:
    """Raise LpaError for a transcript that the model has no tokens for: it must fail there."""
    for utterance in utterances:
        try:
            tokens.require_sayable(utterance.text)
        except LpaError as error:
            raise LpaError(f"{utterance.id}: {error}") from error


def open_validation(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    reference: ReferenceModel | None,
    reference_problem: str,
    placement: Placement | None = None,
    case_folder: str | Path | None = None,
    settings: Settings | None = None,
) -> Validation:
    """Everything the checks need; an artifact that does not open leaves ``runner`` None.

    ``settings``: of the language model, if there is one. Raises LpaError for a runtime that is
    missing and a language model that cannot be used.
    """
    runner_class = target_named(bundle.manifest.target).runner_class()
    runner: Runner | None = None
    problem = ""
    tokens: Vocabulary | None = None
    try:
        tokens = _vocabulary(bundle)
        runner = runner_class(bundle)
    except (ArtifactError, LpaError) as error:  # the bundle is damaged: integrity says how
        problem = str(error)
    return Validation(
        bundle=bundle,
        gates=bundle.manifest.gates,
        tokens=tokens,
        runner=runner,
        runner_problem=problem,
        open_runner=lambda threads: runner_class(bundle, threads=threads),
        reference=reference,
        reference_problem=reference_problem,
        utterances=utterances,
        placement=placement,
        case_folder=None if case_folder is None else Path(case_folder),
        language_model=(
            LanguageModel(settings, tokens) if settings is not None and tokens is not None else None
        ),
    )


def run_checks(
    validation: Validation,
    names: Sequence[str],
    *,
    data: str | None = None,
    asked: Sequence[str] = (),
) -> Report:
    """The named checks in their own order, as a report. Raises LpaError for unusable speech."""
    done = _run_all(validation, validation.bundle.manifest.target, names, RECOGNITION)
    return _report(
        validation.bundle,
        done,
        data=None if data is None else _data(data, validation),
        reference=_identity(validation.bundle, validation.reference, names),
        normaliser=validation.bundle.manifest.normaliser,
        asked=asked,
    )


def _run_all(validation: Opened, target: str, names: Sequence[str], task: str) -> list[Check]:
    checks: list[Check] = []
    for name, spec in checks_of(target, task).items():
        if name in names:
            checks += _run(spec, validation)
    return checks


def _report(
    bundle: AnyBundle,
    checks: Sequence[Check],
    *,
    data: Data | None,
    reference: Reference | None,
    normaliser: Normaliser | None = None,
    asked: Sequence[str],
) -> Report:
    manifest = bundle.manifest
    return Report(
        target=manifest.target,
        model=manifest.model,
        scheme=manifest.scheme,
        artifacts={name: artifact_digest(manifest, name) for name in manifest.artifacts},
        artifact_bytes=artifacts_size(manifest),
        data=data,
        reference=reference,
        normaliser=normaliser,
        environment=_environment(manifest.target),
        checks=tuple(checks),
        asked=tuple(asked),
    )


def _identity(
    bundle: AnyBundle, model: "ReferenceModel | SeparatorModel | None", names: Sequence[str]
) -> Reference | None:
    """What the checks of these names compare with: the model, its golden clips, or nothing."""
    if model is not None:
        return model.identity
    if "parity" not in names:
        return None
    made_from = bundle.manifest.checkpoint
    return Reference("golden", made_from.name, made_from.sha256)


def parse_checks(text: str | None) -> list[str] | None:
    """ "ops,parity" as a list, None for None. Raises LpaError for a check that does not exist."""
    if text is None:
        return None
    asked = [name.strip() for name in text.split(",") if name.strip()]
    names = list(dict.fromkeys(map(check_that_gives, asked)))
    known = known_checks()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise LpaError(
            f"unknown check {', '.join(map(repr, unknown)) or repr(text)}; "
            f"known checks: {', '.join(known)}"
        )
    return names


def _run(spec: CheckSpec, validation: Opened) -> list[Check]:
    """One check, timed. What breaks in the artifact fails it; no artifact leaves it not run."""
    started = time.monotonic()
    if validation.runner is None and not spec.opens_itself:
        found = [not_run(spec.name, f"the artifact does not open: {validation.runner_problem}")]
    else:
        try:
            found = spec.load()(validation)
        except ArtifactError as error:
            if validation.runner is None:
                found = [not_run(spec.name, f"the artifact does not open: {error}")]
            else:
                found = [Check(spec.name, "fail", reason=str(error))]
    seconds = (time.monotonic() - started) / len(found)
    return [replace(item, seconds=seconds) for item in found]


def _names(target: str, checks: Sequence[str] | None, task: str = RECOGNITION) -> list[str]:
    """The checks to run. Raises LpaError for one that bundles of the task do not have."""
    known = list(checks_of(target, task))
    missing = [name for name in checks or () if name not in known]
    if missing:
        raise LpaError(
            f"target {target} has no check {', '.join(missing)}; it has {', '.join(known)}"
        )
    return known if checks is None else list(checks)


def _require_target(bundle: AnyBundle, target: str) -> None:
    found = bundle.manifest.target
    if found != target:
        raise LpaError(
            f"{bundle.path / MANIFEST}: a bundle for target {found!r}, asked for {target!r}; "
            "name the matching --target or --bundle"
        )


def _vocabulary(bundle: Bundle) -> Vocabulary:
    """tokens.json as an app reads it; LpaError when the manifest says otherwise."""
    stated = bundle.manifest.vocabulary
    tokens = Vocabulary.read(bundle.file(stated.file))
    if (tokens.blank, tokens.word_delimiter) != (stated.blank_id, stated.word_delimiter):
        raise LpaError(
            f"{stated.file} has blank {tokens.blank} and word delimiter "
            f"{tokens.word_delimiter!r}, the manifest {stated.blank_id} and "
            f"{stated.word_delimiter!r}"
        )
    return tokens


def _data_name(data: str | Path | None) -> str:
    return "demo" if data is None else Path(data).name


def _data(name: str, validation: Validation) -> Data:
    utterances = validation.utterances
    normalise = normalise_text if validation.tokens is None else validation.tokens.normalise
    return Data(
        name,
        data_hash(utterances),
        len(utterances),
        sum(len(normalise(utterance.text).split()) for utterance in utterances),
        _seconds(validation),
        _missing_seconds(validation),
    )


def _seconds(validation: Validation) -> float | None:
    """Seconds of audio: as read where the data was transcribed, else as the data states it."""
    if "evaluated" in vars(validation):
        samples = sum(item.samples for item in validation.evaluated)
        return float(samples / validation.bundle.manifest.sample_rate)
    stated = [utterance.duration for utterance in validation.utterances]
    return None if None in stated else sum(filter(None, stated))


def _missing_seconds(validation: Validation) -> dict[str, float]:
    """By id, of what was transcribed."""
    heard = validation.evaluated if "evaluated" in vars(validation) else []
    return {item.utterance.id: item.missing_seconds for item in heard if item.missing_seconds}


def _environment(target: str) -> dict[str, str]:
    """Versions of what took part; a tool that is not installed is left out."""
    machine_of = {"python": python_version(), "platform": f"{system()} {machine()}"}
    by = target_named(target).measured_by
    return machine_of | installed_versions(_TOOLS) | ({"measured by": by} if by else {})
