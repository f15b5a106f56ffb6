"""What train, predict, evaluate and explain do with a table of more than texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperagg.cli.options import output_folder, say
from hyperagg.data.readers.columns import count
from hyperagg.data.readers.errors import quote
from hyperagg.data.readers.table import Table, read_table

if TYPE_CHECKING:
    from hyperagg.multimodal.estimator import MultimodalModel

READERS: dict[str, Callable[[Table, str], list[Any]]] = {
    "text": Table.texts,
    "number": Table.numbers,
    "category": Table.categories,
    "image": Table.paths,
    "audio": Table.paths,
}


def train(
    file: str,
    kinds: Mapping[str, list[str]],
    label: str | None,
    out: Path,
    *,
    format: str | None,
    seed: int,
    resume: bool,
    **settings: Any,
) -> None:
    """`kinds` has the columns of each kind; `settings` are those of `MultimodalModel`."""
    from hyperagg._common.progress import share_bar
    from hyperagg.multimodal.estimator import MultimodalModel

    columns = _columns(kinds, label or "label")
    table = read_table(file, format)
    cells = {name: READERS[kind](table, name) for name, kind in columns.items()}
    targets = _targets(table, label or "label", settings["regression"])
    if not settings["regression"] and len(set(targets)) < 2:
        raise ValueError(
            f"{table.name}: all labels are {targets[0]!r}; a classifier needs at least two classes"
        )
    model = MultimodalModel(columns, **settings)
    checkpoint = out / "checkpoint.safetensors"
    if resume and not checkpoint.exists():
        say(f"no interrupted training in {out}: starting from the beginning")
    with output_folder(out):
        try:
            with share_bar("reading and training") as report:
                model.fit(
                    cells,
                    targets,
                    seed=seed,
                    place=_place(table),
                    checkpoint=checkpoint,
                    resume=resume,
                    report=report,
                )
        except KeyboardInterrupt:
            if checkpoint.exists():
                say(f"stopped; the state is in {out}, go on with the same command and --resume")
            raise
        model.save_pretrained(out)
    what = "numbers" if model.regression else f"{len(model.classes_)} classes"
    say(f"{count(len(table), 'row')}, {what} -> {out}")
    history = model.history_
    if history.score:
        best = history.score[history.best_epoch]
        told = f"R² on held-out rows: {best:.4f}"
        if not model.regression:
            told = f"accuracy on held-out rows: {100 * best:.2f} %"
        say(f"{told} (epoch {history.best_epoch + 1} of {len(history.score)})")


def predict(folder: Path, file: str, format: str | None, probabilities: bool) -> None:
    model, table, cells = _read(folder, file, format)
    if model.regression:
        if probabilities:
            raise ValueError("--probabilities: the model foretells a number, which has none")
        for number in model.predict(cells, _place(table)):
            print(f"{number:.6g}")
        return
    logits = model.logits(cells, _place(table))
    labels, shares = model.answers.labels(logits), model.answers.probabilities(logits)
    for label, row in zip(labels, shares):
        if probabilities:
            named = {str(c): round(float(p), 6) for c, p in zip(model.classes_, row)}
            print(dumps({"label": label, "probabilities": named}, ensure_ascii=False))
        else:
            print(" ".join(str(label).splitlines()))


def evaluate(folder: Path, file: str, label: str | None, format: str | None, as_json: bool) -> None:
    model, table, cells = _read(folder, file, format)
    targets = _targets(table, label or "label", model.regression)
    for i, target in enumerate(targets):
        if not model.regression and target not in model.classes_:
            raise table.error(i, f"label {quote(target)} was not there in training")
    scores = model.evaluate(cells, targets, _place(table))
    if as_json:
        print(dumps({"rows": len(table), **scores}))
        return
    print(f"{'rows':17}  {len(table):,}")
    for name, score in scores.items():
        shown = f"{score:.4f}" if model.regression else f"{100 * score:.2f} %"
        print(f"{name.replace('_f1', '-F1').replace('_', ' '):17}  {shown}")


def explain(folder: Path, file: str, format: str | None, first: int, as_json: bool) -> None:
    model, table, cells = _read(folder, file, format)
    for i in range(min(first, len(table))):
        row = {name: column[i] for name, column in cells.items()}
        if all(cell is None for cell in row.values()):
            raise table.error(i, f"has nothing in any of {', '.join(map(quote, row))}")
        why = model.explain(row)
        if as_json:
            print(_json(why))
            continue
        c = int(why.logits.argmax())
        sums = {name: parts[c] for name, parts in why.by_modality().items()}
        terms = "".join(
            f" {'+' if x >= 0 else '-'} {name} {abs(x):.2f}" for name, x in sums.items()
        )
        head = f"{why.logits[c]:.4g}"
        if not model.regression:
            share = model.answers.probabilities(why.logits)[c]
            head = f"{why.label} {share:.1%}: logit {why.logits[c]:+.2f}"
        print(f"{head} = {why.bias[c]:+.2f}{terms}")
        for name, parts in why.contributions.items():
            strongest = sorted(range(len(parts)), key=lambda t: -abs(parts[t, c]))[:5]
            told = ", ".join(f"{why.tokens[name][t]} {parts[t, c]:+.2f}" for t in strongest)
            print(f"  {name}: {told}")
    if len(table) > first:
        say(f"the first {first} of {len(table)} rows; --first {len(table)} explains them all")


def _columns(kinds: Mapping[str, list[str]], label: str) -> dict[str, str]:
    columns: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            if name in columns:
                raise ValueError(f"--{kind} {name}: is given as --{columns[name]} as well")
            if name == label:
                raise ValueError(f"--{kind} {name}: is the column of the labels")
            columns[name] = kind
    return columns


def _targets(table: Table, label: str, regression: bool) -> list[Any]:
    targets: list[Any] = table.numbers(label) if regression else table.categories(label)
    for i, target in enumerate(targets):
        if target is None:
            missing = sum(one is None for one in targets)
            raise table.error(
                i,
                f"{quote(label)} is empty ({count(missing, 'row')} of {len(table):,}): give it "
                "a label, or remove the row",
            )
    return targets


def _read(
    folder: Path, file: str, format: str | None
) -> tuple[MultimodalModel, Table, dict[str, list[Any]]]:
    from hyperagg.multimodal.estimator import MultimodalModel

    model, table = MultimodalModel.from_pretrained(folder), read_table(file, format)
    absent = [name for name in model.kinds if name not in table.columns]
    if len(absent) == len(model.kinds):
        raise ValueError(
            f"{table.name}: has none of the model's columns {', '.join(map(quote, absent))}"
        )
    if absent:
        say(f"{table.name} has no {', '.join(map(quote, absent))}: missing in every row")
    known = {name: kind for name, kind in model.kinds.items() if name not in absent}
    return model, table, {name: READERS[kind](table, name) for name, kind in known.items()}


def _place(table: Table) -> Callable[[int], str]:
    return lambda row: f"{table.name}: {table.place(row)}"


def _json(why: Any) -> str:
    return dumps(
        {
            "label": None if why.classes == ["value"] else why.label,
            "classes": why.classes,
            "logits": why.logits.round(6).tolist(),
            "bias": why.bias.round(6).tolist(),
            "modalities": {
                name: {"tokens": why.tokens[name], "contributions": parts.round(6).tolist()}
                for name, parts in why.contributions.items()
            },
        },
        ensure_ascii=False,
    )
