"""/proc is read as the kernel writes it."""

from __future__ import annotations

import os

from project.vitals import (
    CpuTimes,
    cpu_share,
    machine_sample,
    parse_cpu,
    parse_memory,
    process_sample,
    processes_sample,
    read_cpu,
)


def test_waiting_for_the_disk_is_not_work() -> None:
    assert parse_cpu("cpu  10 20 30 400 50 6 7 8 9 9\ncpu0 1 1\n") == CpuTimes(busy=81, total=531)


def test_the_share_of_no_time_at_all_is_none() -> None:
    assert cpu_share(CpuTimes(1, 2), CpuTimes(1, 2)) == 0
    assert cpu_share(CpuTimes(0, 0), CpuTimes(1, 4)) == 0.25


def test_memory_that_can_be_given_back_counts_as_free() -> None:
    text = "MemTotal:  100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\nHugePages_Total:  0\n"
    assert parse_memory(text) == {"total": 102_400, "used": 40_960}


def test_this_process_and_this_machine_can_be_read() -> None:
    sample = process_sample(os.getpid())
    assert sample is not None
    assert sample["descriptors"] > 2
    assert sample["threads"] > 0
    assert process_sample(2**22 + 1) is None
    before = read_cpu()
    assert {"load", "cpu", "cpus", "memory", "processes"} == machine_sample(before, read_cpu()).keys()


def test_the_servers_of_a_fleet_are_added_up_and_the_dead_are_not() -> None:
    one = process_sample(os.getpid())
    sums = processes_sample([os.getpid(), 2**22 + 1, os.getpid()])
    assert one is not None
    assert sums is not None
    assert sums["processes"] == 2
    assert sums["memory"] > one["memory"]
    assert processes_sample([2**22 + 1]) is None
