"""Training by number of threads where cores are few, busy or limited (Linux).

In each situation a process of its own trains the classifier again and again, with one, two and four
threads and with the default number in turn. More threads than one should nowhere cost much: they
are asked for by number, or are the default, on machines that others use as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results

__all__ = [
    "SITUATIONS",
    "bench_busy",
    "busy_loops",
    "busy_page",
    "busy_table",
    "measure",
    "write_busy_page",
]

_LIMIT = 1.3  # times the time of one thread, which no other number should exceed
_ROOT = Path(__file__).parents[2]
_CPU_CGROUP = Path("/sys/fs/cgroup/cpu")
_PERIOD = 100_000  # microseconds, over which a quota counts


@dataclass(frozen=True)
class Situation:
    """What a process that trains has to share.

    Attributes:
        cores: the number of cores that it may use; None for all.
        loops: whether another process computes on each of these cores.
        quota: the cores' worth of time that it may use; None for all.
    """

    cores: int | None = None
    loops: bool = False
    quota: float | None = None


SITUATIONS = {
    "all cores": Situation(),
    "one core": Situation(cores=1),
    "one core, with a busy loop": Situation(cores=1, loops=True),
    "all cores, each with a busy loop": Situation(loops=True),
    "all cores, a quota of half a core": Situation(quota=0.5),
}


def bench_busy(
    dataset: str = "r8",
    threads: Sequence[int | None] = (1, 2, 4, None),
    rounds: int = 5,
    situations: Sequence[str] = tuple(SITUATIONS),
    limit: int | None = None,
) -> dict[str, Any]:
    """Measure whole runs of `fit` in each situation.

    Args:
        dataset: the name of a data set.
        threads: the numbers of threads; None for the default. The first one is the baseline.
        rounds: the number of interleaved runs of each of them.
        situations: names out of SITUATIONS.
        limit: the number of texts (default: all of the training part).

    Returns:
        What `write_busy_page` takes.

    Raises:
        ValueError: two runs gave different weights.
    """
    found: dict[str, Any] = {}
    weights = set()
    for name in situations:
        load = os.getloadavg()[0]
        with _arranged(SITUATIONS[name]) as (begin, how):
            task = {"dataset": dataset, "threads": threads, "rounds": rounds, "limit": limit}
            measured = _measure_in_process(task, begin)
        weights |= set(measured.pop("weights"))
        found[name] = {**measured, "quota": how, "load_before": load}
    if len(weights) > 1:
        raise ValueError("the weights depend on the situation or the number of threads")
    return {
        "environment": environment(),
        "dataset": dataset,
        "rounds": rounds,
        "threads": ["default" if n is None else str(n) for n in threads],
        "situations": found,
    }


def write_busy_page(folder: Path, results: dict[str, Any]) -> None:
    """Write results.json and README.md to `folder`."""
    write_results(folder, results)
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(busy_page(results), "utf-8")


def busy_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of median seconds, and of the largest ratio to the first column."""
    rows = []
    for name, measured in results["situations"].items():
        medians = [float(np.median(measured["seconds"][n])) for n in results["threads"]]
        ratio = max(medians[1:], default=medians[0]) / medians[0]
        rows.append([name, *(f"{t:.2f}" for t in medians), f"{ratio:.2f}"])
    return markdown_table(["threads", *results["threads"], "slowest / 1 thread"], rows)


def busy_page(results: dict[str, Any]) -> str:
    """Return the page of the results."""
    machine = results["environment"]
    quotas = {own["quota"] for own in results["situations"].values() if own["quota"]}
    loads = [own["load_before"] for own in results["situations"].values()]
    defaults = ", ".join(
        f"{own['default_threads']} ({name})" for name, own in results["situations"].items()
    )
    return f"""# Training where cores are few, busy or limited

Written by `python -m research bench busy` from results.json beside it; do not edit.

{machine["processor"]}, {machine["cores"]} cores, numba {machine["numba"]}, hyperagg
{machine["hyperagg"]}, commit {machine["commit"]}. Whole runs of `fit` on {results["dataset"]} with
the default arguments; medians of {results["rounds"]} interleaved runs, in seconds. The weights of
all runs are the same. The load average before each situation was {min(loads):.1f} to
{max(loads):.1f}.

{busy_table(results)}
No number of threads should take more than {_LIMIT} times as long as one. No more threads are
started than a process may use cores; the default numbers were
{defaults}.
{"".join(f"The quota: {how}." for how in sorted(quotas))}
"""


def _measure_in_process(
    task: dict[str, Any], begin: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Run `measure` in a process that calls `begin` first."""
    done = subprocess.run(
        [sys.executable, "-c", "from research.benchmarks.busy import measure; measure()"],
        input=json.dumps(task),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=_ROOT,
        # The default number of threads is measured too.
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"},
        preexec_fn=begin,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure() -> None:
    """Train as standard input says; print the seconds, by number of threads, as JSON."""
    from hyperagg import TextClassifier
    from hyperagg._numba.cpus import default_threads
    from hyperagg.data import load_dataset

    task = json.load(sys.stdin)
    train = load_dataset(task["dataset"]).train
    texts, labels = train.texts[: task["limit"]], train.labels[: task["limit"]]
    names = ["default" if n is None else str(n) for n in task["threads"]]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    weights = set()
    for i in range(task["rounds"] + 1):
        for name, number in zip(names, task["threads"]):
            clf = TextClassifier(threads=number)
            started = time.perf_counter()
            clf.fit(texts, labels, progress=False)
            if i:  # the first round compiles the kernels
                seconds[name].append(time.perf_counter() - started)
            weights.add(clf.model_.checksum())
    result = {
        "seconds": seconds,
        "weights": sorted(weights),
        "default_threads": default_threads(),
    }
    print(json.dumps(result))


@contextmanager
def _arranged(situation: Situation) -> Iterator[tuple[Callable[[], None], str | None]]:
    """Arrange a situation; yield what the process does that trains, and how its quota is set."""
    cores = set(sorted(os.sched_getaffinity(0))[: situation.cores])
    with ExitStack() as arranged:
        group, how = None, None
        if situation.quota is not None:
            group = arranged.enter_context(_cgroup(situation.quota))
            period = _PERIOD // 1000
            how = f"a cgroup with {situation.quota * period:g} ms of processor time per {period} ms"
        if situation.loops:
            arranged.enter_context(busy_loops(cores))

        def begin() -> None:
            os.sched_setaffinity(0, cores)
            if group is not None:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        yield begin, how


@contextmanager
def busy_loops(cores: set[int]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a busy loop on each of these cores."""
    loop = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", loop, str(core)]) for core in sorted(cores)]
    try:
        yield loops
    finally:
        for each in loops:
            each.kill()
            each.wait()


@contextmanager
def _cgroup(quota: float) -> Iterator[Path]:
    """Make a control group (version 1) with a quota of processor time.

    Raises:
        ValueError: this machine or user cannot have one.
    """
    group = _CPU_CGROUP / f"hyperagg-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise ValueError(
            f"{group}: cannot be made ({error.strerror}); expected version 1 of cgroups, and root"
        ) from error
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(round(quota * _PERIOD)))
        yield group
    finally:
        group.rmdir()
