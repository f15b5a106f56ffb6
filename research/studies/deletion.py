"""Does an explanation name the words that matter?

The k words that speak most for the answer are taken out of a text, what is left is cut into tokens
and classified anew, and the probability of that answer falls by so much. Words are chosen by

    explain               c_y, a word's part in the answer's logit, as `explain` shows it
    explain, margin       c_y less the mean of the c_j of all other classes
    integrated gradients  <mean over 32 steps s of dp_y / de at s e, e>, s from 0 to 1
    gradient × input      <dp_y / de, e>
    occlusion             the fall of p_y when that word alone is taken out
    random                chance

once use by use, and once as whole words with all their uses, whose parts are added up.

What is taken out is not what was explained. The parts are exact for the logits of the whole text;
without a word those behind it move to other places, its neighbours make a new pair, |w| is
smaller, and a second use of the word becomes the first, whose weight it takes over. So nothing
says that exact parts choose best here, or that the probability falls as they promise: to what
bias and parts of the other words add up to, which is measured as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, make_table, markdown_table, write_results
from hyperagg._common.runs import Runs
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.explanation import Explanation, by_word
from hyperagg.data import Dataset
from hyperagg.text import occurrence_weights
from research.analysis.figures import draw_deletion

__all__ = ["deletion", "deletion_tables", "gradient_parts", "occlusion", "without"]

REMOVED = (1, 2, 5, 10, 20)
UNITS = {"uses": "single uses", "words": "whole words"}
STEPS = 32
# The shares of the vectors at which gradients are taken: the middles of the steps, and the end.
PATHS = {
    "integrated gradients": (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS,
    "gradient × input": torch.ones(1, dtype=torch.float64),
}
_TEXTS_AT_ONCE = 256


class _Ranking(NamedTuple):
    """One text's words as a method ranks them; `groups` (T,) tells which of them each use is."""

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
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the default classifier, explain and cut test texts; write results.json, table.md and
    deletion.png to `out`.

    Args:
        dataset: one label a text.
        texts: how many of the test rows, the same for every seed.
        seeds: how many classifiers; 0 ... seeds - 1.
        out: the folder for everything that is written.
        resume: keep the seeds that an earlier, interrupted call left in `out`.
        say: told in a line what was measured.

    Returns:
        the contents of results.json.

    Raises:
        ValueError: a set of several labels a text, or fewer than one text or seed.
    """
    if dataset.train.multi_label:
        raise ValueError(f"{dataset.name}: has several labels a text; name a set with one")
    for name, value in (("texts", texts), ("seeds", seeds)):
        if value < 1:
            raise ValueError(f"{name}={value}: give 1 or more")
    filled = [text for text in dataset.test.texts if text.strip()]
    picked = np.random.default_rng(0).permutation(len(filled))[:texts]
    chosen = [filled[i] for i in np.sort(picked)]
    what = f"{dataset.name} {len(dataset.train.texts)}, {len(chosen)} texts"
    runs = Runs(out / "runs.json", what, resume)
    for seed in range(seeds):
        if str(seed) not in runs.done:
            classifier = TextClassifier().fit(dataset.train.texts, dataset.train.labels, seed=seed)
            runs.add(str(seed), _measure(classifier, chosen, seed))
        falls = runs.done[str(seed)]["uses"]
        told = (f"{name} {100 * falls[name]['fall'][2]:.1f}" for name in ("explain", "random"))
        say(f"seed {seed}, 5 uses taken out, fall in points: {', '.join(told)}")
    own = [runs.done[str(seed)] for seed in range(seeds)]
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": {"train": len(dataset.train.texts), "explained": len(chosen)},
        "removed": list(REMOVED),
        "environment": environment(),
        "threads_of_explanations": 1,
        "probability": [run["probability"] for run in own],
        **{f"mean_{unit}": own[0][f"mean_{unit}"] for unit in UNITS},
        **{unit: _summary([run[unit] for run in own]) for unit in UNITS},
    }
    falls = {
        title: {name: np.mean(m["fall"], 0).tolist() for name, m in results[unit].items()}
        for unit, title in UNITS.items()
    }
    draw_deletion(falls, REMOVED, out / "deletion.png")
    write_results(out, results)
    tables = [markdown_table(_columns(UNITS[unit]), _cells(results[unit])) for unit in UNITS]
    with atomic_write(out / "table.md") as draft:
        draft.write_text("\n".join(tables), "utf-8")
    return results


def deletion_tables(results: dict[str, Any]) -> list[Table]:
    """For the terminal, one of single uses and one of words."""
    title = f"{results['dataset']}: fall of the answer's probability, points / answers changed, %"
    return [
        make_table(title, _columns(name), _cells(results[unit])) for unit, name in UNITS.items()
    ]


def without(text: str, spans: Sequence[tuple[int, int]], words: np.ndarray) -> str:
    """The text without some of its words, a space in the place of each, so that what stood on
    either side does not become one word."""
    kept, done = [], 0
    for begin, end in sorted(spans[word] for word in words):
        kept.append(text[done:begin])
        done = max(done, end)
    return " ".join([*kept, text[done:]])


def gradient_parts(classifier: TextClassifier, text: str, c: int, shares: Tensor) -> np.ndarray:
    """(words,) of <mean over s in `shares` of dp_c / de at s e, e>, p_c the probability of class c
    and e the token vectors; shared among words as `explain` shares tokens.

    Numerics: float64, since in float32 nothing is left of 1 - p where an answer is sure.
    Cost: O(len(shares) n d), forward and backward.
    """
    model, rows = classifier.to_torch(), classifier.tokenizer_.encode([text])
    n = len(rows.token_ids)
    weights = torch.from_numpy(occurrence_weights(rows, len(model.embedding))).double()
    vectors = model.embedding.detach()[torch.from_numpy(rows.token_ids).long()].double()
    # Every token is made a row of an embedding of its own, so that it has a gradient of its own.
    # It is then used once, and its vector has to carry what it weighs.
    vectors *= (weights * (n / weights.square().sum().clamp(min=1)).sqrt())[:, None]
    points = (shares[:, None, None] * vectors).flatten(0, 1).requires_grad_()
    read = points, torch.arange(len(points)), torch.arange(len(shares) + 1) * n
    logits = _in_float64(model.head, _in_float64(model.pooling, *read))
    (gradient,) = torch.autograd.grad(logits.softmax(1)[:, c].sum(), points)
    mean = gradient.to_dense().unflatten(0, (len(shares), n)).mean(0)
    parts = (mean * vectors).sum(1, keepdim=True).numpy()
    return by_word(parts, classifier.tokenizer_.align(text))[:, 0]


def occlusion(
    classifier: TextClassifier, text: str, c: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """How far the probability of class c falls without each word, (words,), or without all the
    words of each group; `groups` (words,) counts from 0. Cost: O(groups n d)."""
    spans = classifier.tokenizer_.align(text).spans
    if groups is None:
        groups = np.arange(len(spans))
    cut = [without(text, spans, np.flatnonzero(groups == g)) for g in range(groups.max() + 1)]
    parts = [cut[i : i + _TEXTS_AT_ONCE] for i in range(0, len(cut), _TEXTS_AT_ONCE)]
    left = np.concatenate([_probabilities(classifier, part)[:, c] for part in parts])
    return _probabilities(classifier, [text])[0, c] - left


@contextmanager
def _one_thread() -> Iterator[None]:
    """One text is too little work for two threads, which wait for each other then; most of all
    where other programs run."""
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
    promised: dict[str, list[list[float]]] = {unit: [] for unit in UNITS}
    told = f"seed {seed}, {len(texts)} texts"
    for text in track(texts, told, console=Console(stderr=True), transient=True):
        started = time.perf_counter()
        e = classifier.explain(text)
        took = time.perf_counter() - started
        for ranking in _rankings(classifier, e, took, rng):
            key = ranking.unit, ranking.method
            order = np.argsort(-ranking.scores, kind="stable")
            ranks = np.argsort(order)[ranking.groups]
            cut.setdefault(key, []).extend(
                without(text, e.spans, np.flatnonzero(ranks < k)) for k in REMOVED
            )
            rankings.setdefault(key, []).append(ranking)
            if ranking.method == "explain":
                promised[ranking.unit].append([_promised(e, ranks < k) for k in REMOVED])
    before = _probabilities(classifier, texts)
    answers, rows = before.argmax(1), np.arange(len(texts))
    result: dict[str, Any] = {
        "probability": float(before.max(1).mean()),
        **{unit: {} for unit in UNITS},
    }
    for (unit, method), left in cut.items():
        after = _probabilities(classifier, left).reshape(len(texts), len(REMOVED), -1)
        own = rankings[unit, method]
        result[unit][method] = {
            "fall": (before.max(1)[:, None] - after[rows, :, answers]).mean(0).tolist(),
            "changed": (after.argmax(2) != answers[:, None]).mean(0).tolist(),
            "milliseconds": 1000 * float(np.median([ranking.seconds for ranking in own])),
        }
    for unit in UNITS:
        result[unit]["explain"]["promised"] = np.mean(promised[unit], 0).tolist()
        result[f"mean_{unit}"] = float(
            np.mean([len(ranking.scores) for ranking in rankings[unit, "explain"]])
        )
    return result


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One unit's methods: of each figure a list with an entry a seed, of times the median."""
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
    found = {"explain": (own, took), "explain, margin": (own - others, took)}
    for method, shares in PATHS.items():
        started = time.perf_counter()
        parts = gradient_parts(classifier, e.text, c, shares)
        found[method] = parts, time.perf_counter() - started
    names = np.unique([token.lower() for token in e.tokens], return_inverse=True)[1]
    for unit, groups in (("uses", np.arange(len(names))), ("words", names)):
        for method, (parts, seconds) in found.items():
            yield _Ranking(unit, method, groups, np.bincount(groups, parts), seconds)
        started = time.perf_counter()
        scores = occlusion(classifier, e.text, c, groups)
        yield _Ranking(unit, "occlusion", groups, scores, time.perf_counter() - started)
        yield _Ranking(unit, "random", groups, rng.random(len(scores)), 0.0)


