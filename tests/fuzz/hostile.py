"""Damaged files of every format that is read, each in a process of its own under limits.

    python -m tests.fuzz.hostile --count 1000 --log build/fuzz/hostile.jsonl [--format onnx,audio]

Whatever is in a file, reading it ends well or in one line (LpaError, ArtifactError): within 30 s of
CPU time, within 2 GiB of memory, and nothing is written outside of the place for it. The hashes of
a bundle are right again after the damage, or they alone would be found. Exit code 1 when a case is
wrong.
"""

import argparse
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from lpa_export.cli import count, names
from lpa_export.environment import quiet_libraries
from lpa_export.errors import LpaError
from lpa_export.formats.audio import load_audio
from lpa_export.formats.bundle import open_bundle, write_manifest
from lpa_export.runtimes import ArtifactError
from tests.fuzz import mutations
from tests.fuzz.logs import Case, Log
from tests.fuzz.mutations import Mutate

__all__ = ["FORMATS", "Format", "main", "tried"]

CPU_SECONDS = 30
WALL_SECONDS = 600
MEMORY = 2 << 30
"""Bytes beyond what the process has when the libraries are loaded."""

_OF_MEMORY = ("MemoryError", "not enough memory", "bad_alloc", "alloc", "out of memory")


@dataclass(frozen=True)
class Format:
    """``base``: the folder of `bases` that is copied; one of ``files`` in it is damaged.

    ``use`` reads the copy as a command does; ``rehash``: the bundle's hashes are made right first.
    """

    base: str
    files: Mapping[str, Mutate]
    use: Callable[[Path], None]
    rehash: bool = False


def _checkpoint(folder: Path) -> None:
    from lpa_export.formats.checkpoint import load_checkpoint
    from lpa_export.runtimes.torch import TorchReference

    checkpoint = load_checkpoint(folder)
    samples = max(8_000, checkpoint.receptive_field)
    if samples < 10**6:
        TorchReference(checkpoint).logits(_noise(samples))


def _recipe(folder: Path) -> None:
    from lpa_export.targets.settings import load_recipe

    load_recipe(folder / "recipe.yaml")


