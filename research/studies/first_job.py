"""A first job by commands alone, timed, beside the same job in scikit-learn.

The job: a file of reviews with a text, numbers and categories; does the author recommend the
product? Compare models, train one, evaluate it, explain its worst errors, tune it, predict new
rows, hand it over, and predict the rating as well. Every command is a process of its own, so its
time includes starting Python and importing the libraries.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results
from research.data.clothing_reviews import Reviews, load_clothing_reviews
from research.data.text_sets import source_for_results

__all__ = ["first_job_page", "first_job_table", "measure_first_job"]

NUMBERS = ("age", "helpful")
CATEGORIES = ("division", "department", "class")
# Columns of the files by columns of the data set.
_COLUMNS = {
    "age": "age",
    "positive_feedback_count": "helpful",
    "division": "division",
    "department": "department",
    "class_name": "class",
    "rating": "rating",
    "recommended": "recommended",
}
_TABLE = " ".join([f"--number {n}" for n in NUMBERS] + [f"--category {c}" for c in CATEGORIES])
_TEXT = "--text review --label recommended"


@dataclass(frozen=True)
class Step:
    """One command of the job.

    Args:
        does: what it is for.
        command: its words, without those of the shell.
        lines: how many lines of its output the page shows at most: the first third and the rest
            of them from the end, where the answers are.
    """

    does: str
    command: str
    lines: int = 45


STEPS = (
    Step(
        "compare models on the text",
        f"hyperagg compare reviews.csv {_TEXT} --test test.csv --baselines "
        "words,linear_svc,logistic_regression,fasttext --out comparison",
    ),
    Step(
        "train on all columns",
        f"hyperagg train reviews.csv {_TEXT} {_TABLE} --out model",
    ),
    Step(
        "evaluate, with a report",
        "hyperagg evaluate model test.csv --label recommended --report report.html",
    ),
    Step(
        "explain the worst errors",
        "hyperagg explain model test.csv --label recommended --worst --html why.html",
        lines=16,
    ),
    Step("predict", "hyperagg predict model test.csv --out predictions.csv"),
    Step("train on the text alone", f"hyperagg train reviews.csv {_TEXT} --out text-model"),
    Step(
        "search better settings",
        f"hyperagg tune reviews.csv {_TEXT} --time-limit 60 --out tuned",
    ),
    Step("hand it over as a page", "hyperagg export text-model page.html"),
    Step("hand it over as ONNX", "hyperagg export text-model model.onnx"),
    Step(
        "predict the rating",
        f"hyperagg train reviews.csv --text review --label rating --regression {_TABLE} "
        "--out rating",
    ),
    Step("evaluate the rating", "hyperagg evaluate rating test.csv --label rating"),
)
SKLEARN = Step(
    "the same in scikit-learn: search, train, evaluate, explain, predict, save; both targets",
    f"python {Path(__file__).with_name('first_job_sklearn.py').name}",
)


def measure_first_job(out: Path, *, rows: int = 4_000, test_rows: int = 1_000) -> dict[str, Any]:
    """Run the job in a folder, and write results.json, table.md and README.md.

    Args:
        out: an existing folder. Files and models of the job go to its folder "files".
        rows: number of training rows.
        test_rows: number of test rows.

    Returns:
        the contents of results.json.

    Raises:
        RuntimeError: a command ended with an exit code other than 0.
    """
    folder = out / "files"
    folder.mkdir(exist_ok=True)
    data = load_clothing_reviews()
    _write_csv(data.train, rows, folder / "reviews.csv")
    _write_csv(data.test, test_rows, folder / "test.csv")
    sklearn_script = Path(__file__).with_name("first_job_sklearn.py")
    words = {"hyperagg": (sys.executable, "-m", "hyperagg"), "python": (sys.executable,)}
    runs = []
    for step in (*STEPS, SKLEARN):
        program, *arguments = step.command.split()
        if step is SKLEARN:
            arguments = [str(sklearn_script)]
        print(step.command, flush=True)
        runs.append(_run(step, [*words[program], *arguments], folder))
    results = {
        "environment": environment(),
        "source": source_for_results(data.source),
        "rows": rows,
        "test_rows": test_rows,
        "steps": runs,
        "sklearn_lines": _lines_of_code(sklearn_script),
    }
    write_results(out, results)
    for name, page in (("table.md", first_job_table), ("README.md", first_job_page)):
        with atomic_write(out / name) as draft:
            draft.write_text(page(results), "utf-8")
    return results


def _write_csv(reviews: Reviews, rows: int, path: Path) -> None:
    texts = reviews.texts()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", *_COLUMNS.values()])
        chosen = [i for i, text in enumerate(texts) if text][:rows]
        for i in chosen:
            cells = [reviews.cells[name][i] for name in _COLUMNS]
            writer.writerow([texts[i], *("" if cell is None else cell for cell in cells)])


def _run(step: Step, command: Sequence[str], work: Path) -> dict[str, Any]:
    start = time.perf_counter()
    # A transcript is read in documents of 100 characters per line.
    ended = subprocess.run(
        command,
        cwd=work,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb"},
    )
    seconds = time.perf_counter() - start
    if ended.returncode:
        raise RuntimeError(f"{step.command}: exit code {ended.returncode}\n{ended.stdout}")
    return {
        "does": step.does,
        "command": step.command,
        "seconds": round(seconds, 1),
        "output": _shorten(ended.stdout.splitlines(), step.lines),
    }


def _shorten(lines: list[str], limit: int) -> list[str]:
    if len(lines) <= limit:
        return lines
    first = limit // 3
    return [*lines[:first], "...", *lines[first + 1 - limit :]]


def _lines_of_code(script: Path) -> int:
    lines = (line.strip() for line in script.read_text("utf-8").splitlines())
    return sum(1 for line in lines if line and not line.startswith(("#", '"""')))


def first_job_table(results: Mapping[str, Any]) -> str:
    """Format one row per step."""
    rows = [[run["does"], f"{run['seconds']:.1f}"] for run in results["steps"]]
    return markdown_table(["step", "s"], rows)


def first_job_page(results: Mapping[str, Any]) -> str:
    """Format the transcript: every command, its time and its output."""
    found = results["environment"]
    parts = [
        "# A first job by commands alone\n",
        f"`python -m research study first-job` at commit {found['commit']}, {found['cores']} cores"
        f" ({found['processor']}): {results['rows']:,} training and {results['test_rows']:,} test"
        " rows of clothing-reviews, from its training and its test split. The seconds include"
        " starting Python and importing the libraries.\n",
        first_job_table(results),
        f"The scikit-learn script has {results['sklearn_lines']} lines of code"
        " (`research/studies/first_job_sklearn.py`); each of the others is one command.\n",
    ]
    for run in results["steps"]:
        parts.append(f"## {run['does'][0].upper()}{run['does'][1:]}: {run['seconds']:.1f} s\n")
        output = "\n".join(line.rstrip() for line in run["output"])
        parts.append(f"```\n$ {run['command']}\n{output}\n```\n")
    return "\n".join(parts)
