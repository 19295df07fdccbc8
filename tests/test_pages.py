"""The pages: links lead somewhere, commands exist, quoted messages are the program's own."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from lpa_export.formats.schemes import SCHEMES

from .conftest import REPOSITORY

FIRST_PAGE = REPOSITORY / "README.md"
TROUBLESHOOTING = REPOSITORY / "lpa_export" / "commands" / "README.md"
LONGEST_FIRST_PAGE = 150
NOT_OURS = {"build", "node_modules"}

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SCRIPT = re.compile(r"python3? ((?:tests|ios_demo)/[\w./-]+\.py)")
_MODULE = re.compile(r"python3? -m ((?:lpa_export|lpa_validate)[\w.]*)")
_FILE = re.compile(r"`([\w./-]+\.py)`")
_FOLDER = re.compile(r"`([\w./-]+/)`")
_RECIPE = re.compile(r"(?<![\w/.])recipes/[\w./-]+\w")
_MODULE_ROOTS = {
    "lpa_export": REPOSITORY,
    "lpa_validate": REPOSITORY / "validation",
}


def _files(*patterns: str) -> list[Path]:
    found = (path for pattern in patterns for path in REPOSITORY.rglob(pattern))
    return sorted(
        path
        for path in found
        if not any(
            part in NOT_OURS or (part.startswith(".") and part != ".github")
            for part in path.relative_to(REPOSITORY).parts[:-1]
        )
    )


PAGES = _files("*.md")
SPEAKING = [*PAGES, *_files("*.py", "*.yml", "*.yaml"), REPOSITORY / "Makefile"]


def _named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+)$", prose, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), f"{_named(page)}: {link}"
        assert place.resolve().is_relative_to(REPOSITORY), f"{_named(page)}: {link}"
        if anchor:
            assert anchor in _anchors(place), f"{_named(page)}: {link}"


def test_every_script_that_is_named_exists() -> None:
    named = {
        (_named(path), script)
        for path in SPEAKING
        for script in _SCRIPT.findall(path.read_text("utf-8"))
    }
    assert named
    assert [pair for pair in sorted(named) if not (REPOSITORY / pair[1]).is_file()] == []


def test_every_module_that_is_named_can_be_run() -> None:
    missing = []
    for path in SPEAKING:
        for module in _MODULE.findall(path.read_text("utf-8")):
            place = _MODULE_ROOTS[module.split(".")[0]] / module.replace(".", "/")
            if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
                missing.append((_named(path), module))
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_recipe_that_is_named_exists(page: Path) -> None:
    named = _RECIPE.findall(page.read_text("utf-8"))
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_module_file_that_is_named_is_there(page: Path) -> None:
    """From the page's folder, the repository's, a package's, or a folder that the page names."""
    text = page.read_text("utf-8")
    roots = [page.parent, REPOSITORY, *(root / name for name, root in _MODULE_ROOTS.items())]
    places = [*roots, *(root / folder for root in roots for folder in _FOLDER.findall(text))]
    named = _FILE.findall(text)
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


def test_the_first_page_is_short() -> None:
    assert len(FIRST_PAGE.read_text("utf-8").splitlines()) <= LONGEST_FIRST_PAGE


def test_the_table_of_schemes_is_that_of_the_code() -> None:
    page = (REPOSITORY / "lpa_export" / "formats" / "README.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    stated = {row[0].strip("`"): row[2:] for row in rows if len(row) == 8 and "`" in row[0]}
    assert stated.keys() == SCHEMES.keys()
    for name, spec in SCHEMES.items():
        gates = spec.gates
        share = None if gates.argmax_agreement is None else 100 * gates.argmax_agreement
        wanted = (
            *(gates.psnr_db, gates.psnr_flag_db, share, gates.wer_difference_points),
            *(gates.padding_psnr_db, spec.tap_floor_db),
        )
        found = tuple(float(cell.split()[0]) if cell else None for cell in stated[name])
        assert found == pytest.approx(wanted), name


def test_the_agreement_of_the_rules_is_that_of_their_last_count() -> None:
    rules = REPOSITORY / "validation" / "lpa_validate" / "rules" / "neural_engine"
    counted = json.loads((rules / "agreement.json").read_text("utf-8"))
    page = (REPOSITORY / "lpa_export" / "targets" / "coreml" / "README.md").read_text("utf-8")
    assert f"{counted['agree']} of {counted['of']} published placements" in page


@cache
def _texts_of_the_code() -> str:
    """Every text in the code of both packages, a line each, but for docstrings.

    What f-strings put in is left out.
    """
    texts = []
    for root in ("lpa_export", "validation"):
        for path in (REPOSITORY / root).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
            said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            texts += [
                node.value
                for node in nodes
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in said
            ]
    return "\n".join(texts)


def _quoted() -> list[str]:
    """The messages in the first column of the tables under "Troubleshooting by message"."""
    _, _, tables = TROUBLESHOOTING.read_text("utf-8").partition("# Troubleshooting by message")
    cells = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def test_there_are_messages_to_look_up() -> None:
    assert len(_quoted()) > 40


@pytest.mark.parametrize("message", _quoted())
def test_a_quoted_message_is_one_that_the_code_has(message: str) -> None:
    parts = [part.strip() for part in message.split("…") if part.strip(" ,;:")]
    assert parts and max(map(len, parts)) > 8, "too little to recognise it by"
    assert [part for part in parts if part not in _texts_of_the_code()] == []
