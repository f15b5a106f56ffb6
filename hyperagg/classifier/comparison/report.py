"""The results of `compare` as a table for the terminal, as Markdown and as a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.palette import series_styles
from hyperagg._common.report import make_table, markdown_table, spread, times
from hyperagg.classifier.baselines.significance import verdict

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["draw_learning_curves", "results_markdown", "results_table"]


def results_table(results: dict[str, Any]) -> Table:
    """Make a table of the results of `compare` for the terminal.

    It has the columns that fit into 80 characters, also with several seeds.
    """
    columns = _columns(results)
    kept = [i for i, name in enumerate(columns) if name != "parameters" and "×" not in name]
    rows = [[row[i].replace(" (p", "\n(p") for i in kept] for row in _cells(results)]
    heads = [columns[i].replace(", paired", ",\npaired").replace("/s", "\n/s") for i in kept]
    return make_table(f"{results['dataset']}, test rows", heads, rows)


def results_markdown(results: dict[str, Any]) -> str:
    """Make a Markdown table of the results of `compare`."""
    return markdown_table(_columns(results), _cells(results))


def draw_learning_curves(
    curves: Mapping[str, Sequence[Sequence[Sequence[float]]]],
    path: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Draw the validation score against seconds of training, one line per model and seed.

    Args:
        curves: {model: [[seconds, scores] of each seed]}.
        path: the PNG file to write.
        report: called with one line if matplotlib is not installed; nothing is drawn then.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        report(f"{path.name} is not drawn: it needs matplotlib: pip install 'hyperagg[plot]'")
        return
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, style in series_styles(curves).items():
        for i, (seconds, scores) in enumerate(curves[name]):
            if scores:
                label = name if i == 0 else None
                percent = [100 * score for score in scores]
                axis.plot(seconds, percent, **style._asdict(), markersize=4, alpha=0.8, label=label)
    axis.set(xscale="log", xlabel="seconds of training (log scale)", ylabel="validation score (%)")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=150)


def _columns(results: dict[str, Any]) -> list[str]:
    score = "micro-F1 %" if results["metric"] == "micro_f1" else "accuracy %"
    ratios = ["fit ×", "predict ×"] if "aggregation" in results["models"] else []
    paired = ["aggregation, paired test"] if "paired" in results else []
    return ["model", score, *paired, "macro-F1 %", "parameters", "fit, s", "documents/s", *ratios]


def _cells(results: dict[str, Any]) -> list[list[str]]:
    rows, reference = [], results["models"].get("aggregation")
    for name, model in results["models"].items():
        test = results.get("paired", {}).get(name)
        cells = [name, spread(model[results["metric"]])]
        if "paired" in results:
            cells.append("" if test is None else verdict(test))
        cells += [
            spread(model["macro_f1"]),
            f"{model['parameters']:,}",
            f"{model['fit_seconds']:.1f}",
            f"{model['predict_documents_per_second']:,.0f}",
        ]
        if model is reference:
            cells += ["1 ×", "1 ×"]
        elif reference is not None:
            speed = "predict_documents_per_second"
            cells.append(times(model["fit_seconds"] / reference["fit_seconds"]))
            cells.append(times(reference[speed] / model[speed]))
        rows.append(cells)
    return rows
