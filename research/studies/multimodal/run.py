"""The parts of the study by name: their data, and the files they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import write_results
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import load_fsdd, load_mnist
from hyperagg.multimodal import MultimodalClassifier
from research.data.clothing_reviews import load_clothing_reviews
from research.data.text_sets import source_for_results
from research.studies.multimodal import classification
from research.studies.multimodal.digits import MODEL, compare_fusions, digits_table
from research.studies.multimodal.figure import explain_pairs
from research.studies.multimodal.regression import ROWS, compare_regression, regression_table
from research.studies.multimodal.reviews import compare_reviews, reviews_table
from research.studies.multimodal.subsets import compare_subsets, subsets_table
from research.studies.multimodal.unimodal import Effort, unimodal_table

__all__ = ["PARTS", "run_part"]

TABLES: dict[str, dict[str, Callable[[Any], str]]] = {
    "digits": {"digits.md": digits_table, "unimodal.md": unimodal_table},
    "reviews": {"reviews.md": reviews_table},
    "regression": {"regression.md": regression_table},
    "classification": {"classification.md": classification.classification_table},
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
) -> list[str]:
    """Measure a part, and write results.json and tables to the subfolder of its name.

    Args:
        part: one of PARTS.
        out: output folder.
        seeds: number of seeds.
        effort: how much is trained in digits and subsets.
        rows: number of training rows of reviews, regression and classification; None: those of the
            study.
        resume: continue after the last run of an earlier call.

    Returns:
        The tables as Markdown.

    Raises:
        ValueError: a data set is not available, or `out` holds runs with other arguments.
    """
    folder = out / part
    runs = Runs(folder / "runs.json", f"{part}, {effort}, {rows}", resume)
    if part == "reviews":
        data = load_clothing_reviews()
        source = data.source
        results = compare_reviews(data, runs, seeds, rows=rows)
    elif part == "regression":
        data = load_clothing_reviews()
        source = data.source
        sizes: Mapping[str, Sequence[int]] = ROWS
        if rows is not None:
            sizes = {target: [rows] for target in ROWS}
        results = compare_regression(data, runs, seeds, rows=sizes)
    elif part == "classification":
        data = load_clothing_reviews()
        source = data.source
        sizes = classification.ROWS
        if rows is not None:
            sizes = {name: [rows] for name in classification.ROWS}
        results = classification.compare_classification(data, runs, seeds, rows=sizes)
    else:
        written, spoken = load_mnist(), load_fsdd()
        source = f"{written.source}; {spoken.source}"
        compare = compare_fusions if part == "digits" else compare_subsets
        results = compare(written, spoken, runs, seeds, effort)
    source = source_for_results(source)
    results = {"source": source, "seeds": seeds, "environment": runs.environment(), **results}
    write_results(folder, results)
    tables = {name: table(results) for name, table in TABLES[part].items()}
    if part == "digits":
        model = MultimodalClassifier.from_pretrained(folder / MODEL)
        tables["explanation.md"] = explain_pairs(model, written, spoken, folder)
    for name, text in tables.items():
        with atomic_write(folder / name) as draft:
            draft.write_text(text, "utf-8")
    return list(tables.values())
