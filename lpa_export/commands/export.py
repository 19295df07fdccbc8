"""lpa-export: a checkpoint in, a bundle for one target out."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.cli import COULD_NOT_RUN, PASSED, describe, print_error, require_flag, run_command
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.formats.checkpoint import Checkpoint, LPASection
    from lpa_export.formats.gates import Gates
    from lpa_export.formats.recipe import Recipe
    from lpa_export.formats.schemes import Scheme
    from lpa_export.targets import TargetSpec
    from lpa_export.targets.assemble import BundleFiles

__all__ = ["ExportResult", "export", "main"]

PROG = "lpa-export"

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ExportResult:
    """What was written, or (`dry_run`) what would be: then there are no `files`."""

    bundle: Path
    target: str
    scheme: str
    model: str
    layers: int
    replaced_layers: tuple[int, ...]
    files: BundleFiles
    dry_run: bool


def export(
    *,
    target: str,
    checkpoint: str | Path | None = None,
    language: str | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    precision: str | None = None,
    quantize: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    announce: Callable[[str], None] = lambda step: None,
    **settings: Any,
) -> ExportResult:
    """Write the bundle of a checkpoint for `target`.

    `checkpoint`: a folder or hub id, None for the model that ships with the package; `language`:
    which of its languages, where it has several; `recipe`: a YAML file whose gates and target
    settings hold; `out`: the bundle's folder, by default build/<model>/<target>, with -<backend>
    and -<scheme> behind it where they are not the target's defaults; `precision` or `quantize`:
    one of the target's schemes; `settings`: those of the target (`backend`, `buckets` in seconds),
    as its section of a recipe has them. With `dry_run` all inputs are checked and nothing is
    written.

    Raises LpaError for everything a user can put right; nothing is left behind then.
    """
    from lpa_export.targets import target_named
    from lpa_export.targets.settings import chosen_scheme, target_settings, variants

    spec = target_named(target)
    spec.require()
    read = _recipe(recipe)
    own = target_settings(spec, read, settings)
    wanted = chosen_scheme(spec, own, precision=precision, quantize=quantize)
    # Not before: what stands above is read at once, torch takes seconds.
    from lpa_export.formats.separator import is_separator

    if out is not None:
        _require_writable(Path(out), overwrite)
    announce("loading the checkpoint")
    found: _Found
    if is_separator(checkpoint, language):
        assert checkpoint is not None  # the shipped model recognises speech
        if language is not None or recipe is not None:
            raise LpaError(
                f"{checkpoint}: it separates speech: --language and --recipe go with models that "
                "recognise it"
            )
        found = _separator(spec, wanted, own, checkpoint)
    else:
        found = _recogniser(spec, wanted, own, checkpoint, language, read)
    scheme = [] if wanted == spec.schemes[0] else [wanted.name]
    parts = [target, *variants(own), *scheme]
    folder = Path(out) if out is not None else _default_folder(found.model, parts)
    files = None
    if dry_run:
        _require_writable(folder, overwrite)
    else:
        files = found.write(folder, overwrite=overwrite, announce=announce)
    return ExportResult(
        bundle=folder,
        target=target,
        scheme=wanted.name,
        model=found.model,
        layers=found.layers,
        replaced_layers=found.replaced_layers,
        files=files or _nothing(),
        dry_run=dry_run,
    )


@dataclass(frozen=True)
class _Found:
    """A checkpoint that can be exported; `write`: its whole bundle into a folder, or nothing."""

    model: str
    layers: int
    replaced_layers: tuple[int, ...]
    write: Callable[..., BundleFiles]


def _recogniser(
    spec: TargetSpec,
    scheme: Scheme,
    settings: Any,
    checkpoint: str | Path | None,
    language: str | None,
    recipe: Recipe | None,
) -> _Found:
    from lpa_export.targets.assemble import BundleRequest, write_bundle

    loaded = _load(checkpoint, language)
    if recipe is not None:
        _require_same_layers(recipe, loaded)
    _require_hard(loaded.lpa, loaded.name, recipe)
    spec.load().check(loaded, settings, scheme)
    gates = _gates(recipe, scheme.name)
    request = BundleRequest(spec, scheme, settings, loaded, checkpoint is None, gates)
    layers = loaded.model.config.num_hidden_layers
    replaced = tuple(sorted(loaded.replaced))
    return _Found(loaded.name, layers, replaced, partial(write_bundle, request))


def _separator(spec: TargetSpec, scheme: Scheme, settings: Any, checkpoint: str | Path) -> _Found:
    from lpa_export.formats.separator import load_separator
    from lpa_export.targets.separation.assemble import SeparatorRequest, write_separator_bundle

    spec.separating()
    loaded = load_separator(checkpoint)
    request = SeparatorRequest(spec, scheme, settings, loaded)
    request.check()
    layers = len(loaded.model.layers)
    replaced = tuple(sorted(loaded.replaced))
    return _Found(loaded.name, layers, replaced, partial(write_separator_bundle, request))


def _nothing() -> BundleFiles:
    from lpa_export.targets.assemble import BundleFiles

    return BundleFiles({}, ())


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the keyword arguments of :func:`export`, and settings of the targets."""
    from lpa_export.targets import known_targets
    from lpa_export.targets.settings import flags

    describe(
        parser,
        "Write the bundle of a trained LPA speech model for one target, or all. A model that "
        "separates or enhances speech goes to the targets that can do so.",
        examples=(
            f"{PROG} --target onnx",
            f"{PROG} --target coreml --checkpoint my/model --buckets 5,10 --quantize palette6",
        ),
        interrupted="the bundle in work was not written, give the same command again, "
        "with --overwrite where --target all had finished others",
    )
    parser.add_argument(
        "--target",
        required=True,
        metavar="NAME",
        help=f"{', '.join(known_targets())} or all of them that are installed",
    )
    require_flag(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="DIR|HUB_ID",
        help="folder or Hugging Face id (default: the model that ships with lpa-export)",
    )
    parser.add_argument(
        "--language", metavar="CODE", help="which of a checkpoint's languages (MMS), such as deu"
    )
    parser.add_argument("--recipe", metavar="FILE", help="YAML with gates and target settings")
    parser.add_argument(
        "--out", metavar="DIR", help="the bundle (default: build/MODEL/TARGET); with all: above it"
    )
    parser.add_argument("--precision", metavar="KIND", help=_schemes(stored_smaller=False))
    parser.add_argument("--quantize", metavar="KIND", help=_schemes(stored_smaller=True))
    for flag in flags():
        name = flag.name.replace("_", "-")
        text = f"{', '.join(flag.targets)}: {flag.help}"
        parser.add_argument(f"--{name}", type=flag.parse, metavar="VALUE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an older bundle")
    parser.add_argument(
        "--dry-run", action="store_true", help="check the inputs, say what would be done"
    )


