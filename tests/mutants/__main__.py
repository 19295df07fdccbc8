"""Mistakes planted one at a time: a test must fail for each of them.

    python -m tests.mutants [WORD ...]     # only mutants with such a word in their name

The repository's own copy stays as it is: each mutant is tried in a copy of the packages, whose
tests have to pass before. A test that is skipped here notices nothing: its mutant survives.
"""

import argparse
import compileall
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from py_compile import PycInvalidationMode

from tests.mutants.lowering import LOWERING
from tests.mutants.mutant import Mutant
from tests.mutants.separation import SEPARATION
from tests.mutants.trust import TRUST

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("lpa_export", "validation", "tests", "pyproject.toml", "recipes")
MUTANTS = (*LOWERING, *SEPARATION, *TRUST)

# Imported once, before the forks; not onnxruntime, which looks how the package has set it up.
_SHARED = ("hypothesis", "jiwer", "msgspec", "numpy", "onnx", "pytest", "safetensors.torch",
           "scipy.signal", "soundfile", "soxr", "torch", "transformers.models.auto.modeling_auto",
           "transformers.models.auto.feature_extraction_auto",
           "transformers.models.auto.tokenization_auto",
           "transformers.models.wav2vec2.modeling_wav2vec2")  # fmt: skip

_PASSED, _FAILED = 0, 1
_MOST_SECONDS = 900


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    # By content: a mutant may be as long and as old as the other.
    compileall.compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True


def _exit_code(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """What pytest ends with on the copy, in a process of its own, and what it printed."""
    log = folder / "log"
    child = os.fork()
    if child == 0:
        _become(folder, log)
        import pytest

        signal.alarm(_MOST_SECONDS)
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, log.read_text("utf-8", "replace")


def _become(folder: Path, log: Path) -> None:
    """A process that knows the copy alone, and prints into `log`."""
    os.chdir(folder)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    ours = [str(folder), str(folder / "validation")]
    kept = [path for path in sys.path if not Path(path).resolve().is_relative_to(REPOSITORY)]
    packages = [path for path in sys.path if "site-packages" in path]
    sys.path[:] = [*ours, *dict.fromkeys((*kept, *packages))]
    os.environ["PYTHONPATH"] = os.pathsep.join(ours)


def require_passed(folder: Path, tests: Sequence[str]) -> None:
    """Raise ValueError when they do not pass on the copy as it is."""
    code, said = _exit_code(folder, tests)
    if code != _PASSED:
        raise ValueError(f"without any mistake: {said[-2000:]}")


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether its tests pass. Raises ValueError where the right line is not there once."""
    place = folder / mutant.file
    text = place.read_text("utf-8")
    if text.count(mutant.right) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} says it {text.count(mutant.right)} times")
    place.write_text(text.replace(mutant.right, mutant.wrong), "utf-8")
    try:
        code, said = _exit_code(folder, [mutant.tests])
    finally:
        place.write_text(text, "utf-8")
    if code not in (_PASSED, _FAILED):
        raise ValueError(f"{mutant.name}: {said[-2000:]}")
    return code == _PASSED


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="in the names of mutants to try")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    logging.disable(logging.WARNING)
    for name in _SHARED:
        import_module(name)
    logging.disable(logging.NOTSET)
    alive = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        _copy(folder)
        require_passed(folder, list(dict.fromkeys(mutant.tests for mutant in chosen)))
        for mutant in chosen:
            lives = survives(mutant, folder)
            alive += lives
            print(f"{'SURVIVES' if lives else 'killed  '}  {mutant.name}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