def _promised(e: Explanation, out: np.ndarray) -> float:
    """The fall of the answer's probability if the parts of some words went and all else stayed."""
    c = int(e.logits.argmax())
    left = e.decoder.probabilities(e.bias + e.contributions[~out].sum(0))
    return float(e.probabilities[c] - left[c])


def _in_float64(module: nn.Module, *arguments: Tensor) -> Tensor:
    weights = {name: tensor.double() for name, tensor in module.state_dict().items()}
    return functional_call(module, weights, arguments)


def _probabilities(classifier: TextClassifier, texts: Sequence[str]) -> np.ndarray:
    return classifier.decoder.probabilities(classifier.logits(texts).astype(np.float64))


def _columns(title: str) -> list[str]:
    return [title, *(f"k = {k}" for k in REMOVED), "ms"]


def _cells(methods: dict[str, Any]) -> list[list[str]]:
    promised = np.mean(methods["explain"]["promised"], 0)
    return [
        [
            name,
            *(
                f"{100 * fall:.1f} / {100 * changed:.0f}"
                for fall, changed in zip(np.mean(m["fall"], 0), np.mean(m["changed"], 0))
            ),
            f"{m['milliseconds']:.2f}" if m["milliseconds"] else "",
        ]
        for name, m in methods.items()
    ] + [["explain's promise", *(f"{100 * fall:.1f}" for fall in promised), ""]]
