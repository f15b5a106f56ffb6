"""Reads damaged inputs for some time, and counts how that ended."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperagg._common.report import markdown_table
from tests.data.readers.mutated_files import check_file
from tests.fuzz.mutations import mutate_file, mutate_folder
from tests.fuzz.originals import FOLDER_KINDS, MEDIA_KINDS, write_originals
from tests.fuzz.sandbox import Outcome, Sandbox

__all__ = ["Counts", "add_counts", "counts_table", "run_campaign"]

# Classifiers and tables are bound to their configuration by a digest. The folders of transformers
# and diffusers are not: another value in the range of a setting makes another, valid model.
_BOUND = ("classifier", "tokenizers", "fasttext", "multimodal")


@dataclass
class Counts:
    """How the cases of one kind ended.

    Attributes:
        ends: the number of cases by how they ended. "same" and "weights" were answered: as the
            original does, and otherwise after a change of the weights; "other settings" is another
            valid model; "silent" is another answer that nothing explains.
        failures: descriptions of those that must not be, with their seeds.
        seconds, megabytes: the greatest of all cases.
    """

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0
    megabytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, seed: int, what: str, end: str, outcome: Outcome) -> None:
        """Count a case; several threads may."""
        with self._lock:
            self.ends[end] += 1
            self.seconds = max(self.seconds, outcome.seconds)
            self.megabytes = max(self.megabytes, outcome.megabytes)
            if end not in _ENDS:
                self.failures.append(f"seed {seed}: {what}: {end}: {outcome.detail}"[:400])

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "cases": self.ends.total(),
            **dict(sorted(self.ends.items())),
            "max_seconds": round(self.seconds, 2),
            "max_megabytes": self.megabytes,
            "failures": self.failures[:50],
        }


_OTHER = ("other settings", "silent")  # an answer of a kind that is bound to its configuration
_ENDS = ("refused", "same", "weights", "other settings")  # that may be


def counts_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of results.json: how the cases of each kind ended."""
    columns = ("kind", "cases", *_ENDS, "failures", "seconds, at most", "MB, at most")
    rows = []
    for kind, each in results["kinds"].items():
        ends = [each.get(end, 0) for end in _ENDS]
        numbers = [each["cases"], *ends, each["cases"] - sum(ends)]
        most = [f"{each['max_seconds']:.1f}", f"{each['max_megabytes']:,}"]
        rows.append([kind, *(f"{number:,}" for number in numbers), *most])
    return markdown_table(columns, rows)


def add_counts(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the counts by kind, as `Counts.as_dict` returns them, of two calls together."""

    def total(name: str, parts: list[dict[str, Any]]) -> Any:
        values = [part[name] for part in parts if name in part]
        if name.startswith("max_"):
            return max(values)
        return [line for own in values for line in own] if name == "failures" else sum(values)

    added = {}
    for kind in dict.fromkeys([*first, *second]):
        parts = [part[kind] for part in (first, second) if kind in part]
        names = dict.fromkeys(name for part in parts for name in part)
        added[kind] = {name: total(name, parts) for name in names}
    return added


def run_campaign(
    kinds: list[str],
    *,
    seconds: float,
    cases: int | None = None,
    seed: int = 0,
    workers: int = 2,
    originals: dict[str, list[Path]] | None = None,
) -> dict[str, Counts]:
    """Read damaged inputs of some kinds in turn, each in a process with limits.

    Args:
        kinds: of `FOLDER_KINDS` and `MEDIA_KINDS`, and "data".
        seconds: when to stop, from the call on; a case that has begun is finished.
        cases: the number of cases per kind after which it is done.
        seed: of the first case; the others follow.
        workers: the number of processes.
        originals: what `write_originals` returned; it is called otherwise.

    Raises:
        ValueError: an original is not read, or the time is over before every kind had a case.
    """
    end = time.monotonic() + seconds
    counts = {kind: Counts() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        if originals is None:
            originals = write_originals(Path(folder, "originals").resolve(), kinds)
        inputs = originals

        def work(worker: int) -> None:
            if time.monotonic() >= end:
                return
            own = Path(folder, str(worker))
            with Sandbox(kinds) as sandbox:
                answers = {}
                for kind in kinds:
                    for path in inputs.get(kind, []):
                        answers[path] = _read_original(kind, path, sandbox)
                number = seed + worker
                while cases is None or number < seed + cases:
                    for kind in kinds:
                        if time.monotonic() >= end:
                            return
                        shutil.rmtree(own, ignore_errors=True)
                        own.mkdir()
                        _run_case(kind, number, own, inputs, answers, sandbox, counts[kind])
                    number += workers

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
    if missing := [kind for kind, each in counts.items() if not each.ends]:
        raise ValueError(
            f"no case of {', '.join(missing)} was read: expected more than {seconds:g} seconds and "
            "at least one case"
        )
    return counts


def _read_original(kind: str, path: Path, sandbox: Sandbox) -> str:
    sandbox.warm_up(kind, path)
    outcome = sandbox.run(kind, path)
    if outcome.end != "answered":
        raise ValueError(f"{path.name}: {outcome.end}: {outcome.detail}: expected an answer")
    return outcome.detail


def _run_case(
    kind: str,
    seed: int,
    folder: Path,
    originals: dict[str, list[Path]],
    answers: dict[Path, str],
    sandbox: Sandbox,
    counts: Counts,
) -> None:
    chance = random.Random(f"{kind} {seed}")
    if kind == "data":
        counts.add(seed, "data", *_check_data(seed, folder))
        return
    original = chance.choice(originals[kind])
    target = folder / original.name
    if kind in MEDIA_KINDS:
        what = "bytes"
        target.write_bytes(mutate_file(chance, original.read_bytes()))
    else:
        shutil.copytree(original, target)
        what = mutate_folder(chance, target)
    outcome = sandbox.run(kind, target)
    end = outcome.end
    if end == "answered":
        if outcome.detail == answers[original]:
            end = "same"
        elif what == "weights" or kind in MEDIA_KINDS:
            end = "weights"
        elif "weights" in what.split("; "):
            # Whether they alone explain the answer: the other damage alone must change nothing.
            for weights in original.rglob("*.safetensors"):
                shutil.copyfile(weights, target / weights.relative_to(original))
            alone = sandbox.run(kind, target)
            end = "weights" if alone.detail == answers[original] else _OTHER[kind in _BOUND]
        else:
            end = _OTHER[kind in _BOUND]
    counts.add(seed, f"{original.name}: {what}", end, outcome)


def _check_data(seed: int, folder: Path) -> tuple[str, Outcome]:
    """Read a damaged data file; `check_file` compares the rows with what is there."""
    begun = time.monotonic()
    try:
        end, detail = check_file(seed, folder), ""
    except Exception as error:
        end, detail = "traceback", repr(error)
    end = {"rows": "same"}.get(end, end)
    return end, Outcome(end, detail, time.monotonic() - begun, 0)


ALL_KINDS = [*FOLDER_KINDS, *MEDIA_KINDS, "data"]
WORKERS = min(2, os.cpu_count() or 1)
