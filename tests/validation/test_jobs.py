"""Utterances over processes: the report of one, to the digit, whatever becomes of a worker."""

import json
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lpa_validate
import numpy as np
import pytest
from lpa_validate.evaluation import Evaluated
from lpa_validate.jobs import Jobs, Work, evaluate_over
from lpa_validate.report import Report

from lpa_export.errors import LpaError, LpaWarning
from lpa_export.formats.bundle import Bundle
from lpa_export.formats.speech import Utterance
from lpa_export.runtimes import ArtifactError

TWO = Jobs(2)


def plain(report: Report) -> dict[str, Any]:
    """All of a report but how long it took."""
    content = report.to_json()
    del content["seconds"]
    for check in content["checks"]:
        del check["seconds"]
    return content


def test_two_processes_give_the_report_of_one_to_the_digit(
    make_bundle: Callable[..., Bundle], speech: Path
) -> None:
    bundle = make_bundle()
    alone, spread = (
        lpa_validate.validate(target="onnx", bundle=bundle.path, data=speech, jobs=jobs)
        for jobs in (Jobs(), TWO)
    )
    assert alone.check("wer").figures
    assert plain(spread) == plain(alone)


@pytest.mark.slow
def test_with_the_model_in_torch_beside_it(tmp_path: Path) -> None:
    import lpa_export

    made = lpa_export.export(target="onnx", out=tmp_path / "onnx")
    alone, spread = (
        lpa_validate.validate(target="onnx", bundle=made.bundle, jobs=jobs)
        for jobs in (Jobs(), TWO)
    )
    assert alone.reference is not None and alone.reference.kind == "torch"
    assert plain(spread) == plain(alone)


def test_the_first_that_fails_is_the_one_that_is_told(
    make_bundle: Callable[..., Bundle], speech: Path, tmp_path: Path
) -> None:
    """The third and the last recording are no audio."""
    shutil.copytree(speech.parent, tmp_path / "data")
    data = tmp_path / "data" / speech.name
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for name in (lines[2]["audio_filepath"], lines[-1]["audio_filepath"]):
        (data.parent / name).write_bytes(b"no audio")
    bundle = make_bundle()
    said = []
    for jobs in (Jobs(), TWO):
        with pytest.raises(LpaError) as caught:
            lpa_validate.validate(target="onnx", bundle=bundle.path, data=data, jobs=jobs)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert lines[2]["audio_filepath"] in said[0]


@dataclass(frozen=True)
class Noting:
    """Stands for a validation: notes where it runs, takes its time, fails as it is told."""

    folder: Path

    def evaluate(self, utterance: Utterance) -> Evaluated:
        (self.folder / f"{os.getpid()}-{utterance.id}").touch()
        time.sleep(0.1)
        if utterance.text == "warn":
            warnings.warn(f"{utterance.id} was cut off", LpaWarning, stacklevel=1)
        if utterance.text == "die":
            os._exit(1)
        if utterance.text == "break":
            raise ArtifactError(f"{utterance.id} broke it")
        number = int(utterance.id)
        logits = np.full((2, 3), number / 3, np.float32)
        return Evaluated(utterance, number, logits, f"heard {number}", None, None)

    def processes(self) -> set[int]:
        return {int(path.name.partition("-")[0]) for path in self.folder.iterdir()}


def utterances(*texts: str) -> list[Utterance]:
    return [Utterance(str(n), Path(f"{n}.flac"), text, None, None) for n, text in enumerate(texts)]


def check(found: Sequence[Evaluated], asked: Sequence[Utterance]) -> None:
    assert [item.utterance for item in found] == list(asked)
    assert [item.transcript for item in found] == [f"heard {n}" for n in range(len(asked))]
    for number, item in enumerate(found):
        assert item.logits.tobytes() == np.full((2, 3), number / 3, np.float32).tobytes()


def test_they_are_processes_and_the_answers_are_in_order(tmp_path: Path) -> None:
    asked = utterances(*["plain"] * 20)
    check(evaluate_over(TWO, Work(Noting, (tmp_path,)), asked), asked)
    assert len(Noting(tmp_path).processes() - {os.getpid()}) == 2


def test_warnings_come_through_and_errors_are_raised(tmp_path: Path) -> None:
    work = Work(Noting, (tmp_path,))
    with pytest.warns(LpaWarning, match="0 was cut off"):
        evaluate_over(TWO, work, utterances("warn", "plain"))
    with pytest.raises(ArtifactError, match="1 broke it"):
        evaluate_over(TWO, work, utterances("plain", "break", "plain", "break"))


def test_a_process_that_dies_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="a process that evaluated utterances died"):
        evaluate_over(TWO, Work(Noting, (tmp_path,)), utterances("plain", "die", "plain"))


def test_a_cluster_of_two_of_which_one_is_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    asked = utterances(*["plain"] * 40)
    killed = []

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while len(Noting(tmp_path).processes()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.append(max(Noting(tmp_path).processes()))
        os.kill(killed[0], signal.SIGKILL)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        killer = threading.Thread(target=kill_one)
        killer.start()
        jobs = Jobs(None, cluster.scheduler_address)
        check(evaluate_over(jobs, Work(Noting, (tmp_path,)), asked), asked)
        killer.join()
    assert killed and killed[0] in Noting(tmp_path).processes()
    again = [path.name.partition("-")[2] for path in tmp_path.iterdir()]
    assert len(again) > len(asked), "what it had in hand was done again elsewhere"


def test_a_cluster_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(Noting, (tmp_path,))
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr("lpa_validate.jobs._WAIT_SECONDS", 1)
    with pytest.raises(LpaError, match=r"no Dask scheduler at 'tcp://127\.0\.0\.1:9'"):
        evaluate_over(Jobs(None, "tcp://127.0.0.1:9"), work, utterances("plain"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LpaError, match=r"pip install 'lpa-export\[cluster\]'"):
        evaluate_over(Jobs(None, "tcp://127.0.0.1:9"), work, utterances("plain"))
