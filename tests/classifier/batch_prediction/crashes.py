"""Kill jobs at each of their writes, resume them, and compare: crashes.py MODEL INPUT FOLDER."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from hyperagg.classifier import load_predictor
from hyperagg.classifier.batch_prediction import job, output
from hyperagg.classifier.batch_prediction.encoding import OutputFormat
from hyperagg.classifier.batch_prediction.plan import plan_tasks
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions

model, source, work = map(Path, sys.argv[1:])
job.BATCH_ROWS = 16
output.SECONDS_BETWEEN_CHECKPOINTS = 0
predictor = load_predictor(model)


def predict(name: str, out: Path, resume: bool) -> None:
    format = OutputFormat(name, predictor.classes_, keep={"id": "id"}, with_file=False)
    sources = [str(source)] if name == "jsonl" else [str(source / "a.jsonl")]
    tasks = plan_tasks(sources, out, format=name, job={}, resume=resume, force=False)
    options = dict(read=job.ReadOptions(), answer=PredictionOptions(), output=format)
    job.predict_files(predictor, tasks, **options)


def kill_at(point: int) -> None:
    """Kill this process instead of its write, flush, rename or removal of this number."""
    passed = 0

    def is_reached() -> bool:
        nonlocal passed
        passed += 1
        return passed == point

    def wrap(owner: object, name: str, tear: bool = False) -> None:
        original = getattr(owner, name)

        def call(*arguments, **options):
            if is_reached():
                if tear:  # half of the bytes arrive
                    file, data = arguments
                    original(file, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(owner, name, call)

    wrap(output, "write_all", tear=True)
    os.fsync = lambda file: None  # what a killed process has written stays
    wrap(os, "fsync")
    wrap(os, "open")
    for name in ("replace", "unlink"):
        wrap(Path, name)


def run(name: str, out: Path, resume: bool, point: int | None) -> bool:
    """Predict in a process of its own; return whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            if point is not None:
                kill_at(point)
            predict(name, out, resume)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    if status:
        raise SystemExit(f"{name}, {point}: failed")
    return False


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


results = {}
for name in ("jsonl", "parquet"):
    whole, out = work / name, work / "out"
    predict(name, whole, False)  # here, so that the children need not load the kernels
    expected, killed, different = content(whole), 0, []
    for point in range(1, 1000):
        if not run(name, out, False, point):
            break
        killed += 1
        if name == "jsonl":
            killed += run(name, out, True, 1 + point // 2)  # killed once more
        run(name, out, True, None)
        if content(out) != expected:
            different.append(point)
        shutil.rmtree(out)
    shutil.rmtree(out)
    results[name] = {"killed": killed, "different": different}
print(json.dumps(results))
