"""The benchmark of training on busy and limited machines. Times are not tested."""

from __future__ import annotations

import os
import sys

import pytest

from research.benchmarks import busy
from research.benchmarks.busy import SITUATIONS, bench_busy, busy_loops, busy_table, write_busy_page

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pins processes to cores")


def test_a_few_rows_fill_the_page(tmp_path):
    names = [name for name, own in SITUATIONS.items() if own.quota is None]
    results = bench_busy("r8", (1, 3, None), 1, [names[0], names[2]], limit=64)
    write_busy_page(tmp_path, results)
    page = (tmp_path / "README.md").read_text("utf-8")
    assert busy_table(results) in page
    assert all(f"| {name} |" in page for name in (names[0], names[2]))
    pinned = results["situations"][names[2]]
    assert pinned["default_threads"] == 1
    assert all(len(seconds) == 1 for seconds in pinned["seconds"].values())


def test_a_process_is_in_the_group_with_the_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(busy, "_CPU_CGROUP", tmp_path)
    with busy._cgroup(0.5) as group:
        assert (group / "cpu.cfs_period_us").read_text() == "100000"
        assert (group / "cpu.cfs_quota_us").read_text() == "50000"
        for file in group.iterdir():
            file.unlink()  # those of a real group go with it
    assert not group.exists()
    monkeypatch.setattr(busy, "_CPU_CGROUP", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be made"), busy._cgroup(0.5):
        pass


def test_busy_loops_end():
    with busy_loops(os.sched_getaffinity(0)) as loops:
        assert len(loops) == len(os.sched_getaffinity(0))
    assert all(loop.poll() is not None for loop in loops)
