"""lpa-bundle: an exported bundle into the resources of the demo app."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpa_export.cli import PASSED, describe, run_command
from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from lpa_export.formats.bundle import Bundle

__all__ = ["Bundled", "bundle_into", "main"]

PROG = "lpa-bundle"

APP_TARGET = "coreml"
ALL = "all"
_PROJECT = "project.yml"
_PLACE = Path("App") / "Resources" / "Bundle"
_ELSEWHERE = {
    "onnx": "lpa-demo runs it",
    "executorch": "it runs in ExecuTorch's own apps",
    "mlx": "ios_demo/README.md has a runner for apps with mlx-swift",
}


@dataclass(frozen=True)
class Bundled:
    """What was put where. ``size`` in bytes; ``left_out``: targets that an app cannot run."""

    path: Path
    model: str
    scheme: str
    size: int
    left_out: tuple[str, ...] = ()


def bundle_into(
    app: str | Path, *, target: str = APP_TARGET, bundle: str | Path | None = None
) -> Bundled:
    """Copy a Core ML bundle into an app's resources: all of it, or nothing.

    Every hash is checked before the copy and after it; a bundle that was there before stays until
    the new one is complete. ``target`` "all" takes the Core ML one and names what it left out.
    ``bundle`` None: the only one under ``build/``.

    Raises LpaError for a target that the app cannot run, a folder that is no app, and a bundle
    that is damaged, of another target, or not there.
    """
    from lpa_export.formats.bundle import default_bundle, new_folder, open_bundle

    if target not in (APP_TARGET, ALL):
        where = _ELSEWHERE.get(target, f"it takes {APP_TARGET}")
        raise LpaError(f"the app runs {APP_TARGET} bundles, not {target}: {where}")
    app = Path(app)
    if not (app / _PROJECT).is_file():
        raise LpaError(f"{app}: no {_PROJECT} in it, so it is no app; give the folder ios_demo")
    source = open_bundle(default_bundle(APP_TARGET) if bundle is None else Path(bundle))
    found = source.manifest.target
    if found != APP_TARGET:
        where = _ELSEWHERE.get(found, f"it takes {APP_TARGET}")
        raise LpaError(f"{source.path}: a bundle for target {found!r}, which no app runs: {where}")
    _require_sound(source)
    place = app / _PLACE
    with new_folder(place, overwrite=True) as new:
        _copy(source, new)
        _require_sound(open_bundle(new))
    return Bundled(
        place,
        source.manifest.model,
        source.manifest.scheme.name,
        sum(entry.bytes for entry in source.manifest.files.values()),
        _beside(source.path) if target == ALL else (),
    )


def configure_parser(parser: argparse.ArgumentParser) -> None:
    """The flags are the arguments of :func:`bundle_into`."""
    describe(
        parser,
        "Put an exported bundle into the resources of the demo app, its files checked.",
        examples=(
            f"{PROG} --target coreml --app ios_demo",
            f"{PROG} --target all --bundle build/m/coreml --app ios_demo",
        ),
        interrupted="the app's bundle is as it was",
    )
    parser.add_argument(
        "--target", required=True, metavar="NAME", help="coreml, or all: what of it an app can run"
    )
    parser.add_argument("--app", required=True, metavar="DIR", help="the app's folder: ios_demo")
    parser.add_argument(
        "--bundle", metavar="DIR", help="the bundle (default: the one under build/)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(PROG, configure_parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    done = bundle_into(arguments.app, target=arguments.target, bundle=arguments.bundle)
    print(f"put {done.model} ({done.scheme}, {done.size / 1e6:.1f} MB) into {done.path}")
    for name in done.left_out:
        print(f"left out {name}: {_ELSEWHERE.get(name, 'the app cannot run it')}")
    print("next: open the app in Xcode, see ios_demo/README.md")
    return PASSED


def _copy(source: Bundle, folder: Path) -> None:
    """The files that the manifest lists and the manifest itself; no report of this machine."""
    import shutil

    from lpa_export.formats.manifest import MANIFEST

    for name in [MANIFEST, *source.manifest.files]:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.file(name), place)


def _require_sound(bundle: Bundle) -> None:
    from lpa_export.formats.bundle import damaged_files

    if damaged := damaged_files(bundle):
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise LpaError(f"{bundle.path}: damaged: {damaged[0]}{more}; export the bundle again")


def _beside(folder: Path) -> tuple[str, ...]:
    """Targets whose bundles lie beside this one."""
    found = (path.parent.name for path in folder.resolve().parent.glob("*/manifest.json"))
    return tuple(sorted(name for name in found if name != folder.resolve().name))
