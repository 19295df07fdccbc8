"""What can be said of ios_demo by reading it: stubs, project file, forbidden habits."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ios_demo.vectors import REPOSITORY

APP = REPOSITORY / "ios_demo"
STUBS = sorted(path for path in APP.glob("Stubs/*/*.swift") if path.stem != "Machinery")
SWIFT = sorted([*APP.glob("Sources/**/*.swift"), *APP.glob("App/**/*.swift")])
APPLE = r"developer\.apple\.com/documentation"
MLX = r"swiftpackageindex\.com/ml-explore/mlx-swift/main/documentation/mlx"
PAGE = re.compile(rf"^// https://({APPLE}|{MLX})/\S+( \(.+\))?$")


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_each_stub_declaration_names_its_page(path: Path) -> None:
    _, *blocks = re.split(r"\n\n(?=\S)", path.read_text("utf-8"))
    declarations = [block for block in blocks if "public" in block]
    assert declarations
    for block in declarations:
        head, *body = block.splitlines()
        assert PAGE.match(head), block
        # One declaration a block: nothing else begins at the margin.
        begins = [line for line in body if re.match(r"[@a-z]", line)]
        assert sum("{" in line or "typealias" in line for line in begins) == 1, block


@pytest.mark.parametrize("path", SWIFT, ids=lambda path: path.name)
def test_no_force_unwrap_and_no_try_that_crashes(path: Path) -> None:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        code = re.sub(r'"(\\.|[^"\\])*"', '""', line.split("//")[0])
        assert not re.search(r"\btry!|\bas!|fatalError", code), f"{path.name}:{number}"
        # A bang behind a value; `!=`, `!x` and `!(` are something else.
        assert not re.search(r"[\w\])}]!(?!=)", code), f"{path.name}:{number}: {line}"


def test_only_one_file_imports_core_ml() -> None:
    found = [path for path in SWIFT if re.search(r"import CoreML\b", path.read_text("utf-8"))]
    assert [path.name for path in found] == ["CoreMLRunner.swift"]


def test_core_knows_no_apple_framework() -> None:
    allowed = {"Foundation", "CryptoKit", "Darwin"}
    for path in APP.glob("Sources/LPACore/*.swift"):
        imports = re.findall(r"^\s*import (\w+)", path.read_text("utf-8"), re.MULTILINE)
        assert set(imports) <= allowed, path.name


def test_strict_concurrency_is_on() -> None:
    manifest = (APP / "Package.swift").read_text("utf-8")
    assert manifest.startswith("// swift-tools-version: 6.0\n")
    assert "swiftLanguageMode" not in manifest and "unsafeFlags" not in manifest


@pytest.fixture(scope="module")
def project() -> Any:
    return yaml.safe_load((APP / "project.yml").read_text("utf-8"))


def test_the_project_has_the_app_with_package_and_resources(project: Any) -> None:
    target = project["targets"]["LPADemo"]
    assert target["type"] == "application" and target["platform"] == "iOS"
    assert project["options"]["deploymentTarget"]["iOS"] == "17.0"
    assert project["packages"]["LPADemo"]["path"] == "."
    products = [entry["product"] for entry in target["dependencies"]]
    assert products == ["LPACore", "LPADemoUI"]
    sources = {entry["path"]: entry for entry in target["sources"]}
    assert sources["App"]["excludes"] == ["Resources"]
    # A folder reference: the bundle keeps its folders, and Xcode compiles no package itself.
    assert sources["App/Resources/Bundle"]["type"] == "folder"
    assert sources["App/Resources/Bundle"]["optional"] is True
    assert target["settings"]["base"]["SWIFT_VERSION"] == "6.0"


def test_the_app_says_why_it_listens_and_what_it_does_in_the_background(project: Any) -> None:
    info = project["targets"]["LPADemo"]["info"]["properties"]
    sentence = info["NSMicrophoneUsageDescription"]
    assert "stays on this device" in sentence and sentence.endswith(".")
    # A recording goes on when the screen locks; nothing else runs there.
    assert info["UIBackgroundModes"] == ["audio"]
    assert (
        info["UIFileSharingEnabled"] is True and info["LSSupportsOpeningDocumentsInPlace"] is True
    )


def test_the_workflow_has_a_job_for_each_system() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ios-demo.yml").read_text("utf-8"))
    jobs = workflow["jobs"]
    assert jobs["linux"]["runs-on"].startswith("ubuntu")
    assert "macos" in jobs["macos"]["runs-on"]
    steps = "\n".join(step.get("run", "") for step in jobs["macos"]["steps"])
    assert "xcodebuild" in steps and "iphonesimulator" in steps
    assert "lpa-demo replay" in steps
