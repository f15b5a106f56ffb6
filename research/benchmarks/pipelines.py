"""The same classification in each pipeline, beside fastText in the same engine.

Every engine predicts with one thread, in one process. fastText is called as the engines' own
components call it: one text at a time. Jobs alternate, so that what disturbs the machine disturbs
all of them, and the labels of every engine are compared with those of the plain predictor.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hyperagg import TextClassifier, load_predictor
from hyperagg._common.report import environment, write_results
from hyperagg.data import Dataset
from hyperagg.integrations import BatchPredictor

__all__ = [
    "FULL_PIPELINES",
    "QUICK_PIPELINES",
    "PipelinesEffort",
    "bench_pipelines",
    "train_fasttext",
]

logger = logging.getLogger(__name__)

# Returns the seconds, without the loading of the model, and the labels (None for fastText).
Job = Callable[[], tuple[float, list[Any] | None]]

PLAIN = "plain predictor"
_ENGINES = ("pyarrow", "datasets", "datatrove", "ray", "fasttext")


@dataclass(frozen=True)
class PipelinesEffort:
    """How much is measured.

    Args:
        documents: number of documents, except for Ray.
        ray_documents: number of documents for Ray; a quarter of them is measured as well, so that
            documents/s does not include the start of its actors. 0 leaves out Ray.
        rounds: number of times that each job runs.
        training_rows: number of texts to train the models on (default: all).
    """

    documents: int = 10_000
    ray_documents: int = 100_000
    rounds: int = 3
    training_rows: int | None = None


FULL_PIPELINES = PipelinesEffort()
QUICK_PIPELINES = PipelinesEffort(documents=50, ray_documents=0, rounds=1, training_rows=500)


def bench_pipelines(dataset: Dataset, effort: PipelinesEffort, folder: Path) -> dict[str, Any]:
    """Measure documents/s of the plain predictor, Hugging Face datasets, datatrove and Ray Data.

    fastText is measured if it is installed.

    Args:
        dataset: its training texts train the models, and documents are drawn from them.
        effort: how much is measured.
        folder: where results.json goes; models are temporary files in it.

    Raises:
        ImportError: datasets, datatrove or Ray is not installed.
        RuntimeError: an engine gives other labels than the plain predictor.
    """
    for engine in ("datasets", "datatrove", *(["ray"] if effort.ray_documents else [])):
        if find_spec(engine) is None:  # before minutes have been spent
            extras = "pip install 'hyperagg[datasets,datatrove,ray]'"
            raise ImportError(f"bench pipelines requires {engine}: {extras}", name=engine)
    train, number = dataset.train, effort.training_rows
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(train.texts), size=max(effort.documents, effort.ray_documents))
    texts = [train.texts[i].replace("\n", " ") for i in chosen]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        model, fasttext = Path(name) / "model", None
        classifier = TextClassifier().fit(train.texts[:number], train.labels[:number], seed=0)
        classifier.save_pretrained(model)
        if find_spec("fasttext"):
            fasttext = Path(name) / "fasttext.bin"
            train_fasttext(train.texts[:number], train.labels[:number], fasttext)
        few = texts[: effort.documents]
        with _fasttext_without_its_checks():
            jobs = {
                **_plain_jobs(model, few),
                **_datasets_jobs(model, fasttext, few),
                **_datatrove_jobs(model, fasttext, few),
            }
            engines = _measure(jobs, effort.rounds, len(few))
        results = {
            "environment": environment() | _versions(),
            "dataset": dataset.name,
            "words_per_document": float(np.mean([len(text.split()) for text in texts])),
            "documents": len(few),
            "engines": engines,
        }
        if effort.ray_documents:
            ray_texts = texts[: effort.ray_documents]
            results["ray"] = _bench_ray(model, fasttext, ray_texts, effort.rounds, Path(name))
    write_results(folder, results)
    return results


def _measure(jobs: Mapping[str, Job], rounds: int, documents: int) -> dict[str, dict[str, Any]]:
    """Run the jobs in turn; return the seconds of each round and quartiles of documents/s."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    expected = None
    for done in range(rounds):
        for name, job in jobs.items():
            elapsed, labels = job()
            seconds[name].append(elapsed)
            if labels is None:
                continue
            expected = labels if expected is None else expected
            if labels != expected:
                raise RuntimeError(f"{name} gives other labels than {next(iter(jobs))}")
        logger.info(f"round {done + 1} of {rounds}")
    return {
        name: {"seconds": own, "documents_per_second": _quartiles(documents / np.array(own))}
        for name, own in seconds.items()
    }


