"""What commands that run a model on many sound files do alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lpa_export.cli import COULD_NOT_RUN, PASSED, print_error
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["Refuse", "for_each", "print_all", "require_target", "runner_of"]

Found = TypeVar("Found")

Refuse = Callable[[Path, LpaError], None]
"""Is told of a file that cannot be used, and why."""


def for_each(
    paths: Sequence[Path], work: Callable[[Path], Found], refused: Refuse | None, prog: str
) -> tuple[Found, ...]:
    """What `work` makes of each file that it can use, behind a bar of files.

    Without `refused` the first LpaError ends it.
    """
    from tqdm import tqdm

    found = []
    for path in tqdm(paths, disable=None, leave=False, unit="file", desc=prog):
        try:
            found.append(work(path))
        except LpaError as error:
            if refused is None:
                raise
            refused(path, error)
    return tuple(found)


def print_all(
    prog: str,
    run: Callable[[Refuse], Iterable[Found]],
    entry: Callable[[Found], dict[str, Any]] | None,
    line: Callable[[Found], str],
) -> int:
    """Run and print a line per file, or with `entry` one JSON list; the command's exit code."""
    refused: dict[Path, str] = {}

    def refuse(path: Path, error: LpaError) -> None:
        refused[path] = str(error)
        print_error(prog, str(error))

    done = run(refuse)
    if entry is None:
        for item in done:
            print(line(item))
    else:
        entries = [entry(item) for item in done]
        entries += [{"file": str(path), "error": error} for path, error in refused.items()]
        print(json.dumps(entries, ensure_ascii=False, indent=1))
    return COULD_NOT_RUN if refused else PASSED


def require_target(target: str, checkpoint: str | Path | None) -> None:
    """Raise LpaError for a target of bundles that is not known, and for a checkpoint beside it."""
    from lpa_export.targets import known_targets

    if target not in known_targets():
        raise LpaError(f"unknown target {target!r}; known: {', '.join(known_targets())}, torch")
    if checkpoint is not None:
        raise LpaError(f"--checkpoint goes with --target torch; {target} takes --bundle")


def runner_of(bundle: AnyBundle, target: str, *, separates: bool = False) -> Any:
    """The runner that validation runs the bundle in. Raises LpaError for a damaged one."""
    from lpa_export.formats.bundle import require_sound
    from lpa_export.runtimes import ArtifactError
    from lpa_export.targets import target_named

    require_sound(bundle, target)
    try:
        return target_named(target).runner_class(separates=separates)(bundle)
    except ArtifactError as error:
        raise LpaError(f"{bundle.path}: {error}; export the bundle again") from error
