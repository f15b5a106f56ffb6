"""The tables in results/ are those that the code writes for the committed results.json files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperagg._common.report import markdown_table
from hyperagg.classifier.baselines.search import neighbors
from hyperagg.classifier.baselines.selection import candidate_key
from hyperagg.classifier.comparison.models import external_baseline
from hyperagg.classifier.comparison.report import results_markdown
from research.benchmarks import busy, language_page, ops_page, scaling, serve, text_page
from research.benchmarks import diffusion as bench_diffusion
from research.benchmarks import multimodal as bench_multimodal
from research.studies import (
    ag_news,
    capacity,
    capacity_tasks,
    deletion,
    diffusion,
    first_job,
)
from research.studies.accuracy import accuracy_table
from research.studies.faults import faults_table
from research.studies.key_values import key_values_table
from research.studies.language_models import language_models_table
from research.studies.multimodal import (
    classification,
    digits,
    regression,
    reviews,
    subsets,
    unimodal,
)
from research.studies.tuning import tuning_table
from research.studies.unlabelled import unlabelled_table
from tests.fuzz.campaign import counts_table

RESULTS = Path(__file__).parents[2] / "results"


def comparison_table(results: dict[str, Any]) -> str:
    return results_markdown(results)


def deletion_table(results: dict[str, Any]) -> str:
    return "\n".join(
        markdown_table(deletion._columns(title), deletion._cells(results[unit]))
        for unit, title in deletion.UNITS.items()
    )


def tables() -> Iterator[tuple[str, Callable[[Any], str]]]:
    yield "r52/table.md", comparison_table
    yield "reuters-modapte/table.md", comparison_table
    yield "accuracy/table.md", accuracy_table
    for path in sorted(RESULTS.glob("accuracy/*/table.md")):
        yield str(path.relative_to(RESULTS)), comparison_table
    yield "ag-news-original/table.md", ag_news.ag_news_page
    for name in ("table.md", "agreement.md", "vocabulary.md"):
        yield f"capacity/{name}", lambda r, name=name: capacity.retrieval_tables(r)[name]
    yield "capacity/tasks/table.md", lambda r: capacity_tasks.task_tables(r)["table.md"]
    yield "capacity/tasks/needed.md", lambda r: capacity_tasks.task_tables(r)["needed.md"]
    yield "capacity/dimensions/table.md", lambda r: capacity_tasks.task_tables(r)["table.md"]
    for folder, name in itertools.product(("recall", "parity"), ("table.md", "learned.md")):
        yield f"capacity/{folder}/{name}", lambda r, name=name: capacity_tasks.task_tables(r)[name]
    yield "deletion/table.md", deletion_table
    yield "tune/table.md", tuning_table
    yield "unlabelled/table.md", unlabelled_table
    yield "diffusion/table.md", diffusion.denoisers_table
    yield "diffusion/speed/table.md", bench_diffusion.speed_table
    for path in sorted(RESULTS.glob("lm-*")):
        yield f"{path.name}/table.md", language_models_table
    yield "key-values/table.md", key_values_table
    yield "lm/README.md", language_page._page
    yield "lm/training.md", language_page.training_table
    yield "lm/decoding.md", language_page.decoding_table
    yield "ops/README.md", ops_page._page
    yield "ops/table.md", ops_page.ops_table
    yield "busy/README.md", busy.busy_page
    yield "scaling/README.md", scaling._page
    yield "first-job/README.md", first_job.first_job_page
    yield "first-job/table.md", first_job.first_job_table
    yield "faults/table.md", faults_table
    for path in sorted(RESULTS.glob("fuzz/*/table.md")):
        yield str(path.relative_to(RESULTS)), counts_table
    yield "serve/table.md", serve.serve_table
    yield "text/README.md", text_page._page
    yield "text/table.md", text_page.text_table
    yield "multimodal/digits/digits.md", digits.digits_table
    yield "multimodal/digits/unimodal.md", unimodal.unimodal_table
    yield "multimodal/reviews/reviews.md", reviews.reviews_table
    yield "multimodal/regression/regression.md", regression.regression_table
    yield "multimodal/classification/classification.md", classification.classification_table
    yield "multimodal/subsets/subsets.md", subsets.subsets_table
    yield "multimodal/speed/speed.md", bench_multimodal.speed_table


@pytest.mark.parametrize(("path", "table"), [pytest.param(*row, id=row[0]) for row in tables()])
def test_table(path: str, table: Callable[[Any], str]) -> None:
    file = RESULTS / path
    results = json.loads((file.parent / "results.json").read_text("utf-8"))
    assert file.read_text("utf-8") == table(results)


def test_the_deletion_page_contains_its_table() -> None:
    folder = RESULTS / "deletion"
    assert (folder / "table.md").read_text("utf-8") in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("accuracy/*/runs.json")), ids=str)
def test_no_neighbor_of_selected_parameters_has_a_better_score(path: Path) -> None:
    runs = json.loads(path.read_text("utf-8"))["runs"]
    selected = {key.split()[0]: run for key, run in runs.items() if key.endswith(" parameters")}
    for name, run in selected.items():
        baseline = external_baseline(name)

        def is_top(suffix: str, point: dict[str, Any], axes: Any, name=name, baseline=baseline):
            around = neighbors(point, axes, baseline.canonical)
            best, *others = (
                runs.get(candidate_key(suffix, name, each), {"score": None})["score"]
                for each in (point, *around)
            )
            return best is not None and None not in others and max(others) <= best

        # On more rows: no neighbor on the axes that depend on their number.
        point, scaling = run["parameters"], {axis: baseline.AXES[axis] for axis in baseline.SCALING}
        assert is_top("", point, scaling)
        # On the sample: no neighbor at all of parameters that are equal on the other axes.
        tried = [json.loads(key[key.index("{") :]) for key in runs if f"_sample {name} {{" in key]
        same = [each for each in tried if {**each, **{a: point[a] for a in scaling}} == point]
        assert any(is_top("_sample", each, baseline.AXES) for each in same)
