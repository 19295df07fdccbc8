"""The report as a page: whole, safe whatever stands in it, and without a complaint in a browser.

The browser is Chromium, run without a window; ``LPA_BROWSER`` names another place than the path.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from lpa_validate.beside import Beside, look_beside
from lpa_validate.command import main
from lpa_validate.renderers import render, render_all
from lpa_validate.renderers.html.words import aligned
from lpa_validate.report import Check, Data, Figure, Reference, Report, judged, not_run
from msgspec.structs import replace as replaced

from lpa_export.benchmark.result import RESULTS, write_result
from lpa_export.formats.bundle import Bundle, artifact_digest
from lpa_export.formats.manifest import Normaliser
from lpa_export.formats.schemes import SCHEMES
from tests.benchmark.results import result
from tests.manifests import restated

EVIL = "<script>console.error('heard')</script>"
NASTY = (
    '"><img src=http://example.org/x onerror=alert(1)>',
    "&lt;b&gt;",
    "\ud800\x00\u202e",
    "]]>",
)

TAPS = [
    {"name": "features", "kind": "frontend", "psnr_db": float("inf")},
    {"name": "encoder.layers.0", "kind": "lpa", "psnr_db": 96.5},
    {"name": EVIL, "kind": "attention", "psnr_db": "nan"},
    {"name": "logits", "kind": "head", "psnr_db": 51.25},
]


def function(name: str, **changes: Any) -> dict[str, Any]:
    """A function as the ops check describes it: two runs with a gather between."""
    run = {"ops": 40, "mac_share": 60.0, "first": "a", "last": "b"}
    cut = {"after": 0, "op": "gather", "name": NASTY[0], "module": "", "rules": ["gather"]}
    whole = {
        "package": "encoder.mlpackage",
        "function": name,
        "label": "predicted",
        "ops": 100,
        "macs": 10**9,
        "free_of_fatal": {"ops": 80.0, "macs": 99.0},
        "segments": [run, run],
        "breaks": [cut],
        "findings": [],
    }
    return whole | changes


def report(text: str = "go left", heard: str = "go loft") -> Report:
    """A report with something in every section, the texts given."""
    changed = [{"id": "u0", "text": text, "reference": text, "artifact": heard}]
    difference = [Figure("WER difference", 0.5, "points", 0.0, "<=")]
    parity = [Figure("PSNR, all logits", 51.25, "dB", 90.0, ">=")]
    checks = (
        judged(
            "ops",
            [Figure("ops", 0, gate=0, comparison="==")],
            details={
                "neural_engine": [function("frames_256"), function("frames_512", breaks=[])],
                "placement": {"state": "not compared"},
            },
        ),
        judged("parity", parity, details={"taps": TAPS, "worst_utterance": "u0"}),
        judged("wer", [Figure("WER, artifact", 12.5, "%", 30.0, "<=")]),
        judged("wer-difference", difference, details={"changed": changed}),
        not_run("compute-plan", "needs macOS"),
    )
    return Report(
        target="coreml",
        model="tiny",
        scheme=SCHEMES["fp16"].scheme,
        artifacts={"encoder.mlpackage": "ab" * 32},
        artifact_bytes=10,
        data=Data("demo", "cd" * 32, 1, 2, 7.125),
        reference=Reference("torch", "tiny", "ef" * 32),
        normaliser=Normaliser(name="lpa-text", version="2"),
        environment={"numpy": "2.4"},
        checks=checks,
    )


class Page(HTMLParser):
    """Elements with their attributes, and all text, as a browser's parser would have them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_section_has_what_the_report_has() -> None:
    page = Page(render(report(), "html"))
    assert page.tags.count("h1") == 1
    assert page.tags.count("details") == len(report().checks)
    for words in (
        "FAIL: a gate does not hold (2 passed, 2 failed, 1 not run)",
        "demo: 1 utterances, 2 words, 7.1 s",
        "encoder.mlpackage frames_256: 100 ops, 99.0 % of multiply-accumulates stay, in 2 runs",
        "needs macOS",
        "gate of all logits 90 dB",
        "not measured",
    ):
        assert words in page.text
    assert page.tags.count("circle") == 3 and page.attributes.count(("class", "broken")) == 1


def test_a_strip_per_function_has_its_runs_in_their_shares() -> None:
    text = render(report(), "html")
    first, second = re.findall(r"<svg [^>]*operations by place.*?</svg>", text)
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="22" class', first)]
    assert widths == [720 * share for share in (0.4, 0.01, 0.4, 0.19)]
    assert second.count("<rect") == 3