def _schemes(*, stored_smaller: bool) -> str:
    """What each target can be asked for, weights in fewer bits than products or not."""
    from lpa_export.targets import known_targets, target_named

    found: dict[str, list[str]] = {}
    for target in known_targets():
        schemes = target_named(target).schemes
        kept = [scheme.name for scheme in schemes if scheme.compresses == stored_smaller]
        if kept:
            found.setdefault(", ".join(kept), []).append(target)
    return "; ".join(f"{', '.join(targets)}: {names}" for names, targets in found.items())


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from lpa_export.targets import ALL, targets_named

    given = {name: value for name, value in vars(arguments).items() if name != "debug"}
    targets = targets_named(given["target"], required=given.pop("require"))
    if given["target"] == ALL:
        return _run_all(given, targets)
    print(_summary(_shown(given), given["checkpoint"]))
    return PASSED


def _shown(given: Mapping[str, Any]) -> ExportResult:
    """:func:`export` with its progress on the terminal."""
    progress = _Progress()
    try:
        return export(**given, announce=progress)
    finally:
        progress.clear()


def _run_all(given: Mapping[str, Any], targets: Sequence[str]) -> int:
    """Every target after another; one that cannot be written is said and spoils the exit code.

    A setting that only some targets have is for those; a target that is not installed is listed.
    """
    from lpa_export.targets import absent_targets
    from lpa_export.targets.settings import flags

    code = PASSED
    for target in targets:
        out = None if given["out"] is None else Path(given["out"]) / target
        others = {flag.name: None for flag in flags() if target not in flag.targets}
        try:
            result = _shown({**given, **others, "target": target, "out": out})
            print(_summary(result, given["checkpoint"]))
        except LpaError as error:
            print_error(PROG, f"target {target}: {error}")
            code = COULD_NOT_RUN
    for problem in absent_targets().values():
        print(f"not run    {problem}")
    return code


