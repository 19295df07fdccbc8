"""What this machine has and is doing: memory, processor, load."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from contextlib import suppress
from pathlib import Path

__all__ = [
    "INSTRUCTIONS",
    "ForeignLoad",
    "available_memory",
    "held_memory",
    "instruction_sets",
    "left_in_groups",
    "peak_memory",
    "processor",
]

INSTRUCTIONS = (
    *("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sme"),
)
"""Extensions of x86 and ARM that the speed of products depends on, by the names of Linux."""

# What macOS calls those that Linux has another name for.
_DARWIN = {
    "asimd": "AdvSIMD",
    "asimddp": "FEAT_DotProd",
    "i8mm": "FEAT_I8MM",
    "bf16": "FEAT_BF16",
    "sme": "FEAT_SME",
}

_CPU = Path("/proc/cpuinfo")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def peak_memory() -> int:
    """The most bytes of memory that this process held at once, with those that it started.

    Linux's count for a process's own program: getrusage there includes what the process was that
    started it. Elsewhere getrusage's, and psutil's on Windows, of this process alone.
    """
    if platform.system() == "Linux":
        import psutil

        started = [child.pid for child in psutil.Process().children(recursive=True)]
        return sum(map(_peak_on_linux, [os.getpid(), *started]))
    if platform.system() == "Windows":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


def _peak_on_linux(process: int) -> int:
    """Bytes, 0 for a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def held_memory() -> int:
    """Bytes of memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_memory() -> int:
    """Bytes that a process can still take without the machine swapping or its limit ending it.

    psutil's count of the machine, or what is left of a control group's limit (a container's)
    where that is less.
    """
    import psutil

    return min([int(psutil.virtual_memory().available), *left_in_groups()])


def left_in_groups(root: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> list[int]:
    """What each limit leaves over this process: of version 2's groups, and of version 1's.

    Pages of files that are merely cached count as free, as they do for the machine.
    """
    left: list[int] = []
    with suppress(OSError):
        for line in own.read_text("utf-8").splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers == "":
                files = ("memory.max", "memory.current", "inactive_file")
                base = root
            elif "memory" in controllers.split(","):
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                base = root / "memory"
            else:
                continue
            inside = base / place.lstrip("/")
            for group in (inside, *inside.parents):
                if not group.is_relative_to(base):
                    break
                left += _left_in_group(group, *files)
    return left


def _left_in_group(group: Path, limit: str, used: str, cached: str) -> list[int]:
    with suppress(OSError, ValueError):
        most = int((group / limit).read_text("ascii"))  # "max" where there is none
        taken = int((group / used).read_text("ascii"))
        for line in (group / "memory.stat").read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == cached:
                taken -= int(value)
        return [max(most - taken, 0)]
    return []


def processor() -> str:
    """The processor's name as its system has it, with its cores: "AMD EPYC, 2 cores, x86_64"."""
    name = platform.processor() or "unknown processor"
    if platform.system() == "Linux":
        name = _stated_of_cpu("model name", "Model") or name
    elif platform.system() == "Darwin":
        name = _asked_of_darwin("machdep.cpu.brand_string") or name
    return f"{name}, {os.cpu_count()} cores, {platform.machine()}"


def instruction_sets() -> tuple[str, ...]:
    """Those of `INSTRUCTIONS` that the processor has, empty where the system does not say."""
    if platform.system() == "Darwin":
        if platform.machine() == "x86_64":
            keys = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
            said = " ".join(map(_asked_of_darwin, keys)).lower().split()
            return tuple(name for name in INSTRUCTIONS if name in said)
        return tuple(
            name
            for name, key in _DARWIN.items()
            if _asked_of_darwin(f"hw.optional.{key}") == "1"
            or _asked_of_darwin(f"hw.optional.arm.{key}") == "1"
        )
    found = _stated_of_cpu("flags", "Features").split()
    return tuple(name for name in INSTRUCTIONS if name in found)


class ForeignLoad:
    """How many cores other processes kept busy while the block ran: `cores` afterwards.

    What this process and those that it started and waited for took is not theirs.
    """

    cores = 0.0

    def __enter__(self) -> ForeignLoad:
        self._before = self._counts()
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, own = (
            now - then for now, then in zip(self._counts(), self._before, strict=True)
        )
        self.cores = max(busy - own, 0.0) / wall if wall > 0 else 0.0

    @staticmethod
    def _counts() -> tuple[float, float, float]:
        import psutil

        of_machine = psutil.cpu_times()
        idle = of_machine.idle + getattr(of_machine, "iowait", 0.0)
        # Time of guests is in that of the user already.
        guests = getattr(of_machine, "guest", 0.0) + getattr(of_machine, "guest_nice", 0.0)
        own = os.times()
        return (
            time.monotonic(),
            sum(of_machine) - idle - guests,
            own.user + own.system + own.children_user + own.children_system,
        )


def _stated_of_cpu(*keys: str) -> str:
    """What /proc/cpuinfo says under the first of the keys that it has."""
    with suppress(OSError):
        for line in _CPU.read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in keys:
                return value.strip()
    return ""


def _asked_of_darwin(key: str) -> str:
    done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True)
    return done.stdout.strip()
