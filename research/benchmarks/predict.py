"""Speed, memory and exactness of `hyperagg predict` on synthetic documents of real text.

A document is a run of words that begins anywhere in the texts of a data set, so that its words and
pairs of words have the frequencies of real text. All measurements are of the command as a process
of its own: its start, the loading of the model, reading, scoring and writing.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg import TextClassifier
from hyperagg._common.report import environment, write_results
from hyperagg.data import Dataset

__all__ = [
    "FULL_PREDICT",
    "QUICK_PREDICT",
    "PredictEffort",
    "bench_predict",
    "cpu_seconds_of_family",
    "memory_of_family",
    "write_documents",
]

logger = logging.getLogger(__name__)

_COMMAND = [sys.executable, "-c", "from hyperagg.cli import main; main()", "predict"]
_SECONDS_BETWEEN_SAMPLES = 0.05
_TEN_MILLION = 10_000_000


@dataclass(frozen=True)
class PredictEffort:
    """How much is measured.

    Args:
        documents: number of documents; a quarter of them is measured as well, so that the time
            per document does not include the start.
        words: words per document.
        kills: number of times that a job is killed and resumed.
        lines: number of lines whose latency is measured.
        training_rows: number of texts to train the model on.
    """

    documents: int = 400_000
    words: int = 200
    kills: int = 10
    lines: int = 200
    training_rows: int | None = None


FULL_PREDICT = PredictEffort()
QUICK_PREDICT = PredictEffort(documents=400, words=20, kills=1, lines=3, training_rows=200)


def bench_predict(dataset: Dataset, effort: PredictEffort, folder: Path) -> dict[str, Any]:
    """Measure the command, and check that no row is lost.

    Args:
        dataset: the texts that documents are made of; its training texts train the model.
        effort: how much is measured.
        folder: where results.json goes; documents and outputs are temporary files in it.

    Raises:
        RuntimeError: an output does not have one row per document, or is not the same after a kill.
    """
    texts, labels = dataset.train.texts, dataset.train.labels
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        number = effort.training_rows
        classifier = TextClassifier(epochs=3).fit(texts[:number], labels[:number], seed=0)
        classifier.save_pretrained(work / "model")
        sizes = {"quarter": effort.documents // 4, "all": effort.documents}
        for size, rows in sizes.items():
            write_documents(work / f"{size}.jsonl", texts, rows, effort.words)
        runs = {}
        for way, options, threads in (
            ("1 core", [], 1),
            ("2 cores, threads", [], 2),
            ("2 cores, workers", ["--workers", "2"], 2),
        ):
            runs[way] = _throughput(work, sizes, options, threads)
            logger.info(f"{way}: {runs[way]['documents_per_second']:,.0f} documents/s")
        results = {
            "environment": environment(),
            "dataset": dataset.name,
            "documents": effort.documents,
            "words": effort.words,
            "input_bytes": (work / "all.jsonl").stat().st_size,
            "runs": runs,
            "kills": _kills(work, effort),
            "latency": {
                way: _latency(work, effort.lines, options)
                for way, options in (("1 process", []), ("2 workers", ["--workers", "2"]))
            },
        }
    write_results(folder, results)
    return results


def write_documents(path: Path, texts: Sequence[str], number: int, words: int) -> None:
    """Write documents as JSON lines with the fields id and text.

    Args:
        path: the file.
        texts: what documents are made of.
        number: the number of documents; the first of them do not depend on it.
        words: the number of words of each.
    """
    source = " ".join(texts).split()
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(number):
            begin = rng.randrange(max(1, len(source) - words))
            text = " ".join(source[begin : begin + words])
            file.write(json.dumps({"id": row, "text": text}, ensure_ascii=False) + "\n")


def _start(work: Path, source: str, out: str, options: Sequence[str], threads: int) -> Any:
    arguments = [work / "model", work / source, "--out", work / out, "--keep", "id", *options]
    return subprocess.Popen(
        [*_COMMAND, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stderr=subprocess.PIPE,
        text=True,
    )


def _throughput(
    work: Path, sizes: Mapping[str, int], options: Sequence[str], threads: int
) -> dict[str, Any]:
    """Return the time per document, from two sizes, and the peak memory of all processes."""
    seconds, memory = {}, {}
    for size, rows in sizes.items():
        out = work / "out.jsonl"
        begun = time.perf_counter()
        process = _start(work, f"{size}.jsonl", out.name, options, threads)
        memory[size] = _peak_memory(process.pid)
        report = process.communicate()[1]
        seconds[size] = time.perf_counter() - begun
        _check_rows(out, rows, report)
        out.unlink()
    rate = (sizes["all"] - sizes["quarter"]) / (seconds["all"] - seconds["quarter"])
    return {
        "seconds": seconds,
        "peak_memory_bytes": memory,
        "documents_per_second": rate,
        "hours_for_ten_million": _TEN_MILLION / rate / 3600,
        "report": report.strip(),
    }


def _check_rows(out: Path, rows: int, report: str) -> None:
    with out.open(encoding="utf-8") as file:
        found = [(row["row"], row["id"]) for row in map(json.loads, file)]
    if found != [(row + 1, row) for row in range(rows)]:
        raise RuntimeError(f"{rows:,} documents were answered by {len(found):,} rows: {report}")


def _peak_memory(process_id: int) -> int:
    """Wait for a process, and return the peak sum of the proportional set sizes of its family."""
    peak = 0
    while True:
        if not _family(process_id):
            return peak
        peak = max(peak, memory_of_family(process_id))
        time.sleep(_SECONDS_BETWEEN_SAMPLES)


def memory_of_family(process_id: int) -> int:
    """Return the sum of the proportional set sizes of a process and its descendants, in bytes."""
    return sum(map(_proportional_set_size, _family(process_id)))


def cpu_seconds_of_family(process_id: int) -> float:
    """Return the processor time of a process and its living descendants so far."""
    ticks = 0
    for each in _family(process_id):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])  # in user and in kernel mode
    return ticks / os.sysconf("SC_CLK_TCK")


def _family(process_id: int) -> list[int]:
    """Return a process and its descendants; none when it has ended."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        threads = list(Path(f"/proc/{process_id}/task").iterdir())
    except OSError:
        return []
    if state == "Z":
        return []
    family = [process_id]
    for thread in threads:
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            family += _family(child)
    return family