def _quartiles(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"first_quartile": low, "median": median, "third_quartile": high}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def _plain_jobs(model: Path, texts: Sequence[str]) -> dict[str, Job]:
    predictor = load_predictor(model, mmap=True, threads=1)
    predictor.predict(texts[:2])
    return {PLAIN: lambda: _timed(lambda: predictor.predict(texts))}


def _datasets_jobs(model: Path, fasttext: Path | None, texts: Sequence[str]) -> dict[str, Job]:
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()  # or the second round would read the answers of the first
    rows = datasets.Dataset.from_dict({"text": texts})
    tables = rows.with_format("arrow")
    predictor = BatchPredictor(model)

    def hyperagg() -> tuple[float, list[Any]]:
        seconds, out = _timed(lambda: tables.map(predictor, batched=True, keep_in_memory=True))
        return seconds, out["label"].to_pylist()

    jobs: dict[str, Job] = {"datasets, hyperagg": hyperagg}
    if fasttext is not None:
        predict = _load_fasttext(fasttext)

        def label(row: dict[str, Any]) -> dict[str, Any]:
            found, score = predict(row["text"])
            return {"label": found, "score": score}

        def one_by_one() -> Any:
            return rows.map(label, keep_in_memory=True, new_fingerprint=str(time.time_ns()))

        jobs["datasets, fastText"] = lambda: (_timed(one_by_one)[0], None)
    return jobs


def _datatrove_jobs(model: Path, fasttext: Path | None, texts: Sequence[str]) -> dict[str, Job]:
    from datatrove.data import Document
    from datatrove.pipeline.filters import FastTextClassifierFilter

    from hyperagg.integrations.datatrove import ClassifierFilter

    def documents() -> list[Any]:
        return [Document(text=text, id=str(i)) for i, text in enumerate(texts)]

    ours = ClassifierFilter(model)
    ours.filter_batch(documents()[:2])

    def hyperagg() -> tuple[float, list[Any]]:
        own = documents()
        seconds, out = _timed(lambda: list(ours.run(own)))
        return seconds, [document.metadata["label"] for document in out]

    jobs: dict[str, Job] = {"datatrove, hyperagg": hyperagg}
    if fasttext is not None:
        theirs = FastTextClassifierFilter(str(fasttext), remove_labels=[])
        theirs.filter(documents()[0])

        def one_by_one() -> tuple[float, None]:
            own = documents()
            return _timed(lambda: list(theirs.run(own)))[0], None

        jobs["datatrove, fastText"] = one_by_one
    return jobs


