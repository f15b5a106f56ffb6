"""Find the number of threads that a process should use by default.

A container may be granted a few of the machine's processors in two ways: as a set of processors,
the affinity mask, and as a quota of processor time per period, in its control group (cgroup) or one
that contains it. Threads beyond the quota run until the quota is used up and then all stand still.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["cgroup_cpus", "default_threads", "usable_cpus"]


def default_threads() -> int:
    """Return the number of threads to use where none is given.

    It is the first number in `OMP_NUM_THREADS` if that is set. Otherwise it is `usable_cpus()`, or
    PyTorch's number of threads if PyTorch is imported and that number is lower.
    """
    # Importing PyTorch only to ask it would take seconds; it may also be half imported.
    ask = getattr(sys.modules.get("torch"), "get_num_threads", None)
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if requested.isdecimal() and int(requested) > 0:
        return ask() if ask else int(requested)
    return min(usable_cpus(), ask()) if ask else usable_cpus()


def usable_cpus() -> int:
    """Return the number of processors in the affinity mask, at most the quota of the cgroup."""
    if hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:
        number = os.cpu_count() or 1
    quota = _own_cgroup_cpus()
    return number if quota is None else min(number, quota)


@cache
def _own_cgroup_cpus() -> int | None:
    return cgroup_cpus(Path("/"))


def cgroup_cpus(root: Path) -> int | None:
    """Return the number of processors that the quotas of this process's cgroups amount to.

    Versions 1 and 2 of cgroups are read. The lowest quota of the cgroup and those that contain it
    counts; a fraction is rounded up.

    Args:
        root: the root of the file system.

    Returns:
        at least 1; None if there is no quota, or no cgroup.
    """
    quotas = [quota for folder in _cgroup_folders(root) if (quota := _quota(folder)) is not None]
    return max(1, math.ceil(min(quotas))) if quotas else None


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """The folders of this process's cgroups and of those that contain them."""
    mounts = [_mount(line) for line in _lines(root / "proc/self/mountinfo")]
    for line in _lines(root / "proc/self/cgroup"):
        # ID:controllers:path, where version 2 has no controllers.
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for version, own, point in mounts:
            if version != (1 if controllers else 2):
                continue
            # In a container, the path may lead from the machine's root, of which it sees a part.
            inside = path.removeprefix(own.rstrip("/")) if path.startswith(own) else "/"
            folder, top = root / (point + inside).strip("/"), root / point.strip("/")
            yield folder
            while folder != top and top in folder.parents:
                folder = folder.parent
                yield folder


def _mount(line: str) -> tuple[int, str, str]:
    """The version of the cgroups that are mounted, their root and the mount point.

    The version is 0 if the line is about anything else, or about cgroups without processor time.
    """
    # ID, parent ID, device, root, mount point, options, tags - type, source, options
    left, right = (half.split() for half in line.partition(" - ")[::2])
    if len(left) < 5 or len(right) < 3:
        return 0, "", ""
    version = {"cgroup": int("cpu" in right[2].split(",")), "cgroup2": 2}.get(right[0], 0)
    own, point = (
        re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) for field in left[3:5]
    )
    return version, own, point


def _quota(folder: Path) -> float | None:
    """The quota of a cgroup in processors; None if it has none or the files cannot be read."""
    version_2 = _lines(folder / "cpu.max")
    if version_2:
        values = version_2[0].split()
    else:
        names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
        values = [line for name in names for line in _lines(folder / name)]
    try:
        quota, period = map(int, values)
    except ValueError:  # "max", or a file that is missing
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
