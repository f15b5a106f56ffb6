"""Accuracy and training time of the default classifier and of baselines, per data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, spread, write_results

__all__ = ["accuracy_table", "write_accuracy"]


def write_accuracy(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write results.json and table.md to `out`.

    Args:
        out: an existing folder.
        results: the results of `hyperagg.classifier.compare.compare`, by data set.
    """
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(accuracy_table(results), "utf-8")


def accuracy_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Format test accuracy in %, with the seconds from texts in memory to a model in brackets."""
    models = list(dict.fromkeys(name for result in results.values() for name in result["models"]))
    rows = [
        [
            dataset,
            f"{result['rows']['train']:,}",
            *(
                f"{spread(model['accuracy'])} ({model['fit_seconds']:.1f} s)"
                if (model := result["models"].get(name))
                else ""
                for name in models
            ),
        ]
        for dataset, result in results.items()
    ]
    return markdown_table(["dataset", "training rows", *models], rows)
