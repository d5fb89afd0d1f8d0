"""Read what /proc says about this machine and about one process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CpuTimes",
    "cpu_share",
    "machine_sample",
    "parse_cpu",
    "parse_memory",
    "process_sample",
    "processes_sample",
    "read_cpu",
]

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks since boot, over all processors."""

    busy: int
    total: int


def parse_cpu(stat: str) -> CpuTimes:
    """Read the first line of /proc/stat; idle and iowait are not work."""
    ticks = [int(word) for word in stat.split("\n", 1)[0].split()[1:9]]
    total = sum(ticks)
    return CpuTimes(busy=total - ticks[3] - ticks[4], total=total)


def cpu_share(before: CpuTimes, after: CpuTimes) -> float:
    """Return the share of all processors' time that was work, from 0 to 1."""
    passed = after.total - before.total
    return round((after.busy - before.busy) / passed, 4) if passed > 0 else 0.0


def parse_memory(meminfo: str) -> dict[str, int]:
    """Return total and used bytes; what the kernel would give back at once counts as free."""
    kib = {
        line.split(":", 1)[0]: int(line.split()[1]) for line in meminfo.splitlines() if line.endswith(" kB")
    }
    total, available = kib["MemTotal"], kib["MemAvailable"]
    return {"total": total * 1024, "used": (total - available) * 1024}


def read_cpu() -> CpuTimes:
    return parse_cpu((PROC / "stat").read_text(encoding="ascii"))


def machine_sample(before: CpuTimes, after: CpuTimes) -> dict[str, object]:
    """Return load averages, the share of CPU used between two readings, memory and processes."""
    return {
        "load": [round(value, 2) for value in os.getloadavg()],
        "cpu": cpu_share(before, after),
        "cpus": os.cpu_count() or 1,
        "memory": parse_memory((PROC / "meminfo").read_text(encoding="ascii")),
        "processes": sum(entry.name.isdigit() for entry in PROC.iterdir()),
    }


def process_sample(pid: int) -> dict[str, int] | None:
    """Return a process's open descriptors, threads and resident bytes; None once it is gone."""
    place = PROC / str(pid)
    try:
        descriptors = sum(1 for _ in (place / "fd").iterdir())
        status = (place / "status").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in fields:
        return None
    return {
        "descriptors": descriptors,
        "threads": int(fields["Threads"]),
        "memory": int(fields["VmRSS"].split()[0]) * 1024,
    }


def processes_sample(pids: Iterable[int]) -> dict[str, int] | None:
    """Return the sums over those processes that are there, and how many they are; None without any."""
    samples = [sample for pid in pids if (sample := process_sample(pid))]
    if not samples:
        return None
    sums = {key: sum(sample[key] for sample in samples) for key in samples[0]}
    return {"processes": len(samples), **sums}