def _audio(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        load_audio(path)


def _bundle(target: str) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        from lpa_validate.run import validate

        from lpa_export.commands.transcribe import transcribe

        try:
            transcribe([folder.parent / "noise.wav"], target=target, bundle=folder)
        finally:
            validate(target=target, bundle=folder, checks=("integrity", "ops"))

    return use


def _noise(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def _onnx(content: bytes, random: Random) -> bytes:
    import onnx

    return mutations.any_message(onnx.ModelProto)(content, random)


def _mlmodel(content: bytes, random: Random) -> bytes:
    from coremltools.proto import Model_pb2

    return mutations.any_message(Model_pb2.Model)(content, random)


_PACKAGE = "encoder.mlpackage"
_DATA = f"{_PACKAGE}/Data/com.apple.CoreML"

FORMATS: Mapping[str, Format] = {
    "config.json": Format("checkpoint", {"config.json": mutations.any_json}, _checkpoint),
    "tokenizer": Format(
        "checkpoint",
        {
            name: mutations.any_json
            for name in ("vocab.json", "tokenizer_config.json", "preprocessor_config.json")
        },
        _checkpoint,
    ),
    "safetensors": Format(
        "checkpoint", {"model.safetensors": mutations.any_safetensors}, _checkpoint
    ),
    "manifest": Format("onnx", {"manifest.json": mutations.any_json}, _bundle("onnx")),
    "bundle": Format(
        "onnx",
        {"tokens.json": mutations.any_json, "golden/index.json": mutations.any_json},
        _bundle("onnx"),
        rehash=True,
    ),
    "recipe": Format("recipe", {"recipe.yaml": mutations.any_lines}, _recipe),
    "audio": Format(
        "audio",
        {f"noise.{kind}": mutations.any_bytes for kind in ("wav", "flac", "ogg", "mp3")},
        _audio,
    ),
    "onnx": Format("onnx", {"model.onnx": _onnx}, _bundle("onnx"), rehash=True),
    "mlpackage": Format(
        "coreml",
        {
            f"{_PACKAGE}/Manifest.json": mutations.any_json,
            f"{_DATA}/model.mlmodel": _mlmodel,
            f"{_DATA}/weights/weight.bin": mutations.any_bytes,
        },
        _bundle("coreml"),
        rehash=True,
    ),
    "pte": Format(
        "executorch", {"model.pte": mutations.any_bytes}, _bundle("executorch"), rehash=True
    ),
}


def bases(folder: Path, wanted: set[str]) -> None:
    """Sound inputs below ``folder``, those that are ``wanted``; an export takes half a minute."""
    import soundfile

    from lpa_export.commands.export import export
    from tests.conftest import REPOSITORY
    from tests.fuzz.drawing import draw

    folder.mkdir(parents=True, exist_ok=True)
    if wanted - {"recipe", "audio"} and not (folder / "checkpoint").exists():
        draw(_SEED, folder / "checkpoint")
    if not (folder / "recipe").exists():
        (folder / "recipe").mkdir()
        shutil.copy(REPOSITORY / "recipes" / "an4-tiny.yaml", folder / "recipe" / "recipe.yaml")
    if not (folder / "audio").exists():
        (folder / "audio").mkdir()
        for kind in ("wav", "flac", "ogg", "mp3"):
            soundfile.write(folder / "audio" / f"noise.{kind}", _noise(16_000), 16_000)
    settings: dict[str, Any] = {"coreml": {"buckets": (2.0,)}}
    for target in ("onnx", "coreml", "executorch"):
        if target in wanted and not (folder / target).exists():
            out = folder / target
            export(
                target=target, checkpoint=folder / "checkpoint", out=out, **settings.get(target, {})
            )


_SEED = 19
"""A drawn checkpoint of one layer, replaced."""


def tried(seed: int, form: str, base: Path, scratch: Path) -> Case:
    """The damage of that seed to that format, read in a child process."""
    shutil.rmtree(scratch, ignore_errors=True)
    place = _damaged(seed, form, base, scratch)
    started = time.monotonic()
    verdict, said = _in_a_child(FORMATS[form], scratch / "case", scratch)
    return Case(seed, form, verdict, said, round(time.monotonic() - started, 2), place)


def _damaged(seed: int, form: str, base: Path, scratch: Path) -> str:
    """Write the case below ``scratch``; the name of the file that is damaged."""
    known, random = FORMATS[form], Random(f"{seed} {form}")
    case = scratch / "case"
    shutil.copytree(base / known.base, case)
    shutil.copy(base / "audio" / "noise.wav", scratch / "noise.wav")
    for name in ("here", "home", "tmp"):
        (scratch / name).mkdir()
    name = random.choice(sorted(known.files))
    if name not in {path.relative_to(case).as_posix() for path in case.rglob("*")}:
        name = sorted(known.files)[0]
    manifest = open_bundle(case).manifest if known.rehash else None
    content = (case / name).read_bytes()
    (case / name).write_bytes(known.files[name](content, random))
    if manifest is not None:
        write_manifest(case, manifest)
    return name


def _in_a_child(form: Format, case: Path, scratch: Path) -> tuple[str, str]:
    """Fork, read there, and judge how that ended."""
    before = _listing(scratch, case)
    answer, ours = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(answer)
        _read_in_child(form, case, scratch, ours)
    os.close(ours)
    status = _ended(child)
    with os.fdopen(answer, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    if status is None:
        return "wrong", f"hangs: not done in {WALL_SECONDS} s"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return "wrong", f"hangs: {CPU_SECONDS} s of CPU time"
        return "wrong", f"takes the process down with {signal.Signals(number).name}"
    if not text:
        return "wrong", "ended the process"
    verdict, said = json.loads(text)
    changed = sorted(before ^ _listing(scratch, case))
    if changed:
        return "wrong", f"wrote {', '.join(changed)}"
    if any(word in said for word in _OF_MEMORY):
        return "wrong", f"wants more than 2 GiB: {said}"
    return verdict, said


def _ended(child: int) -> int | None:
    """The child's status; None when it had to be killed."""
    waited, last = 0.0, time.monotonic()
    while waited < WALL_SECONDS:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
        now = time.monotonic()
        # No longer step than a second counts: the machine may have been stopped in between.
        waited, last = waited + min(now - last, 1.0), now
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _listing(scratch: Path, case: Path) -> set[str]:
    """Every file but those of the case and of the temporary folder."""
    return {
        str(path)
        for path in scratch.rglob("*")
        if not path.is_relative_to(case) and scratch / "tmp" not in path.parents
    }


def _read_in_child(form: Format, case: Path, scratch: Path, answer: int) -> None:
    """Never returns."""
    found: tuple[str, str] = ("wrong", "no answer")
    try:
        _confine(scratch)
        with _Writes(scratch) as outside:
            try:
                form.use(case)
                found = ("fine", "")
            except (LpaError, ArtifactError) as error:
                found = ("refused", str(error).replace(str(scratch), ""))
                if len(str(error).splitlines()) != 1:
                    found = ("wrong", f"not one line: {error!r}")
            except BaseException as error:  # any other type is what is looked for
                found = ("wrong", f"{type(error).__name__}: {str(error)[:300]}")
        if outside:
            found = ("wrong", f"wrote outside: {outside[:3]}")
    finally:
        os.write(answer, json.dumps(found)[:60_000].encode())
        os._exit(0)


def _confine(scratch: Path) -> None:
    faulthandler.disable()
    os.chdir(scratch / "here")
    os.environ["HOME"] = str(scratch / "home")
    tempfile.tempdir = str(scratch / "tmp")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))
    spent = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, spent + CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Writes:
    """Collects what Python writes, moves or removes outside of a folder."""

    _CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link")

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.found: list[str] = []
        self._on = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> list[str]:
        self._on = True
        return self.found

    def __exit__(self, *_: object) -> None:
        self._on = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        writes = event == "open" and bool(
            (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if not writes and event not in self._CHANGES:
            return
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike):
            place = Path(os.fsdecode(path)).absolute()
            if not place.is_relative_to(self._folder) and not place.is_relative_to("/dev"):
                self.found.append(f"{event} {place}")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", type=names, default=tuple(FORMATS), metavar="a,b")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=count, default=1000, metavar="N")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    prepare()
    log = Log(arguments.log)
    base = arguments.log.parent / "bases"
    bases(base, {FORMATS[form].base for form in arguments.format})
    with tempfile.TemporaryDirectory() as scratch:
        for form in arguments.format:
            # What is sound must be read; and what is imported for it, no child imports again.
            whole = Path(scratch) / "whole"
            shutil.copytree(base / FORMATS[form].base, whole / form)
            shutil.copy(base / "audio" / "noise.wav", whole)
            FORMATS[form].use(whole / form)
            for seed in range(arguments.first, arguments.first + arguments.count):
                if not log.has(seed, form):
                    log.add([tried(seed, form, base, Path(scratch) / "one")])
    return log.print()


def prepare() -> None:
    """Load once, before any fork, what every child needs; on one thread, or a fork would hang."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    quiet_libraries()
    disable_progress_bar()
    torch.set_num_threads(1)
    # Whatever asks for more on the way: OpenMP that has run on several threads hangs in a fork.
    torch.set_num_threads = lambda nthreads: None


if __name__ == "__main__":
    sys.exit(main())
