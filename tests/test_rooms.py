"""The rooms of the house: which package may know which, read off every import statement."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import REPOSITORY

ROOTS = {
    "lpa_export": REPOSITORY / "lpa_export",
    "lpa_validate": REPOSITORY / "validation" / "lpa_validate",
}
BELOW = {"environment", "errors", "measures", "layers", "hosts", "formats"}
MAY_KNOW = {
    "environment": set(),
    "errors": set(),
    "cli": {"environment", "errors"},
    "measures": {"errors"},
    "layers": {"errors", "measures"},
    "hosts": {"errors", "measures", "layers"},
    "formats": {"errors", "measures", "layers", "hosts"},
    "runtimes": BELOW,
    "targets": BELOW | {"runtimes"},
    "training": BELOW | {"runtimes", "cli"},
    "commands": BELOW | {"runtimes", "cli", "targets", "training"},
}
"""Room of lpa_export -> the rooms it may import from. lpa_validate may know all but training."""


def modules() -> dict[str, Path]:
    """Every module of both packages by its name."""
    found = {}
    for root, folder in ROOTS.items():
        for path in folder.rglob("*.py"):
            parts = (root, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module of ours, name imported from it) of every import in a file, lazy ones too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [(str(node.module), alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            whole = f"{module}.{name}" if f"{module}.{name}" in MODULES else module
            if whole in MODULES:
                yield whole, name


def room(module: str) -> str:
    """ "formats" for a module of lpa_export, else the package."""
    root, *inside = module.split(".")
    return inside[0] if root == "lpa_export" and inside else root


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_only_the_rooms_below(module: str) -> None:
    here = room(module)
    for other, name in imports(MODULES[module]):
        there = room(other)
        if module == "lpa_export" or there == here:
            continue  # the front door opens onto every room
        if there == "lpa_export":
            assert name == "__version__", f"{module} imports {name} from the front door"
        elif here == "lpa_validate":
            assert there != "training", f"{module} knows {other}"
        else:
            assert there in MAY_KNOW[here], f"{module} of room {here} knows {other}"


def test_every_room_is_in_the_table() -> None:
    rooms = {room(module) for module in MODULES} - {*ROOTS}
    assert rooms == {*MAY_KNOW}


def test_no_private_module_is_imported_and_no_private_name_from_elsewhere() -> None:
    for module, path in MODULES.items():
        for other, name in imports(path):
            private = [part for part in (*other.split("."), name) if part.startswith("_")]
            assert [part for part in private if not part.endswith("__")] == [], (
                f"{module} imports {name} from {other}"
            )
