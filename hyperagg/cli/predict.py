"""hyperagg predict: labels for the texts of files."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperagg._common.validation import check_real
from hyperagg.cli.options import (
    AnsweredOnError,
    Delimiter,
    Files,
    Format,
    Model,
    NoHeader,
    Quoting,
    Text,
    Threads,
    logger,
    single_file,
)
from hyperagg.multimodal import is_multimodal

if TYPE_CHECKING:
    from hyperagg.classifier.batch_prediction.job import OrderedMap
    from hyperagg.classifier.batch_prediction.predictions import PredictionOptions

EXAMPLE = "Example: hyperagg predict model new.csv --text review > labels.txt"


def predict(
    model: Model,
    files: Files,
    text: Text = None,
    format: Format = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output file (.jsonl, .parquet, .csv, or .txt for plain labels), or a folder for "
            "one output per file (default: standard output)."
        ),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            help="labels, jsonl, csv or parquet (default: by the name of --out; a folder gets "
            "jsonl; standard output gets labels, or jsonl with --keep, --probabilities, --top-k "
            "or --threshold)."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=NAME]",
            help="Column of the input to repeat in the output, under another name if one is "
            "given; once per column.",
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Answer with the K most probable labels.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Answer with the labels above this probability.")
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add the probability of every class; with many classes, --top-k is smaller.",
        ),
    ] = False,
    label_separator: Annotated[
        str, typer.Option(help="Separator of the labels of a text that has several.")
    ] = "|",
    on_error: AnsweredOnError = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    quoting: Quoting = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted call; complete outputs stay."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Answer part I of N, from 0 to N - 1: every Nth file, or every Nth block of rows "
            "of a single file.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes, with one thread each.")
    ] = 1,
    engine: Annotated[
        str,
        typer.Option(
            help="Where the workers run: local, or ray for the machines of a Ray cluster."
        ),
    ] = "local",
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Read FILE as one plain text of any size."),
    ] = False,
    threads: Threads = None,
) -> None:
    """Predict the label of every row of the files, in order and in bounded memory.

    The counts of rows read and answered are printed on standard error. For a Slurm array of 8:
    `--array=0-7` and `--shard $SLURM_ARRAY_TASK_ID/8`.
    """
    given = {
        "--out": out,
        "--output-format": output_format,
        "--keep": keep,
        "--delimiter": delimiter,
        "--no-header": no_header,
        "--quoting": quoting,
        "--resume": resume,
        "--force": force,
        "--shard": shard,
        "--workers": workers > 1,
        "--engine": engine != "local",
    }
    if threshold is not None:
        check_real("--threshold", threshold, 0, 1)
    from hyperagg.classifier.batch_prediction.predictions import PredictionOptions
    from hyperagg.cli._predictions import OutputOptions

    if threads is not None and (workers > 1 or engine != "local"):
        raise ValueError(
            f"--threads {threads}: applies to a single process; each of --workers has one thread"
        )
    answer = PredictionOptions(top_k, threshold, probabilities)
    destination = OutputOptions(out, output_format, _parse_keep(keep or []), force, label_separator)
    if is_multimodal(model):
        for option in ("--out", "--output-format", "--keep", "--force"):
            del given[option]
        _refuse(
            given | {"--text": text, "--stream": stream}, "applies to a classifier of text alone"
        )
        from hyperagg.cli import multimodal

        multimodal.predict(
            Path(model), single_file(files), format, on_error or "stop", answer, destination
        )
        return
    if stream:
        given |= {"--text": text, "--format": format, "--on-error": on_error}
        _refuse(given, "does not apply to --stream, which reads one plain text")
        if len(files) > 1:
            raise ValueError(f"{files[1]}: --stream reads one text; expected one FILE")
        _predict_stream(model, files[0], answer, label_separator)
        return
    if resume and force:
        raise ValueError("--force: begins again, and --resume continues; expected one of them")
    on_error = on_error or "empty"
    if "\n" in label_separator or "\r" in label_separator:
        raise ValueError(
            f"--label-separator {label_separator!r}: has a line break, which ends a row; expected "
            "other characters"
        )
    if engine not in ("local", "ray"):
        raise ValueError(f"--engine {engine}: expected one of local, ray")
    from hyperagg.classifier.batch_prediction.job import ReadOptions, predict_files
    from hyperagg.classifier.batch_prediction.plan import (
        Shard,
        is_folder,
        plan_tasks,
    )
    from hyperagg.classifier.batch_prediction.workers import ordered_map
    from hyperagg.data.readers.sources import expand_sources

    apply_in_order: OrderedMap = ordered_map
    if engine == "ray":
        from hyperagg.integrations import ray

        apply_in_order = ray.ordered_map

    name = destination.format_name(answer)
    part = None if shard is None else Shard.parse(shard)
    sources = expand_sources(files, format=format)
    with _no_garbage_collection():
        from hyperagg.classifier import load_predictor

        # Processes of one machine share what they map.
        try:
            predictor = load_predictor(model, mmap=workers > 1 or part is not None)
        except ValueError:  # a quantized embedding cannot be mapped; other errors come again
            predictor = load_predictor(model)
    output = destination.format_of(
        predictor.decoder,
        answer,
        with_file=len(sources) > 1 and not (out is not None and is_folder(out)),
    )
    read = ReadOptions(text, format, delimiter, not no_header, quoting, on_error)  # type: ignore[arg-type]
    job = {
        "model": predictor.fingerprint if out is not None else None,
        "reading": vars(read),
        "answers": vars(answer),
        "output": [name, output.columns, label_separator],
    }
    tasks = plan_tasks(
        files,
        out,
        format=name,
        input_format=format,
        shard=part,
        job=job,
        resume=resume,
        force=force,
    )
    complete = sum(task.output.complete for task in tasks)
    if complete:
        logger.info(f"{complete:,} of {len(tasks):,} outputs were complete")
    if part is not None and not tasks:
        logger.info(f"--shard {shard}: has none of the {len(sources):,} files")
    try:
        counts = predict_files(
            predictor,
            tasks,
            read=read,
            answer=answer,
            output=output,
            workers=workers,
            engine=apply_in_order,
        )
    except KeyboardInterrupt:
        if out is not None:
            logger.info("interrupted; repeat the command with --resume to continue")
        raise
    logger.info(counts.summary())


def _predict_stream(model: str, file: str, answer: PredictionOptions, label_separator: str) -> None:
    """Print the answer to a file that is one text."""
    from hyperagg.classifier.batch_prediction.counts import RowCounts
    from hyperagg.cli._predictions import print_predictions
    from hyperagg.data import read_chunks
    from hyperagg.data.readers.sources import display_name

    with _no_garbage_collection():
        from hyperagg.classifier import load_predictor

        predictor = load_predictor(model)
    document, counts = predictor.stream(), RowCounts(read=1, answered=1)
    lines = 1
    name = display_name(file)
    for chunk in read_chunks(
        file, lambda problem, place: counts.note(problem, f"{place} of {name}")
    ):
        document.append(chunk)
        lines += chunk.count("\n")
    if not len(document):
        raise ValueError(f"{file}: has no words")
    print_predictions(predictor.decoder, document.logits()[None], answer, label_separator)
    logger.info(counts.summary(lines))


def _refuse(options: dict[str, Any], reason: str) -> None:
    for option, value in options.items():
        if value not in (None, False, []):
            raise ValueError(f"{option}: {reason}; leave it out")


def _parse_keep(keep: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for one in keep:
        column, separator, name = one.rpartition("=")
        if not separator:
            column = name
        if not column or not name or column in columns:
            raise ValueError(f"--keep {one}: expected COLUMN or COLUMN=NAME, once per column")
        columns[column] = name
    return columns


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Imports and vocabularies leave no garbage, and the search for it is a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
