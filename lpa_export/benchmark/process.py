"""One process of a benchmark: it opens one side, runs one length a few times, and says how long.

Started by `measure_in_process`; the request stands in its arguments, the answer on stdout.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from lpa_export.benchmark.sides import Side, open_side
from lpa_export.environment import child_environment
from lpa_export.errors import LpaError

__all__ = ["MOST_RUNS", "RUNS", "Answer", "Request", "measure_in_process"]

RUNS = 3
"""Runs after which the second peak is taken; the first is the warm-up."""

MOST_RUNS = 200
"""Timed runs of a process at most, however short they are."""

_LEVEL = 0.1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`rate`: samples a second; `least_seconds`: the timed runs together last that long, so that
    short ones count too."""

    side: Side
    seconds: float
    rate: int
    threads: int
    least_seconds: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of each run behind the warm-up, and peak bytes after the first run and `RUNS`."""

    times: tuple[float, ...] = ()
    first_peak: int = 0
    third_peak: int = 0
    error: str = ""


def measure_in_process(request: Request) -> Answer:
    """The answer of a fresh process. Raises LpaError, in one line, where it gives none."""
    text = msgspec.json.encode(request).decode()
    done = subprocess.run(
        [sys.executable, "-m", "lpa_export.benchmark.process", text],
        env=child_environment(OMP_NUM_THREADS=str(request.threads)),
        capture_output=True,
        text=True,
    )
    try:
        answer = msgspec.json.decode(done.stdout.rpartition("\n")[2], type=Answer)
    except msgspec.DecodeError as error:
        said = done.stderr.strip().splitlines()
        ending = f"ended by signal {-done.returncode}" if done.returncode < 0 else "broke"
        raise LpaError(
            f"{request.side.name}: its process {ending} at {request.seconds:g} s of audio"
            f"{f' ({said[-1][:200]})' if said else ''}"
        ) from error
    if answer.error:
        raise LpaError(f"{request.side.name}: {answer.error}")
    return answer


def measure(request: Request) -> Answer:
    """Open, run, count: in this process, which should do nothing else."""
    import numpy as np

    generator = np.random.default_rng(0)
    noise = generator.standard_normal(round(request.seconds * request.rate), np.float32)
    waveform = np.float32(_LEVEL) * noise
    timed = open_side(request.side, threads=request.threads)
    timed.run(waveform)
    first = timed.peak()
    times = [timed.run(waveform) for _ in range(RUNS - 1)]
    third = timed.peak()
    while sum(times) < request.least_seconds and len(times) < MOST_RUNS:
        times.append(timed.run(waveform))
    return Answer(times=tuple(times), first_peak=first, third_peak=third)


def main() -> None:
    """Answer the request in the arguments: the last line on stdout is JSON."""
    from lpa_export.environment import quiet_libraries
    from lpa_export.runtimes import ArtifactError

    quiet_libraries()
    request = msgspec.json.decode(sys.argv[1], type=Request)
    # Libraries may print: nothing of theirs must follow the answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    try:
        answer = measure(request)
    except (ArtifactError, LpaError) as error:
        answer = Answer(error=str(error))
    except MemoryError:
        answer = Answer(error=f"not enough memory for {request.seconds:g} s of audio")
    answers.write(f"\n{msgspec.json.encode(answer).decode()}")
    answers.flush()


if __name__ == "__main__":
    main()
