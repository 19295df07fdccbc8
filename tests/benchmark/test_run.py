"""Figures of a benchmark from times that are known, and the forms in which it is put out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from lpa_export.benchmark import result as results
from lpa_export.benchmark import run
from lpa_export.benchmark.picture import draw, require_drawing
from lpa_export.benchmark.process import Answer, Request
from lpa_export.benchmark.result import Benchmark, read_results, write_result
from lpa_export.benchmark.run import Entrant, Plan, run_benchmark
from lpa_export.benchmark.sides import Side
from lpa_export.benchmark.text import figures, render_text
from lpa_export.errors import LpaError
from lpa_export.formats.manifest import as_json
from tests.benchmark.results import result

Ask = Callable[[Request], Answer]


def entrant(name: str) -> Entrant:
    return Entrant(Side(name=name, kind="bundle", path=name), "tiny", "fp32")


def plan(
    *names: str, against: str = "", seconds: tuple[float, ...] = (1.0, 4.0), rounds: int = 2
) -> Plan:
    return Plan(
        target="onnx",
        entrants=tuple(map(entrant, names)),
        against=entrant(against) if against else None,
        seconds=seconds,
        rate=16_000,
        threads=1,
        rounds=rounds,
        least_seconds=0.0,
    )


def benchmark_with(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, planned: Plan, foreign: float = 0.0
) -> tuple[Benchmark, ...]:
    class Load:
        cores = foreign

        def __enter__(self) -> "Load":
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(run, "measure_in_process", ask)
    monkeypatch.setattr(run, "ForeignLoad", Load)
    return run_benchmark(planned)


def test_medians_exponents_and_ratios_are_those_of_the_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(request: Request) -> Answer:
        slower = 3.0 if request.side.name == "b" else 1.0
        time = 0.1 * slower * request.seconds**1.5
        return Answer(times=(time, 1.01 * time, 0.99 * time), first_peak=10, third_peak=20)

    (found,) = benchmark_with(monkeypatch, ask, plan("a", against="b"))
    assert [point.seconds for point in found.ours.points] == [1.0, 4.0]
    assert [point.time for point in found.ours.points] == pytest.approx([0.1, 0.8])
    assert found.ours.exponent == pytest.approx(1.5)
    assert [ratio.ratio for ratio in found.ratios] == pytest.approx([3.0, 3.0])
    for ratio in found.ratios:
        assert 2.9 < ratio.low <= 3.0 <= ratio.high < 3.1
    point = found.ours.points[0]
    assert (point.first_peak, point.third_peak, point.unusable) == (10, 20, "")
    assert point.spread == pytest.approx(0.015)  # quartiles 0.9925 and 1.0075


def test_the_sides_take_turns_and_the_longest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(request: Request) -> Answer:
        asked.append((request.seconds, request.side.name))
        return Answer(times=(1.0,))

    benchmark_with(monkeypatch, ask, plan("a", "b", against="c"))
    assert asked == [(s, name) for s in (4.0, 1.0) for name in "abccba"]


def test_each_of_several_is_beside_the_one_that_they_are_against(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = {"a": 1.0, "b": 2.0, "c": 6.0}

    def ask(request: Request) -> Answer:
        return Answer(times=(times[request.side.name],) * 2, first_peak=10, third_peak=20)

    found = benchmark_with(monkeypatch, ask, plan("a", "b", against="c", seconds=(1.0,)))
    assert [result.ours.name for result in found] == ["a", "b"]
    assert [result.ratios[0].ratio for result in found] == [6.0, 3.0]
    assert found[0].theirs is found[1].theirs
    text = render_text(found)
    assert [text.count(f"{name} (tiny, fp32)") for name in "abc"] == [1, 1, 1]
    assert "c takes, for each second of a" in text and "c takes, for each second of b" in text
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    draw(found, tmp_path / "all.svg")
    drawn = (tmp_path / "all.svg").read_text("utf-8")
    assert [drawn.count(f">{name}</text>") for name in "abc"] == [1, 1, 1]


def test_what_is_not_to_be_trusted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(request: Request) -> Answer:
        unsteady = request.side.name == "b"
        return Answer(times=(1.0, 1.4, 1.8, 2.2) if unsteady else (1.0, 1.0))

    (quiet,) = benchmark_with(monkeypatch, ask, plan("a", against="b", seconds=(1.0,)))
    assert quiet.ours.points[0].unusable == ""
    assert quiet.ratios[0].unusable == "spread 38 %"
    (loaded,) = benchmark_with(monkeypatch, ask, plan("a", seconds=(1.0,)), foreign=0.5)
    assert loaded.ours.points[0].unusable == "other processes kept 0.5 cores busy"
    assert loaded.theirs is None and loaded.ratios == () and loaded.ours.exponent is None


def test_the_schema_in_the_file_is_that_of_the_code_and_a_result_fits_it() -> None:
    ((path, text),) = results.schemas().items()
    assert path.read_text("utf-8") == text, "write it anew: python -m lpa_export.benchmark.result"
    validator = jsonschema.Draft202012Validator(json.loads(text))
    plain = json.loads(as_json(result()))
    assert list(validator.iter_errors(plain)) == []
    for damage in ({"smell": 1}, {"threads": "two"}, {"schema_version": 9}):
        assert list(validator.iter_errors(plain | damage)), damage


def test_results_lie_beside_bundles_each_under_its_folder(tmp_path: Path) -> None:
    one, two = result(), result(theirs=None, ratios=())
    write_result(tmp_path / "onnx", two)
    write_result(tmp_path / "onnx", one)
    write_result(tmp_path / "onnx-int8", two)
    place = tmp_path / "bench.json"
    assert read_results(place) == {"onnx": one, "onnx-int8": two}
    place.write_text("{}{")
    with pytest.raises(LpaError, match=r"bench\.json: not JSON"):
        read_results(place)
    write_result(tmp_path / "onnx", one)
    assert read_results(place) == {"onnx": one}
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_the_text_has_every_figure() -> None:
    text = render_text([result()])
    for words in ("fast (avx2), cpu, 2 threads", "1.25 s", "2.0 %", "200 MB", "300 MB"):
        assert words in text
    assert "UNUSABLE: spread 9 %" in text
    assert "2.00   95 % interval 1.90 to 2.10  UNUSABLE" in text
    card = figures(result())
    assert card["60 s of audio"].startswith("1.25 s ± 1.0 %, 200 MB at most in a first run")
    assert "not to be trusted" in card["hub-export, 60 s"]


def test_the_picture_shows_both_sides_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    places = [tmp_path / name for name in ("a.svg", "b.svg")]
    for place in places:
        require_drawing(place)
        draw([result()], place)
    first, second = (place.read_text("utf-8") for place in places)
    assert first == second
    for words in ("build/tiny/onnx", "hub-export", "peak memory", "hollow: unusable"):
        assert words in first


@pytest.mark.parametrize(
    ("place", "message"), [("a.txt", "pictures are .svg"), ("nowhere/a.svg", "no such folder")]
)
def test_where_no_picture_can_be_drawn_is_said_before(
    tmp_path: Path, place: str, message: str
) -> None:
    with pytest.raises(LpaError, match=message):
        require_drawing(tmp_path / place)


def test_a_machine_without_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LpaError, match="pip install"):
        require_drawing(Path("a.svg"))