def _proportional_set_size(process_id: int) -> int:
    try:
        content = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in content.splitlines() if line.startswith("Pss:")]
    return 1024 * int(sizes[0]) if sizes else 0


def _kills(work: Path, effort: PredictEffort) -> dict[str, Any]:
    """Kill jobs at random moments, resume them, and compare their outputs with a whole one."""
    rng = random.Random(0)
    results: dict[str, Any] = {}
    for extension in ("jsonl", "parquet"):
        whole, out = work / f"whole.{extension}", work / f"out.{extension}"
        begun = time.perf_counter()
        _finish(_start(work, "quarter.jsonl", whole.name, [], 1))
        seconds = time.perf_counter() - begun
        moments: list[float] = []
        resumed = 0
        for _ in range(effort.kills):
            moments.append(rng.uniform(0, seconds))
            process = _start(work, "quarter.jsonl", out.name, [], 1)
            try:
                process.wait(moments[-1])
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            resumed += out.with_name(f"{out.name}.journal").exists()
            _finish(_start(work, "quarter.jsonl", out.name, ["--resume"], 1))
            if not filecmp.cmp(whole, out, shallow=False):
                raise RuntimeError(f"killed after {moments[-1]} s and resumed, {out} is different")
            out.unlink()
        logger.info(f"{extension}: {effort.kills} kills, {resumed} of them within the job")
        results[extension] = {
            "kills": effort.kills,
            "within_the_job": resumed,
            "equal_outputs": effort.kills,
            "moments": moments,
            "whole_seconds": seconds,
        }
    return results


def _finish(process: Any) -> None:
    report = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"predict ended with {process.returncode}: {report}")


def _latency(work: Path, lines: int, options: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds from a line that is written to its answer."""
    process = subprocess.Popen(
        [*_COMMAND, str(work / "model"), "-", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    times = []
    try:
        for _ in range(lines + 1):
            begun = time.perf_counter()
            process.stdin.write(b"oil prices rose after the cut of the output\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], 120)[0]:
                raise RuntimeError("a line was not answered within two minutes")
            process.stdout.readline()
            times.append(1000 * (time.perf_counter() - begun))
            time.sleep(0.01)
    finally:
        process.stdin.close()
        process.wait()
    first, *others = times
    return {
        "first_ms": first,
        "median_ms": float(np.median(others)),
        "max_ms": float(np.max(others)),
    }
