"""What `train`, `predict`, `evaluate` and `explain` do with tables of more than text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperagg._common.atomic import atomic_write
from hyperagg._common.terminal import echo
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions
from hyperagg.cli._evaluation import print_evaluation, print_regression, unknown_labels_note
from hyperagg.cli._predictions import (
    OutputOptions,
    plan_table_output,
    write_table_predictions,
)
from hyperagg.cli._terms import list_terms
from hyperagg.cli.options import (
    check_classes,
    check_training_folder,
    existing,
    keep_checkpoint,
    logger,
    output_folder,
    save_model,
)
from hyperagg.data.readers.columns import join_quoted, pluralize
from hyperagg.data.readers.errors import quote
from hyperagg.data.readers.table import Table, read_table

if TYPE_CHECKING:
    from hyperagg._common.label_decoder import LabelDecoder
    from hyperagg.multimodal import Explanation, MultimodalClassifier, MultimodalRegressor

NUM_STRONGEST_TOKENS = 5
_NUM_WORST = 20


def train(
    file: str,
    kinds: Mapping[str, list[str]],
    label: str | None,
    out: Path,
    *,
    regression: bool,
    balanced: bool,
    format: str | None,
    on_error: str,
    seed: int,
    resume: bool,
    force: bool,
    **arguments: Any,
) -> None:
    """Train on a table and save the model.

    Args:
        file: the table.
        kinds: the names of the columns of each kind.
        label: the column of the targets; None: "label".
        out: the folder of the model.
        regression: whether the target is continuous.
        balanced: whether classes weigh in inverse proportion to their size.
        format, on_error, seed, resume: as the options of `train`.
        arguments: further arguments of the estimator.
    """
    from hyperagg import multimodal

    label = label or "label"
    if regression and balanced:
        raise ValueError("--balanced: applies to labels, not to a continuous target; leave it out")
    # Before the files are read, which may take minutes.
    # Only what is used, so that an error about a missing extra names it.
    name = "MultimodalRegressor" if regression else "MultimodalClassifier"
    model = getattr(multimodal, name)(_columns(kinds, label), **arguments)
    table = read_table(file, format, on_error=on_error)
    for kind, names in kinds.items():
        for column in names:
            table.find(column, f"--{kind}")
    if on_error == "skip":
        table = _usable(table, model.columns, label, "number" if regression else "category")
    targets = _targets(table, label, regression)
    if not regression:
        check_classes(table.name, targets)
    checkpoint = out / "checkpoint.safetensors"
    check_training_folder(out, checkpoint, resume, force)
    with output_folder(out), keep_checkpoint(out, lambda: existing(checkpoint)):
        model.fit(
            table,
            targets,
            class_weight="balanced" if balanced else None,
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
        )
        save_model(model.save_pretrained, out, checkpoint)
    classes = "" if regression else f", {len(set(targets)):,} classes"
    logger.info(f"{table}{classes} -> {out}")
    history = model.history_
    if history.score:
        best = history.score[history.best_epoch]
        score = f"R² on held-out rows: {best:z.4f}"
        if not regression:
            score = f"accuracy on held-out rows: {100 * best:.2f} %"
        logger.info(f"{score} (epoch {history.best_epoch + 1} of {len(history.score)})")
    if errors := history.expected_calibration_error:
        logger.info(f"calibration error on held-out rows: {100 * errors[1]:.2f} %")


def predict(
    folder: Path,
    file: str,
    format: str | None,
    on_error: str,
    answer: PredictionOptions,
    destination: OutputOptions,
) -> None:
    """Write one label or value per row, with what `answer` asks for."""
    from hyperagg.multimodal import load_multimodal

    model: Any = load_multimodal(folder)
    decoder = model.decoder if _is_classifier(model) else None
    if decoder is None:
        for option in ("top_k", "threshold", "probabilities"):
            if getattr(answer, option) not in (None, False):
                name = option.replace("_", "-")
                raise ValueError(f"--{name}: {folder} predicts a continuous target")
    output = destination.format_of(decoder, answer)
    # Before the rows are read and answered, which may take minutes.
    task = plan_table_output(file, format, destination, output)
    table = _read(model, file, format, on_error)
    for column in output.keep:
        table.find(column, "--keep")
    if decoder is None:
        answers = Predictions.from_values(model.predict(table))
    else:
        answers = Predictions.from_logits(decoder, model.logits(table), answer)
    write_table_predictions(task, table, answers, output)
    logger.info(f"read {table}, answered {len(table):,}")


def evaluate(
    folder: Path,
    file: str,
    label: str | None,
    format: str | None,
    on_error: str,
    report: Path | None,
    as_json: bool,
) -> None:
    """Print the scores of a model on a table with labels, and write a page of them."""
    from hyperagg._common.pages.evaluation import evaluation_page, unexplained_row
    from hyperagg._common.pages.regression import regression_page, unexplained_value

    if report is not None and report.is_dir():
        raise ValueError(f"--report {report}: is a folder; expected the name of a file")
    label = label or "label"
    model, table = _load(folder, file, format, on_error, label)
    is_classifier = _is_classifier(model)
    targets = _targets(table, label, not is_classifier)
    evaluation = model.evaluation(table, targets)
    logger.info(f"read {table}; answered {pluralize(len(table), 'row')}")
    note = unknown_labels_note(evaluation) if is_classifier else None
    notes = [note] if note else []
    for note in notes:
        logger.info(f"warning: {note}")

    def row_name(i: int) -> str:
        return f"{table.name}: {table.row_name(i)}"

    if report is not None:
        worst = evaluation.worst_rows(_NUM_WORST)
        title = f"{folder.name} on {Path(table.name).name}"
        if model.fusion == "sum" and worst:
            from hyperagg.multimodal.explanation_report import explained_row

            explanations = zip(worst, model.explain(table.take(worst)))
            rows = [explained_row(own, row_name(i), targets[i]) for i, own in explanations]
        else:  # other outputs are no sum over tokens
            unexplained: Any = unexplained_row if is_classifier else unexplained_value
            rows = [unexplained(evaluation, i, row_name(i)) for i in worst]
        if is_classifier:
            page = evaluation_page(title, evaluation, rows, notes)
        else:
            page = regression_page(title, evaluation, rows, notes, model.target_.std)
        with atomic_write(report) as draft:
            draft.write_text(page, "utf-8", errors="replace")
        logger.info(f"report in {report}")
    if as_json:
        echo(dumps({"rows": len(table), **evaluation.to_dict()}))
    elif is_classifier:
        print_evaluation(evaluation, row_name)
    else:
        print_regression(evaluation, row_name)


def explain(
    folder: Path,
    file: str,
    format: str | None,
    on_error: str,
    *,
    label: str | None,
    explained: str | None,
    rows: Sequence[int],
    worst: bool,
    limit: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """Print what each column and its strongest tokens add to the output of some rows, and write a
    page of them."""
    if label is None and worst:
        label = "label"
    model, table = _load(folder, file, format, on_error, label)
    is_classifier = _is_classifier(model)
    if not is_classifier and explained is not None:
        raise ValueError("--class: applies to labels, not to a continuous target; leave it out")
    if explained is not None and explained not in map(str, model.classes_):
        expected = join_quoted([str(c) for c in model.classes_])
        raise ValueError(f"--class {explained}: expected one of {expected}")
    targets = None
    if label is not None:
        targets = _targets(table, label, not is_classifier)
    chosen = _find_rows(table, rows) or list(range(min(limit, len(table))))
    if worst:
        evaluation = model.evaluation(table, targets)
        chosen = evaluation.worst_rows(limit)
        if is_classifier and (note := unknown_labels_note(evaluation)):
            logger.info(f"warning: {note}")
    explanations = model.explain(table.take(chosen)) if chosen else []
    column = None
    if explained is not None:
        column = [str(c) for c in model.classes_].index(explained)
    for i, explanation in zip(chosen, explanations):
        if as_json:
            echo(_to_json(explanation))
            continue
        if targets is not None:
            echo(f"{table.name}: {table.row_name(i)}: true: {targets[i]}")
        c = int(explanation.logits.argmax()) if column is None else column
        _print(explanation, c, model.decoder if is_classifier else None)
    if html is not None:
        from hyperagg.multimodal.explanation_report import explanation_page

        page = explanation_page(
            explanations,
            f"{Path(table.name).name}, explained",
            names=[f"{table.name}: {table.row_name(i)}" for i in chosen],
            targets=None if targets is None else [targets[i] for i in chosen],
            labels=[] if column is None else [model.classes_[column]],
            unit=1.0 if is_classifier else model.target_.std,
        )
        with atomic_write(html) as draft:
            draft.write_text(page, "utf-8", errors="replace")
        logger.info(f"page in {html}")
    if not rows and not worst and len(table) > limit:
        logger.info(
            f"the first {limit} of {len(table)} rows; --limit {len(table)} explains all of them"
        )


def _print(explanation: Explanation, c: int, decoder: LabelDecoder | None) -> None:
    """Print an explanation of one output; a regressor has no decoder."""
    head = f"{explanation.logits[c]:.4g}"
    if decoder is not None:
        probability = decoder.probabilities(explanation.logits)[c]
        head = f"{explanation.classes[c]} {probability:.1%}: logit {explanation.logits[c]:+z.2f}"
    terms = "".join(
        f" {'+' if parts[c] >= 0 else '-'} {name} {abs(parts[c]):.2f}"
        for name, parts in explanation.by_modality().items()
    )
    echo(f"{head} = {explanation.bias[c]:+z.2f}{terms}")
    for name, parts in explanation.contributions.items():
        strongest = sorted(range(len(parts)), key=lambda t: -abs(parts[t, c]))
        tokens = [(explanation.tokens[name][t], float(parts[t, c])) for t in strongest]
        echo(f"  {name}: {list_terms(tokens, NUM_STRONGEST_TOKENS)}")


def _columns(kinds: Mapping[str, list[str]], label: str) -> dict[str, str]:
    columns: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            if name in columns:
                raise ValueError(f"--{kind} {name}: the column is given as --{columns[name]} too")
            if name == label:
                raise ValueError(f"--{kind} {name}: the column holds the labels")
            columns[name] = kind
    return columns


def _targets(table: Table, label: str, regression: bool) -> list[Any]:
    table.find(label, "--label")
    targets: list[Any] = table.numbers(label) if regression else table.categories(label)
    for i, target in enumerate(targets):
        if target is None:
            missing = pluralize(sum(one is None for one in targets), "row")
            raise table.error(
                i,
                f"{quote(label)} is empty ({missing} of {len(table):,}); give it a label, or "
                "remove the row",
            )
    return targets


def _load(
    folder: Path, file: str, format: str | None, on_error: str, label: str | None = None
) -> tuple[Any, Table]:
    """Return a model, and the rows of a table that it can read; with a label if one is named."""
    from hyperagg.multimodal import load_multimodal

    model = load_multimodal(folder)
    return model, _read(model, file, format, on_error, label)


def _read(
    model: Any, file: str, format: str | None, on_error: str, label: str | None = None
) -> Table:
    """Read the table that a model answers; a note names the columns that it lacks."""
    if on_error == "empty":
        raise ValueError(
            "--on-error empty: applies to a classifier of text alone; expected one of stop, skip"
        )
    table = read_table(file, format, on_error=on_error)
    missing = [name for name in model.columns if name not in table.columns]
    listed = ", ".join(map(quote, missing))
    if len(missing) == len(model.columns):
        raise ValueError(f"{table.name}: has none of the model's columns {listed}")
    if missing:
        logger.info(f"{table.name} has no columns {listed}; they are missing in every row")
    if on_error == "skip":
        kind = "category" if _is_classifier(model) else "number"
        table = _usable(table, model.columns, label, kind)
    return table


def _usable(table: Table, columns: Mapping[str, str], label: str | None, kind: str) -> Table:
    """Return the rows that a model can use, with a target if its column is named."""
    if label is None:
        return table.usable(columns)
    table.find(label, "--label")
    return table.usable(columns, {label: kind})


def _find_rows(table: Table, numbers: Sequence[int]) -> list[int]:
    """Return the indices of the rows with these numbers."""
    index_of = {number: i for i, number in enumerate(table.row_numbers)}
    total = len(table) + len(table.left_out)
    for number in numbers:
        if number > total:
            raise ValueError(f"--row {number}: there are {total:,} rows; expected 1 to {total}")
        if number not in index_of:
            raise ValueError(f"--row {number}: cannot be used and is left out (--on-error skip)")
    return [index_of[number] for number in numbers]


def _is_classifier(model: MultimodalClassifier | MultimodalRegressor) -> bool:
    from hyperagg.multimodal import MultimodalClassifier

    return isinstance(model, MultimodalClassifier)


def _to_json(explanation: Explanation) -> str:
    is_class = not explanation.is_value
    return dumps(
        {
            "label": explanation.label if is_class else None,
            "classes": explanation.classes,
            "logits": explanation.logits.round(6).tolist(),
            "bias": explanation.bias.round(6).tolist(),
            "modalities": {
                name: {
                    "tokens": explanation.tokens[name],
                    "contributions": parts.round(6).tolist(),
                }
                for name, parts in explanation.contributions.items()
            },
        },
        ensure_ascii=False,
    )
