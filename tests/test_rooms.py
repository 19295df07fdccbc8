"""The rooms of the house: which package may know which, read off every import statement."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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
    "decoding": BELOW | {"runtimes", "cli"},
    "targets": BELOW | {"runtimes"},
    "benchmark": BELOW | {"runtimes", "targets"},
    "training": BELOW | {"runtimes", "cli"},
    "commands": BELOW | {"runtimes", "cli", "decoding", "targets", "benchmark", "training"},
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


def imports(path: Path, *, types: bool = True) -> Iterator[tuple[str, str]]:
    """(module of ours, name imported from it) of every import in a file, lazy ones too.

    Without ``types``: not those for the type checker alone.
    """
    tree = ast.parse(path.read_text("utf-8"))
    for branch in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if not types and ast.unparse(branch.test) == "TYPE_CHECKING":
            branch.body = []
    for node in ast.walk(tree):
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


def test_no_module_leads_back_to_itself() -> None:
    """Through any chain of imports, lazy ones too; names for the type checker alone aside."""
    known = {
        module: {other for other, _ in imports(path, types=False)} - {module, *ROOTS}
        for module, path in MODULES.items()
        if module not in ROOTS
    }
    assert _cycle(known) == ""


def test_no_two_packages_import_one_another() -> None:
    """Packages are folders; what lies inside one is part of it."""
    known: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        here = _package(module)
        for other, _ in imports(path):
            there = _package(other)
            if not {here, there} & {*ROOTS} and not _within(here, there):
                known.setdefault(here, set()).add(there)
    assert _cycle(known) == ""


def _package(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def _within(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _cycle(known: dict[str, set[str]]) -> str:
    """The first cycle, empty where there is none."""
    try:
        tuple(TopologicalSorter(known).static_order())
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""