@pytest.mark.parametrize("nasty", [EVIL, *NASTY])
def test_no_text_becomes_markup(nasty: str) -> None:
    found = report(text=f"go {nasty}", heard=f"{nasty} go")
    checks = (*found.checks, Check(nasty, "fail", reason=nasty))
    found = replace(found, model=nasty, environment={nasty: nasty}, checks=checks)
    text = render(found, "html", Beside(nasty))
    text.encode("utf-8")
    page = Page(text)
    assert not {"script", "img", "b", "iframe", "object"} & set(page.tags)
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    links = {value for name, value in page.attributes if name in ("src", "href", "action")}
    assert links == {"data:,"}
    shown = nasty.encode("utf-8", "replace").decode().strip("?\x00\u202e")
    assert page.text.count(shown) >= 8


def test_words_stand_under_the_words_they_were_heard_for() -> None:
    heard = ("TURN LEFT RIGHT NOW or", "please turn left now")
    assert aligned("Turn left, right now", heard) == (
        ("", "Turn", "left,", "right", "now", ""),
        ("", "TURN", "LEFT", "RIGHT", "NOW", "or"),
        ("please", "turn", "left", "", "now", ""),
    )
    assert aligned("", ("", "a b")) == (("", ""), ("", ""), ("a", "b"))
    assert aligned("", ("",)) == ((), ())


def test_only_words_that_differ_are_marked() -> None:
    text = render(report("Go, LEFT now", "go loft now"), "html")
    assert re.findall(r'<td class="changed">(.*?)</td>', text) == ["loft"]


def test_sizes_are_those_of_the_bundles_beside_it(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    above = bundle.path.parent
    shutil.copytree(bundle.path, above / "onnx-again")
    shutil.copytree(bundle.path, above / ".half-written")
    other = Bundle(above / "other", bundle.manifest)
    shutil.copytree(bundle.path, other.path)
    restated(other, model="another")
    (above / "notes").mkdir()
    found = look_beside(bundle.path).siblings
    size = (bundle.path / "model.onnx").stat().st_size
    assert [(one.folder, one.size, one.own) for one in found] == [
        ("onnx", size, True),
        ("onnx-again", size, False),
    ]
    page = Page(render(report(), "html", look_beside(bundle.path)))
    assert page.text.count(f"{size / 1e6:.2f} MB, onnx fp32") == 2


def test_time_is_that_of_the_benchmark_beside_it(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    assert look_beside(bundle.path).unmeasured == "not measured"
    digest = artifact_digest(bundle.manifest, "model.onnx")
    own = replaced(result().ours, artifacts={"model.onnx": digest})
    write_result(bundle.path, result(ours=own))
    text = Page(render(report(), "html", look_beside(bundle.path))).text
    assert "60 s of audio" in text and "1.25 s ± 1.0 %" in text
    write_result(bundle.path, result())
    assert look_beside(bundle.path).unmeasured.endswith("is of another artifact")
    (bundle.path.parent / RESULTS).unlink()
    write_result(bundle.path.with_name("other"), result())
    assert look_beside(bundle.path).unmeasured.endswith("says nothing of onnx")
    (bundle.path.parent / RESULTS).write_text("{")
    assert look_beside(bundle.path).unmeasured.startswith("not measured: ")


def test_several_reports_are_one_page_with_links() -> None:
    page = Page(render_all([(report(), Beside()), (report(), Beside())], "html"))
    assert page.tags.count("article") == 2
    assert [value for name, value in page.attributes if name == "href"][1:] == [
        *("#report0", "#report1")
    ]


def test_the_command_writes_the_page(
    make_bundle: Callable[..., Bundle], speech: Path, tmp_path: Path
) -> None:
    bundle, page = make_bundle(), tmp_path / "page.html"
    arguments = ["--target", "onnx", "--bundle", str(bundle.path), "--data", str(speech)]
    code = main([*arguments, "--format", "html", "--output", str(page)])
    text = Page(page.read_text("utf-8")).text
    assert code == 0 and "whistle for onnx, fp32" in text and "encoder.layers.1" in text


@pytest.fixture(scope="session")
def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("LPA_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no browser: install chromium, or name one with LPA_BROWSER")
    return found


def complaints(browser: str, page: Path) -> tuple[str, list[str]]:
    """The page as the browser has it once it is drawn, and what its console says."""
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={page.parent / 'profile'}", "--no-first-run"),
            *("--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, said


def test_a_browser_shows_the_page_and_has_no_complaint(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = render(report(text=f"go {EVIL}", heard=f"{EVIL} go"), "html", Beside(EVIL))
    page.write_text(text, "utf-8")
    drawn, said = complaints(browser, page)
    assert said == []
    assert "a gate does not hold" in drawn and "<circle" in drawn


@pytest.mark.parametrize("planted", [EVIL, '<img src="missing.png">'])
def test_what_a_page_must_not_hold_is_complained_about(
    browser: str, tmp_path: Path, planted: str
) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(report(), "html").replace("</body>", f"{planted}</body>"), "utf-8")
    assert complaints(browser, page)[1]
