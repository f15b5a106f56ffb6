"""Does an explanation name the words that matter?

The k words that contribute most to the predicted label are deleted from a text, the rest is
tokenized and classified again, and the drop of the probability of that label is measured. Words
are ranked by

    explain               c_y, the contribution of a word to the logit of the label
    explain, margin       c_y less the mean of c_j over all other classes
    integrated gradients  <mean over 32 steps s of dp_y / de at s e, e>, s from 0 to 1
    gradient × input      <dp_y / de, e>
    occlusion             the drop of p_y if that word alone is deleted
    random                chance

both by single occurrences and by whole words, whose occurrences are deleted together and whose
contributions are added.

Deletion is not what an explanation describes. The contributions are exact for the logits of the
whole text. Without a word, later words move to other positions, its neighbors form a new n-gram,
|w| is smaller, and a second occurrence of the word takes the weight of the first. So exact
contributions need not give the best ranking here, nor does the probability have to drop to the
value that bias and the contributions of the remaining words add up to. That value is measured too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call

from hyperagg import TextClassifier
from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import make_table, markdown_table, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier.explanation import Explanation
from hyperagg.data import Dataset
from hyperagg.text import occurrence_weights
from research.analysis.figures import draw_deletion

__all__ = [
    "deletion",
    "deletion_tables",
    "draw_drops",
    "gradient_parts",
    "occlusion",
    "without",
]

logger = logging.getLogger(__name__)

DELETED = (1, 2, 5, 10, 20)
UNITS = {"occurrences": "single occurrences", "words": "whole words"}
STEPS = 32
# Scales of the vectors at which gradients are taken: the midpoints of the steps, and the end.
PATHS = {
    "integrated gradients": (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS,
    "gradient × input": torch.ones(1, dtype=torch.float64),
}
_TEXTS_PER_BATCH = 256


class _Ranking(NamedTuple):
    """The ranking of one text's words by a method; `groups` (T,) maps occurrences to words."""

    unit: str
    method: str
    groups: np.ndarray
    scores: np.ndarray
    seconds: float


