"""Memory of this process and of this machine, held against the system's own counts."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lpa_export.measures.machine import (
    INSTRUCTIONS,
    ForeignLoad,
    available_memory,
    instruction_sets,
    left_in_groups,
    processor,
)

MB = 1 << 20
TAKES = """
import sys
import numpy
from lpa_export.measures.machine import held_memory, peak_memory
before = peak_memory()
del_me = numpy.ones(int(sys.argv[1]), numpy.uint8)
del del_me
print(peak_memory() - before, peak_memory() - held_memory())
"""


def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    large = bytearray(300 * MB)  # what the child is started by is no part of the child's peak
    done = subprocess.run(
        [sys.executable, "-c", TAKES, str(100 * MB)], capture_output=True, text=True, check=True
    )
    grown, given_back = map(int, done.stdout.split())
    assert len(large) == 300 * MB
    assert grown == pytest.approx(100 * MB, rel=0.1)
    assert given_back == pytest.approx(100 * MB, rel=0.1)


def test_no_more_is_available_than_the_machine_has() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


def group(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")
    return folder


def test_a_limit_of_a_control_group_counts_and_so_do_those_above_it(tmp_path: Path) -> None:
    """Version 2: the group has no limit, the one above it 1,000 with 100 of 700 used in cache."""
    own = tmp_path / "cgroup"
    own.write_text("0::/box/inner\n")
    above = {"memory__max": 1000, "memory__current": 700, "memory__stat": "inactive_file 100"}
    group(tmp_path / "fs" / "box", **above)
    inner = {"memory__max": "max", "memory__current": 600, "memory__stat": "inactive_file 0"}
    group(tmp_path / "fs" / "box" / "inner", **inner)
    assert left_in_groups(tmp_path / "fs", own) == [400]


def test_limits_of_version_1_count_too(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/a\n4:memory:/a\n0::/\n")
    files = {
        "memory__limit_in_bytes": 500,
        "memory__usage_in_bytes": 600,
        "memory__stat": "total_inactive_file 50",
    }
    group(tmp_path / "fs" / "memory" / "a", **files)
    assert left_in_groups(tmp_path / "fs", own) == [0]


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert left_in_groups(tmp_path, tmp_path / "nowhere") == []


BUSY = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def test_what_others_do_is_foreign_and_what_was_waited_for_is_not() -> None:
    other = subprocess.Popen([sys.executable, "-c", BUSY.format(60)])
    try:
        with ForeignLoad() as busy:
            own = subprocess.run([sys.executable, "-c", BUSY.format(0.4)])
    finally:
        other.kill()
        other.wait()
    assert own.returncode == 0
    assert busy.cores > 0.3
    load = ForeignLoad()
    counts = iter([(0.0, 0.0, 0.0), (2.0, 3.0, 2.5)])  # two seconds, three of cores, 2.5 ours
    load._counts = lambda: next(counts)  # type: ignore[method-assign]
    with load:
        pass
    assert load.cores == 0.25


def test_the_processor_is_named_as_the_system_names_it() -> None:
    assert "cores" in processor()
    found = instruction_sets()
    assert set(found) <= set(INSTRUCTIONS)
    flags = Path("/proc/cpuinfo")
    if flags.exists() and "avx2" in flags.read_text():
        assert "avx2" in found
