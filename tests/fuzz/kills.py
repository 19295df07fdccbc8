"""Exports and trainings killed at random moments, again and again (kill -9).

    python -m tests.fuzz.kills --count 200 --log build/fuzz/kills.jsonl [--part export,train]

After each kill the bundle is not there or whole, and an older one that was to be replaced is there
still. A run folder is trained on in until it is done, however often it was killed: its checkpoint
is that of a run that nothing stopped, byte for byte. After every tenth export the command is given
again and must give the same bytes. Exit code 1 when a case is wrong.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from lpa_export.cli import count, names
from lpa_export.errors import LpaError
from lpa_export.formats.audio import write_flac
from lpa_export.formats.bundle import damaged_files, open_bundle
from tests.fuzz.drawing import draw
from tests.fuzz.hostile import prepare
from tests.fuzz.logs import Case, Log

__all__ = ["main"]

_TRIED_AGAIN = 10
"""After so many kills the export is given again and not killed."""

_RECIPE = """
name: toy
data: {train: [speech/train.jsonl], dev: speech/train.jsonl}
model:
  architecture:
    hidden_size: 32
    layers: 2
    heads: 2
    intermediate_size: 64
    conv_dim: [16, 16]
    conv_kernel: [400, 3]
    conv_stride: [160, 2]
    conv_bias: true
    feat_extract_norm: layer
    positional_kernel: 8
    positional_groups: 2
    norm: pre
teacher: {epochs: 12, batch_seconds: 4, frontend_steps: 3, average_epochs: 2, speeds: [1.0]}
lpa: {layers: [0], kernel_size: 5, max_offset: 4, max_width: 8}
"""


@dataclass(frozen=True)
class _Command:
    """A command with its flags, how long it takes, and what it leaves when nothing stops it."""

    main: Callable[[Sequence[str]], int]
    flags: Sequence[str]
    seconds: float
    digest: str


def _speech(folder: Path) -> None:
    """A dozen clips of noise with texts: nothing is learned, all of it is computed."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for index in range(12):
        clip = 0.1 * random.standard_normal(12_000).astype(np.float32)
        write_flac(folder / f"{index}.flac", clip)
        rows.append({"audio_filepath": f"{index}.flac", "text": "GO" if index % 2 else "LEFT"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _timed(command: Callable[[Sequence[str]], int], flags: Sequence[str], out: Path) -> _Command:
    """The command once, not killed."""
    started = time.monotonic()
    code = _killed_after(None, command, flags)
    if code != 0:
        raise SystemExit(f"the command ended with {code} although nothing stopped it: {flags}")
    return _Command(command, flags, time.monotonic() - started, _digest(out))


def _killed_after(
    seconds: float | None, command: Callable[[Sequence[str]], int], flags: Sequence[str]
) -> int | None:
    """The command in a process of its own; its exit code, None when it was killed first."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = command(flags)
        finally:
            os._exit(code)
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with suppress(ProcessLookupError):  # what it had started itself
        os.killpg(child, signal.SIGKILL)
    return None


def _digest(folder: Path) -> str:
    """Of every file's name and content."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(f"{path.relative_to(folder)} ".encode())
            whole.update(path.read_bytes())
    return whole.hexdigest()


def _exports(scratch: Path, seeds: Sequence[int], log: Log) -> None:
    from lpa_export.commands.export import main as export

    draw(_SEED, scratch / "checkpoint")
    out = scratch / "bundle"
    flags = ("--target", "onnx", "--checkpoint", str(scratch / "checkpoint"), "--out", str(out))
    whole = _timed(export, flags, out)
    for seed in seeds:
        random, started = Random(seed), time.monotonic()
        older = random.random() < 0.5
        if not older:
            shutil.rmtree(out, ignore_errors=True)
        elif not out.exists():
            _killed_after(None, export, flags)
        moment = random.uniform(0, 1.05 * whole.seconds)
        code = _killed_after(moment, export, (*flags, "--overwrite"))
        verdict, said = _left(out, code, older, whole.digest)
        if verdict == "whole" and seed % _TRIED_AGAIN == 0:
            again = _killed_after(None, export, (*flags, "--overwrite"))
            if again != 0 or _digest(out) != whole.digest:
                verdict, said = "wrong", f"given again it ends with {again} or has other bytes"
        hidden = [path.name for path in scratch.iterdir() if path.name[0] == "."]
        how = f"killed after {moment:.2f} of {whole.seconds:.2f} s, hidden beside: {len(hidden)}"
        log.add([Case(seed, "export", verdict, said, _since(started), how)])


_SEED = 19
"""A drawn checkpoint of one layer, replaced."""


def _left(out: Path, code: int | None, older: bool, digest: str) -> tuple[str, str]:
    """What an export that was killed (or just not, ``code``) left behind."""
    if code not in (None, 0):
        return "wrong", f"ended by itself with {code}"
    if not out.exists():
        missing = older or code == 0
        return ("wrong", "the bundle is gone") if missing else ("whole", "no bundle")
    try:
        damaged = damaged_files(open_bundle(out))
    except LpaError as error:
        return "wrong", str(error)
    if damaged or _digest(out) != digest:
        return "wrong", f"another bundle: {damaged}"
    return "whole", "a bundle"


def _trainings(scratch: Path, seeds: Sequence[int], log: Log) -> None:
    from lpa_export.commands.train import main as train

    (scratch / "toy.yaml").write_text(_RECIPE)
    _speech(scratch / "speech")

    def flags(out: Path) -> tuple[str, ...]:
        fixed = ("--threads", "1", "--workers", "0")
        return ("teacher", "--recipe", str(scratch / "toy.yaml"), "--out", str(out), *fixed)

    straight = scratch / "straight"
    whole = _timed(train, flags(straight), straight / "checkpoint")
    out, kills = scratch / "run", 0
    for seed in seeds:
        moment, started = Random(seed).uniform(0, 1.05 * whole.seconds), time.monotonic()
        code = _killed_after(moment, train, flags(out))
        kills += code is None
        verdict, said = "whole", "killed"
        if code not in (None, 0):
            verdict, said = "wrong", f"ended with {code} after {kills} kills"
        elif code == 0:
            same = _digest(out / "checkpoint") == whole.digest
            verdict = "same" if same else "wrong"
            said = f"done after {kills} kills" + ("" if same else ", another checkpoint")
        if code is not None:
            shutil.rmtree(out)
            kills = 0
        how = f"killed after {moment:.2f} of {whole.seconds:.2f} s"
        log.add([Case(seed, "train", verdict, said, _since(started), how)])


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)


_PARTS: dict[str, Callable[[Path, Sequence[int], Log], None]] = {
    "export": _exports,
    "train": _trainings,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", type=names, default=tuple(_PARTS), metavar="a,b")
    parser.add_argument("--count", type=count, default=200, metavar="N")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    prepare()
    log = Log(arguments.log)
    for part in arguments.part:
        seeds = [seed for seed in range(arguments.count) if not log.has(seed, part)]
        with tempfile.TemporaryDirectory() as scratch:
            if seeds:
                _PARTS[part](Path(scratch), seeds, log)
    return log.print()


if __name__ == "__main__":
    sys.exit(main())