def _bench_ray(
    model: Path, fasttext: Path | None, texts: Sequence[str], rounds: int, folder: Path
) -> dict[str, Any]:
    """Measure all documents and a quarter of them; documents/s are those of the difference."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False

    class OneByOne:  # here, so that Ray sends its code to the actors
        def __init__(self) -> None:
            self.predict = _load_fasttext(fasttext)

        def __call__(self, table: pa.Table) -> pa.Table:
            labels, scores = zip(*map(self.predict, table["text"].to_pylist()))
            table = table.append_column("label", pa.array(labels))
            return table.append_column("score", pa.array(scores))

    def run(file: Path, actor: Any, **arguments: Any) -> Any:
        return (
            ray.data.read_parquet(str(file))
            .map_batches(
                actor,
                fn_constructor_kwargs=arguments,
                batch_format="pyarrow",
                batch_size=4096,
                zero_copy_batch=True,
                compute=ray.data.ActorPoolStrategy(size=1),
            )
            .materialize()
        )

    predictor = load_predictor(model, threads=1)
    results: dict[str, Any] = {"documents": len(texts)}
    try:
        sizes = {"quarter": len(texts) // 4, "all": len(texts)}
        measured = {}
        for size, number in sizes.items():
            file = folder / f"{size}.parquet"
            rows = pa.table({"text": texts[:number], "row": range(number)})
            pq.write_table(rows, file, row_group_size=4096)

            def hyperagg(file: Path = file) -> tuple[float, list[Any]]:
                seconds, out = _timed(lambda: run(file, BatchPredictor, model=str(model)))
                return seconds, out.to_pandas().sort_values("row")["label"].tolist()

            jobs: dict[str, Job] = {
                PLAIN: lambda number=number: _timed(lambda: predictor.predict(texts[:number])),  # type: ignore[misc]
                "Ray Data, hyperagg": hyperagg,
            }
            if fasttext is not None:
                jobs["Ray Data, fastText"] = lambda file=file: (  # type: ignore[misc]
                    _timed(lambda: run(file, OneByOne))[0],
                    None,
                )
            measured[size] = _measure(jobs, rounds, number)
    finally:
        ray.shutdown()
    for name in measured["all"]:
        quarter, whole = (np.median(measured[size][name]["seconds"]) for size in sizes)
        per_second = (sizes["all"] - sizes["quarter"]) / (whole - quarter)
        results[name] = {
            "seconds": {size: measured[size][name]["seconds"] for size in sizes},
            "documents_per_second": float(per_second),
            "start_seconds": float(quarter - sizes["quarter"] / per_second),
        }
    return results


def train_fasttext(texts: Sequence[str], labels: Sequence[Any], file: Path) -> None:
    """Train with the dimension of `TextClassifier` and as many buckets as it has n-grams.

    With its default of two million buckets fastText would predict more slowly.
    """
    import fasttext

    lines = file.with_suffix(".txt")
    with lines.open("w", encoding="utf-8") as out:
        for text, label in zip(texts, labels):
            out.write(f"__label__{label} {' '.join(text.split())}\n")
    config = TextClassifier().config
    model = fasttext.train_supervised(
        str(lines), dim=config.d_model, bucket=config.max_ngrams, wordNgrams=2, epoch=5, verbose=0
    )
    model.save_model(str(file))


def _load_fasttext(file: Path | None) -> Callable[[str], tuple[str, float]]:
    """Return a function from a text to its label and probability."""
    from fasttext.FastText import _FastText

    model = _FastText(str(file)).f  # its wrapper does not work with NumPy 2

    def predict(text: str) -> tuple[str, float]:
        ((score, label),) = model.predict(text + "\n", 1, 0.0, "strict")
        return label, score

    return predict


@contextmanager
def _fasttext_without_its_checks() -> Iterator[None]:
    """Let datatrove's filter use the installed fastText and a local file.

    The filter requires a distribution of another name and downloads its model, and fastText's
    wrapper calls `numpy.array(..., copy=False)`, which NumPy 2 refuses.
    """
    if find_spec("fasttext") is None:
        yield
        return
    arrays = SimpleNamespace(array=lambda values, copy: np.asarray(values))
    with (
        mock.patch("fasttext.FastText.np", arrays),
        mock.patch("datatrove.pipeline.base.check_required_dependencies"),
        mock.patch(
            "datatrove.pipeline.filters.fasttext_filter.cached_asset_path_or_download",
            lambda url, **options: url,
        ),
    ):
        yield


def _versions() -> dict[str, str]:
    """The version of each engine that is installed."""
    distributions = packages_distributions()
    names = [distributions[engine][0] for engine in _ENGINES if engine in distributions]
    return {name: version(name) for name in names}
