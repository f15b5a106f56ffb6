"""The default number of threads, from the affinity mask, cgroups and PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hyperagg._numba import cpus
from hyperagg._numba.cpus import cgroup_cpus, default_threads, usable_cpus

V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup rw,nsdelegate\n"
V1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture
def root(tmp_path):
    """Write the files of a system: its mounts, the cgroups of the process, and their quotas."""

    def write(mounts, cgroups, quotas):
        files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": cgroups, **quotas}
        for name, content in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "quota, number",
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", None)],
)
def test_version_2(root, quota, number):
    quotas = {"sys/fs/cgroup/job/cpu.max": quota + "\n"}
    assert cgroup_cpus(root(V2, "0::/job\n", quotas)) == number


def test_the_lowest_quota_of_the_cgroups_around_counts(root):
    quotas = {
        "sys/fs/cgroup/slice/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/slice/pod/cpu.max": "250000 50000\n",
        "sys/fs/cgroup/slice/pod/job/cpu.max": "max 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
    }
    assert cgroup_cpus(root(V2, "0::/slice/pod/job\n", quotas)) == 3


@pytest.mark.parametrize("quota, number", [("150000", 2), ("-1", None)])
def test_version_1(root, quota, number):
    folder = "sys/fs/cgroup/cpu,cpuacct/job"
    quotas = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    cgroups = "9:name=systemd:/\n4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n"
    assert cgroup_cpus(root(V1, cgroups, quotas)) == number


def test_a_container_that_sees_the_path_of_the_machine(root):
    mounts = V2.replace("0:28 / ", "0:28 /docker/7f ")
    quotas = {"sys/fs/cgroup/cpu.max": "400000 100000"}
    assert cgroup_cpus(root(mounts, "0::/docker/7f\n", quotas)) == 4
    assert cgroup_cpus(root(mounts, "0::/elsewhere\n", quotas)) == 4


def test_a_mount_point_with_a_space(root):
    mounts = V2.replace("/sys/fs/cgroup", "/sys/control\\040groups")
    quotas = {"sys/control groups/cpu.max": "100000 100000"}
    assert cgroup_cpus(root(mounts, "0::/\n", quotas)) == 1


@pytest.mark.parametrize("content", ["", "\n", "x", "1 2 3 - ", "a:b:c\n::\n", "1 0\n"])
def test_files_that_make_no_sense(root, content):
    assert cgroup_cpus(root(content, content, {"sys/fs/cgroup/cpu.max": content})) is None
    assert cgroup_cpus(root(V2, "0::/\n", {"sys/fs/cgroup/cpu.max": content})) is None


def test_no_cgroups(tmp_path):
    assert cgroup_cpus(tmp_path) is None


def test_a_quota_limits_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for quota, number in ((None, 64), (3, 3), (200, 64)):
        monkeypatch.setattr(cpus, "_own_cgroup_cpus", lambda quota=quota: quota)
        assert usable_cpus() == number


def test_the_setting_of_openmp_and_of_torch(monkeypatch):
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    for value, number in (("6", 6), ("3,2", 3), ("0", 4), ("many", 4), ("", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert default_threads() == number

    class Torch:
        threads = 2

        def get_num_threads(self):
            return self.threads

    monkeypatch.setitem(sys.modules, "torch", Torch())
    assert default_threads() == 2
    monkeypatch.setattr(Torch, "threads", 64)  # PyTorch does not know of quotas
    assert default_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert default_threads() == 64


def test_torch_is_not_imported():
    code = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "3"
from hyperagg._numba.cpus import default_threads
assert default_threads() == 3
assert "torch" not in sys.modules and "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