class _Progress:
    """One line on stderr that says what is being done; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, step: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{PROG}: {step} ...")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _summary(result: ExportResult, checkpoint: str | None) -> str:
    replaced = ", ".join(map(str, result.replaced_layers)) or "none"
    lines = [
        f"{'would write' if result.dry_run else 'wrote'} {result.bundle}",
        f"  model      {result.model}, {result.layers} layers, LPA in {replaced}",
        f"  target     {result.target}, {result.scheme}",
    ]
    if result.dry_run:
        return "\n".join([*lines, "  nothing was written (--dry-run)"])
    files = result.files
    artifacts = ", ".join(f"{name} {_size(files.size(name))}" for name in files.artifacts)
    # Without its checkpoint a bundle is held against the golden clips only.
    reference = [] if checkpoint is None else ["--checkpoint", checkpoint]
    validate = ["lpa-validate", "--target", result.target, "--bundle", str(result.bundle)]
    lines += [
        f"  files      {len(files.sizes)}, {_size(sum(files.sizes.values()))}; {artifacts}",
        f"  next       {shlex.join([*validate, *reference])}",
    ]
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _recipe(path: str | Path | None) -> Recipe | None:
    if path is None:
        return None
    from lpa_export.targets.settings import load_recipe

    return load_recipe(path)


def _require_writable(folder: Path, overwrite: bool) -> None:
    from lpa_export.targets.assemble import require_writable

    require_writable(folder, overwrite=overwrite)


def _load(checkpoint: str | Path | None, language: str | None) -> Checkpoint:
    from lpa_export.formats.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint, language=language)


def _require_same_layers(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """A recipe's gates say nothing about another model."""
    wanted, found = sorted(recipe.lpa.layers), sorted(checkpoint.replaced)
    if wanted != found:
        raise LpaError(
            f"recipe {recipe.name} replaces layers {wanted}, checkpoint {checkpoint.name} has LPA "
            f"in {found}; give the recipe it was trained with, or train it first (lpa-train)"
        )


def _require_hard(section: LPASection | None, name: str, recipe: Recipe | None) -> None:
    """Refuse a model whose WER moves by more than the recipe allows when its gates become hard."""
    from lpa_export.formats.gates import HARDEN_WER_POINTS

    if section is None:
        return
    soft, hard = (section.figures.get(key) for key in ("soft_wer", "hard_wer"))
    limit = recipe.max_harden_wer_points if recipe else HARDEN_WER_POINTS
    if not isinstance(soft, int | float) or not isinstance(hard, int | float):
        return
    # The figures are rounded when they are stored: do not stumble over their last digit.
    if hard - soft > limit + 1e-6:
        raise LpaError(
            f"{name}: hard gates raise the WER from {soft:g} to {hard:g} %, more than the "
            f"{limit:g} points allowed{_softest(section)}; train on at a lower temperature"
        )


def _softest(section: LPASection) -> str:
    """`: layer 2 is the softest (...)`, or nothing where the checkpoint has no such figures."""
    shares = {
        layer: figures["soft_share"]
        for layer, figures in section.hardness.items()
        if isinstance(figures, dict) and isinstance(figures.get("soft_share"), int | float)
    }
    if not shares:
        return ""
    layer = max(shares, key=lambda key: shares[key])
    return (
        f": layer {layer} is the softest ({100 * shares[layer]:.1f} % of its gates lie between "
        "0.05 and 0.95)"
    )


def _gates(recipe: Recipe | None, scheme: str) -> Gates:
    from lpa_export.formats.schemes import resolve_gates

    return recipe.gates.resolved(scheme) if recipe else resolve_gates(scheme, {})


def _default_folder(model: str, names: Sequence[str]) -> Path:
    """build/<model>/<target>, or <target>-<variant> beside it."""
    if not _FOLDER_NAME.fullmatch(model):
        raise LpaError(f"the model's name {model!r} cannot name a folder; give one with --out")
    from lpa_export.formats.bundle import BUILD

    return BUILD / model / "-".join(names)