def deletion(
    dataset: Dataset,
    texts: int,
    seeds: int,
    out: Path,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the default classifier, explain test texts and delete words.

    Writes results.json, table.md and deletion.png.

    Args:
        dataset: a data set with one label per text.
        texts: number of test texts, the same for every seed.
        seeds: number of classifiers; their seeds are 0 ... seeds - 1.
        out: output folder.
        resume: keep the seeds that an interrupted call left in `out`.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: a multi-label data set, or fewer than one text or seed.
    """
    if dataset.train.multi_label:
        raise ValueError(f"dataset={dataset.name!r}: expected one label per text, not multi-label")
    for name, value in (("texts", texts), ("seeds", seeds)):
        if value < 1:
            raise ValueError(f"{name}={value}: expected an integer >= 1")
    filled = [text for text in dataset.test.texts if text.strip()]
    picked = np.random.default_rng(0).permutation(len(filled))[:texts]
    chosen = [filled[i] for i in np.sort(picked)]
    what = f"{dataset.name} {len(dataset.train.texts)}, {len(chosen)} texts"
    runs = Runs(out / "runs.json", what, resume)
    for seed in range(seeds):
        if str(seed) not in runs.done:
            classifier = TextClassifier().fit(dataset.train.texts, dataset.train.labels, seed=seed)
            runs.add(str(seed), _measure(classifier, chosen, seed))
        methods = runs.done[str(seed)]["occurrences"]
        explained, random = (100 * methods[name]["drop"][2] for name in ("explain", "random"))
        message = "seed %d, 5 occurrences deleted, drop in points: explain %.1f, random %.1f"
        logger.info(message, seed, explained, random)
    own = [runs.done[str(seed)] for seed in range(seeds)]
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": {"train": len(dataset.train.texts), "explained": len(chosen)},
        "deleted": list(DELETED),
        "environment": runs.environment(),
        "explanation_threads": 1,
        "probability": [run["probability"] for run in own],
        **{f"mean_{unit}": own[0][f"mean_{unit}"] for unit in UNITS},
        **{unit: _summary([run[unit] for run in own]) for unit in UNITS},
    }
    draw_drops(results, out)
    write_results(out, results)
    tables = [markdown_table(_columns(UNITS[unit]), _cells(results[unit])) for unit in UNITS]
    with atomic_write(out / "table.md") as draft:
        draft.write_text("\n".join(tables), "utf-8")
    return results


def draw_drops(results: Mapping[str, Any], folder: Path) -> None:
    """Draw deletion.png to `folder`."""
    drops = {
        title: {name: np.mean(m["drop"], 0).tolist() for name, m in results[unit].items()}
        for unit, title in UNITS.items()
    }
    draw_deletion(drops, results["deleted"], folder / "deletion.png")


def deletion_tables(results: dict[str, Any]) -> list[Table]:
    """Format two tables for the terminal: single occurrences and whole words."""
    title = f"{results['dataset']}: drop in probability, points / changed predictions, %"
    return [
        make_table(title, _columns(name), _cells(results[unit])) for unit, name in UNITS.items()
    ]


def without(text: str, spans: Sequence[tuple[int, int]], words: np.ndarray) -> str:
    """Delete some words of a text.

    A space replaces each word, so that its neighbors do not become one word.
    """
    kept, done = [], 0
    for begin, end in sorted(spans[word] for word in words):
        kept.append(text[done:begin])
        done = max(done, end)
    return " ".join([*kept, text[done:]])


def gradient_parts(classifier: TextClassifier, text: str, c: int, scales: Tensor) -> np.ndarray:
    """Compute <mean over s in `scales` of dp_c / de at s e, e> for every word, (words,).

    p_c is the probability of class c, and e are the token vectors. Tokens are attributed to words
    as in `explain`.

    Numerics: float64; in float32 nothing is left of 1 - p where a prediction is certain.
    Cost: O(len(scales) n d), forward and backward.
    """
    model, rows = classifier.to_torch(), classifier.tokenizer_.encode([text])
    n = len(rows.token_ids)
    weights = torch.from_numpy(occurrence_weights(rows, len(model.embedding))).double()
    vectors = model.embedding.detach()[torch.from_numpy(rows.token_ids).long()].double()
    # Every token becomes a row of an embedding, so that it has its own gradient. It then occurs
    # once, and its vector has to include its weight.
    vectors *= (weights * (n / weights.square().sum().clamp(min=1)).sqrt())[:, None]
    points = (scales[:, None, None] * vectors).flatten(0, 1).requires_grad_()
    inputs = points, torch.arange(len(points)), torch.arange(len(scales) + 1) * n
    logits = _in_float64(model.head, _in_float64(model.pooling, *inputs))
    (gradient,) = torch.autograd.grad(logits.softmax(1)[:, c].sum(), points)
    mean = gradient.to_dense().unflatten(0, (len(scales), n)).mean(0)
    parts = (mean * vectors).sum(1, keepdim=True).numpy()
    return classifier.tokenizer_.align(text).by_word(parts)[:, 0]


def occlusion(
    classifier: TextClassifier, text: str, c: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Compute the drop of the probability of class c without each word, (words,).

    With `groups` (words,), counted from 0, all words of a group are deleted together.

    Cost: O(groups n d).
    """
    spans = classifier.tokenizer_.align(text).spans
    if groups is None:
        groups = np.arange(len(spans))
    cut = [without(text, spans, np.flatnonzero(groups == g)) for g in range(groups.max() + 1)]
    parts = [cut[i : i + _TEXTS_PER_BATCH] for i in range(0, len(cut), _TEXTS_PER_BATCH)]
    without_group = np.concatenate([_probabilities(classifier, part)[:, c] for part in parts])
    return _probabilities(classifier, [text])[0, c] - without_group


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: one text is too little work for two, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def _measure(classifier: TextClassifier, texts: Sequence[str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rankings: dict[tuple[str, str], list[_Ranking]] = {}
    cut: dict[tuple[str, str], list[str]] = {}
    predicted: dict[str, list[list[float]]] = {unit: [] for unit in UNITS}
    description = f"seed {seed}, {len(texts)} texts"
    for text in track(texts, description, console=Console(stderr=True), transient=True):
        started = time.perf_counter()
        e = classifier.explain(text)
        took = time.perf_counter() - started
        for ranking in _rankings(classifier, e, took, rng):
            key = ranking.unit, ranking.method
            order = np.argsort(-ranking.scores, kind="stable")
            ranks = np.argsort(order)[ranking.groups]
            cut.setdefault(key, []).extend(
                without(text, e.spans, np.flatnonzero(ranks < k)) for k in DELETED
            )
            rankings.setdefault(key, []).append(ranking)
            if ranking.method == "explain":
                predicted[ranking.unit].append([_predicted_drop(e, ranks < k) for k in DELETED])
    before = _probabilities(classifier, texts)
    labels, rows = before.argmax(1), np.arange(len(texts))
    result: dict[str, Any] = {
        "probability": float(before.max(1).mean()),
        **{unit: {} for unit in UNITS},
    }
    for (unit, method), rest in cut.items():
        after = _probabilities(classifier, rest).reshape(len(texts), len(DELETED), -1)
        own = rankings[unit, method]
        result[unit][method] = {
            "drop": (before.max(1)[:, None] - after[rows, :, labels]).mean(0).tolist(),
            "changed": (after.argmax(2) != labels[:, None]).mean(0).tolist(),
            "milliseconds": 1000 * float(np.median([ranking.seconds for ranking in own])),
        }
    for unit in UNITS:
        result[unit]["explain"]["predicted"] = np.mean(predicted[unit], 0).tolist()
        result[f"mean_{unit}"] = float(
            np.mean([len(ranking.scores) for ranking in rankings[unit, "explain"]])
        )
    return result


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collect the methods of a unit: figures as lists with one entry per seed, median times."""
    summary: dict[str, dict[str, Any]] = {
        method: {figure: [run[method][figure] for run in runs] for figure in figures}
        for method, figures in runs[0].items()
    }
    for own in summary.values():
        own["milliseconds"] = float(np.median(own["milliseconds"]))
    return summary


def _rankings(
    classifier: TextClassifier, e: Explanation, took: float, rng: np.random.Generator
) -> Iterator[_Ranking]:
    c, own = int(e.logits.argmax()), e.for_label(e.label)
    others = np.delete(e.contributions, c, axis=1).mean(1)
    scored = {"explain": (own, took), "explain, margin": (own - others, took)}
    for method, scales in PATHS.items():
        started = time.perf_counter()
        parts = gradient_parts(classifier, e.text, c, scales)
        scored[method] = parts, time.perf_counter() - started
    names = np.unique([token.lower() for token in e.tokens], return_inverse=True)[1]
    for unit, groups in (("occurrences", np.arange(len(names))), ("words", names)):
        for method, (parts, seconds) in scored.items():
            yield _Ranking(unit, method, groups, np.bincount(groups, parts), seconds)
        started = time.perf_counter()
        scores = occlusion(classifier, e.text, c, groups)
        yield _Ranking(unit, "occlusion", groups, scores, time.perf_counter() - started)
        yield _Ranking(unit, "random", groups, rng.random(len(scores)), 0.0)


def _predicted_drop(e: Explanation, deleted: np.ndarray) -> float:
    """The drop in probability if only the contributions of the deleted words disappeared."""
    c = int(e.logits.argmax())
    rest = e.decoder.probabilities(e.bias + e.contributions[~deleted].sum(0))
    return float(e.probabilities[c] - rest[c])


def _in_float64(module: nn.Module, *arguments: Tensor) -> Tensor:
    weights = {name: tensor.double() for name, tensor in module.state_dict().items()}
    return functional_call(module, weights, arguments)


def _probabilities(classifier: TextClassifier, texts: Sequence[str]) -> np.ndarray:
    return classifier.decoder.probabilities(classifier.logits(texts).astype(np.float64))


def _columns(title: str) -> list[str]:
    return [title, *(f"k = {k}" for k in DELETED), "ms"]


def _cells(methods: dict[str, Any]) -> list[list[str]]:
    predicted = np.mean(methods["explain"]["predicted"], 0)
    return [
        [
            name,
            *(
                f"{100 * drop:.1f} / {100 * changed:.0f}"
                for drop, changed in zip(np.mean(m["drop"], 0), np.mean(m["changed"], 0))
            ),
            f"{m['milliseconds']:.2f}" if m["milliseconds"] else "",
        ]
        for name, m in methods.items()
    ] + [["predicted by explain", *(f"{100 * drop:.1f}" for drop in predicted), ""]]
