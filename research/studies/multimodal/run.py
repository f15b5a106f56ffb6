"""The parts of the study by name: what each is run with, and what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.progress import share_bar
from hyperagg._common.report import environment, write_results
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import load_fsdd, load_mnist
from hyperagg.multimodal.estimator import MultimodalModel
from research.data.clothing_reviews import load_clothing_reviews
from research.studies.multimodal.digits import MODEL, compare_fusions, digits_table
from research.studies.multimodal.figure import explain_pairs
from research.studies.multimodal.reviews import compare_reviews, reviews_table
from research.studies.multimodal.subsets import compare_subsets, subsets_table
from research.studies.multimodal.unimodal import Effort, single_table

__all__ = ["PARTS", "run_part"]

TABLES: dict[str, dict[str, Callable[[Any], str]]] = {
    "digits": {"digits.md": digits_table, "alone.md": single_table},
    "reviews": {"reviews.md": reviews_table},
    "subsets": {"subsets.md": subsets_table},
}
PARTS = tuple(TABLES)


def run_part(
    part: str,
    out: Path,
    seeds: int,
    *,
    effort: Effort = Effort(),
    rows: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[str]:
    """Measure a part; writes results.json and tables into a folder of its name, returns these.

    Args:
        part: one of PARTS.
        out: the folder.
        seeds: of the models.
        effort: of digits and subsets.
        rows: of the reviews to learn from; None: all.
        resume: go on after the last run of an earlier call.
        say: told in a line what was measured.

    Raises:
        ValueError: a data set cannot be had, or what is in `out` comes of other arguments.
    """
    folder = out / part
    with share_bar("training") as report:
        runs = Runs(folder / "runs.json", f"{part}, {effort}, {rows}", resume)
        options: Any = {"say": say, "report": report}
        if part == "reviews":
            data = load_clothing_reviews()
            source = data.source
            results = compare_reviews(data, runs, seeds, rows=rows, **options)
        else:
            written, spoken = load_mnist(), load_fsdd()
            source = f"{written.source}; {spoken.source}"
            compare = compare_fusions if part == "digits" else compare_subsets
            results = compare(written, spoken, runs, seeds, effort, **options)
    results = {"source": source, "seeds": seeds, "environment": environment(), **results}
    write_results(folder, results)
    tables = {name: table(results) for name, table in TABLES[part].items()}
    if part == "digits":
        model = MultimodalModel.from_pretrained(folder / MODEL)
        tables["explanation.md"] = explain_pairs(model, written, spoken, folder)
    for name, text in tables.items():
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")
    return list(tables.values())
