"""The worker process: whatever becomes of it, its owner gets one line and goes on."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.executorch.process import WORKER, Worker
from lpa_export.runtimes.frames import FrameError, read_frame, write_frame

READY = """
import json, os, signal, struct, sys, time
def send(header, tail=b""):
    text = json.dumps(header).encode()
    sys.stdout.buffer.write(struct.pack("<I", len(text)) + text + tail)
    sys.stdout.flush()
send({"arrays": []})
sys.stdin.buffer.read(1)
"""

ENDINGS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": r"crashed \(SIGSEGV\)",
    "os.abort()": r"crashed \(SIGABRT\)",
    "sys.stderr.write('[method.cpp:7] no memory\\n'); sys.stderr.flush(); os.abort()": "no memory",
    "sys.exit(3)": "ended without an answer",
    "sys.stdout.buffer.write(b'hello')": "sent no proper answer|ended without",
    "sys.stdout.buffer.write(b'garbage' * 10_000); sys.stdout.flush(); time.sleep(9)": "no proper",
    "send([1])": "no proper answer",
    "send({'arrays': [{'dtype': 'O', 'shape': [1]}]}, b'12345678')": "no proper answer",
    "send({'arrays': [{'dtype': '<f4', 'shape': [-1]}]})": "no proper answer",
    "send({'arrays': [{'dtype': '<f4', 'shape': [10**9, 10**9]}]})": "no proper answer",
    "send({'arrays': [{'dtype': '<f4', 'shape': [4]}]}, b'12')": "ended without an answer",
    "send({'error': 'two\\nlines', 'arrays': []})": "^two lines$",
    "time.sleep(60)": "no answer within 4 s",
    "sys.stdout.buffer.write(b'\\x04'); sys.stdout.flush(); time.sleep(60)": "no answer within",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_worker_that_ends_badly_is_one_line(tmp_path: Path, ending: str) -> None:
    script = tmp_path / "worker.py"
    script.write_text(READY + ending + "\n")
    seconds = 4.0 if "time.sleep(60)" in ending else 60.0
    worker = Worker(script=script, seconds=seconds)
    started = time.monotonic()
    with pytest.raises(ArtifactError, match=ENDINGS[ending]) as caught:
        worker.ask("run", [np.zeros(3, np.float32)])
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 40


def test_a_dead_worker_stays_dead_without_hanging(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(READY + "os.abort()\n")
    worker = Worker(script=script, seconds=60.0)
    for _ in range(2):
        with pytest.raises(ArtifactError):
            worker.ask("run", [np.zeros(1_000_000, np.float32)])


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(READY + "time.sleep(60)\n")
    worker = Worker(script=script, seconds=60.0)
    process = worker._process
    del worker
    assert process.poll() is not None


def test_the_worker_ends_when_its_owner_does() -> None:
    pytest.importorskip("executorch")
    command = [sys.executable, "-P", str(WORKER)]
    ended = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0


def test_frames_carry_headers_and_arrays_of_every_kind() -> None:
    generator = np.random.default_rng(0)
    arrays: list[np.ndarray[Any, Any]] = [
        generator.normal(size=(2, 3)).astype(np.float32),
        np.arange(4),
        np.array(True),
        np.zeros((0, 7), np.int8),
        generator.normal(size=(4, 4)).astype(np.float16).T,
    ]
    stream = io.BytesIO()
    write_frame(stream, {"op": "run"}, arrays)
    stream.seek(0)
    header, found = read_frame(stream)
    assert header["op"] == "run"
    for before, after in zip(arrays, found, strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_a_frame_cut_anywhere_is_no_frame() -> None:
    stream = io.BytesIO()
    write_frame(stream, {"op": "run"}, [np.arange(5)])
    whole = stream.getvalue()
    for kept in range(len(whole)):
        with pytest.raises(FrameError):
            read_frame(io.BytesIO(whole[:kept]))


def test_an_array_of_objects_is_never_sent() -> None:
    text = json.dumps({"arrays": [{"dtype": "|O", "shape": [1]}]}).encode()
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(len(text).to_bytes(4, "little") + text + bytes(64)))


def test_crashes_leave_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("executorch")
    monkeypatch.chdir(tmp_path)
    worker = Worker()
    os.kill(worker._process.pid, 11)
    with pytest.raises(ArtifactError, match="SIGSEGV"):
        worker.ask("registry")
    assert list(tmp_path.iterdir()) == []
