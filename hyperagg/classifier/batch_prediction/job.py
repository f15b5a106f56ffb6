"""Predict the labels of files, into files or to standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from hyperagg._common.progress import progress_bar
from hyperagg.classifier.batch_prediction.counts import RowCounts
from hyperagg.classifier.batch_prediction.encoders import make_encoder
from hyperagg.classifier.batch_prediction.encoding import (
    Encoder,
    OutputFormat,
    Rows,
)
from hyperagg.classifier.batch_prediction.plan import Shard, Task
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions
from hyperagg.classifier.batch_prediction.workers import ordered_map
from hyperagg.classifier.predictor import Predictor
from hyperagg.data.readers.sources import display_name
from hyperagg.data.readers.stream import OnError, RowBatch, stream_rows

__all__ = ["ReadOptions", "predict_files"]

BATCH_ROWS = 4096
BATCH_BYTES = 1 << 20
SECONDS_BEFORE_PROGRESS = 2.0
SECONDS_BETWEEN_UPDATES = 0.2


OrderedMap = Callable[[Callable[[Any], bytes], Iterable[Any], int], Iterator[tuple[Any, bytes]]]


@dataclass(frozen=True)
class ReadOptions:
    """How to read files; the arguments of `stream_rows`."""

    text: str | None = None
    format: str | None = None
    delimiter: str | None = None
    header: bool = True
    quoting: bool | None = None
    on_error: OnError = "empty"


@dataclass
class _Item:
    """A batch on its way from the reader to the output, or the end of an output.

    Args:
        task: the index of the output.
        rows: the rows to answer.
        types: the Arrow types of kept columns, for Parquet.
        state: what has been answered once this item is written.
        is_end: whether this is the end of the output.
    """

    task: int
    rows: Rows
    types: Mapping[str, Any] | None
    state: Mapping[str, Any]
    is_end: bool = False


@dataclass
class _Scorer:
    """Score and encode the rows of an item; each worker process has one."""

    predictor: Predictor
    options: PredictionOptions
    format: OutputFormat

    def __post_init__(self) -> None:
        self._encoders: dict[tuple[tuple[str, str], ...], Encoder] = {}

    def encoder(self, types: Mapping[str, Any] | None) -> Encoder:
        """Return the encoder for kept columns of these types."""
        key = tuple((name, str(kind)) for name, kind in (types or {}).items())
        if key not in self._encoders:
            self._encoders[key] = make_encoder(self.format, types)
        return self._encoders[key]

    def __call__(self, item: _Item) -> bytes:
        if not len(item.rows):
            return b""
        logits = self.predictor.logits(item.rows.texts)
        answers = Predictions.from_logits(self.predictor.decoder, logits, self.options)
        return self.encoder(item.types).encode(item.rows, answers)


def predict_files(
    predictor: Predictor,
    tasks: Sequence[Task],
    *,
    read: ReadOptions,
    answer: PredictionOptions,
    output: OutputFormat,
    workers: int = 1,
    engine: OrderedMap = ordered_map,
    progress: bool | None = None,
) -> RowCounts:
    """Answer every row of some files, in bounded memory.

    Args:
        predictor: the model.
        tasks: the outputs and the files that each of them answers.
        read: how to read the files.
        answer: what to answer.
        output: the format of the outputs.
        workers: the number of processes; each uses one thread. With 1, this process uses all.
        engine: starts the workers and gives them the rows, as `ordered_map` of `workers`.
        progress: whether to show a progress bar after two seconds; None: in a terminal.

    Returns:
        the counts of the rows of all outputs, those of earlier runs that are continued included.

    Raises:
        ValueError: a file cannot be read, or an output cannot be written.
        OSError: the disk is full.
    """
    function = _Scorer(predictor, answer, output)
    total = RowCounts()
    with ExitStack() as stack:
        show = _Progress(stack, progress, tasks)
        current: Task | None = None
        try:
            for item, data in engine(function, _items(tasks, read, output), workers):
                if current is None:
                    current = tasks[item.task]
                    current.output.open(function.encoder(item.types).header())
                if item.is_end:
                    total.add(_finish(current, item, output))
                    current = None
                    continue
                _check(item, data, output)
                current.output.write(data)
                current.output.checkpoint(item.state)
                show(item)
        finally:
            if current is not None:
                current.output.close()
    return total


def _items(tasks: Sequence[Task], read: ReadOptions, output: OutputFormat) -> Iterator[_Item]:
    """Yield the batches of all tasks, from where each was interrupted."""
    for number, task in enumerate(tasks):
        if task.output.complete:
            continue
        state = task.output.state or {"source": 0, "row": 0, "counts": RowCounts().to_json()}
        counts = RowCounts.from_json(state["counts"])
        types = None
        if output.name == "parquet":
            from hyperagg.classifier.batch_prediction.parquet import kept_types

            types = kept_types(task.sources, list(output.keep), read.format)
        for index in range(state["source"], len(task.sources)):
            source = task.sources[index]
            batches = stream_rows(
                source,
                keep=list(output.keep),
                batch_rows=BATCH_ROWS,
                max_batch_bytes=BATCH_BYTES,
                start_row=state["row"],
                **asdict(read),
            )
            for batch in batches:
                rows = _select(batch, state["row"], source, task.shard, counts)
                state = {"source": index, "row": batch.end_row, "counts": counts.to_json()}
                yield _Item(number, rows, types, state)
            state = {"source": index + 1, "row": 0, "counts": counts.to_json()}
        yield _Item(number, Rows("", [], [], {}), types, state, is_end=True)


def _select(
    batch: RowBatch, first_row: int, source: str, shard: Shard | None, counts: RowCounts
) -> Rows:
    """Return the rows of a batch that this shard answers, and count them.

    Args:
        batch: the rows from `first_row` to before `batch.end_row`, without those left out.
        first_row: the number of its first row.
        source: the file.
        shard: the rows to answer; None for all.
        counts: of the file so far.
    """
    name = display_name(source)
    numbers, texts, kept = batch.rows, batch.texts, batch.kept
    read: Sequence[int] = range(first_row, batch.end_row)
    if shard is not None:
        read = [row for row in read if shard.has_row(row)]
        chosen = [i for i, row in enumerate(numbers) if shard.has_row(row)]
        if len(chosen) < len(numbers):
            numbers, texts = [numbers[i] for i in chosen], [texts[i] for i in chosen]
            kept = {column: [values[i] for i in chosen] for column, values in kept.items()}
    counts.read += len(read)
    counts.answered += len(numbers)
    for row, note in batch.notes.items():
        if shard is None or shard.has_row(row):
            counts.note(note.problem, f"{note.place} of {name}")
    return Rows(name, [row + 1 for row in numbers], texts, kept)


def _check(item: _Item, data: bytes, output: OutputFormat) -> None:
    """Compare the number of lines that were encoded with that of the rows."""
    if output.name in ("labels", "jsonl") and data.count(b"\n") != len(item.rows):
        raise RuntimeError(f"{len(item.rows):,} rows have an answer of other length")


def _finish(task: Task, item: _Item, output: OutputFormat) -> RowCounts:
    """Complete an output, and return its counts."""
    counts = RowCounts.from_json(item.state["counts"])
    # With the counts, so that a conversion that is interrupted can be repeated.
    task.output.checkpoint(item.state, now=True)
    if output.name != "parquet":
        task.output.finish(None)
        return counts
    from hyperagg.classifier.batch_prediction.parquet import convert_to_parquet

    written = task.output.finish(lambda stream, out: convert_to_parquet(stream, out, output))
    if written != counts.answered:
        raise RuntimeError(f"{counts.answered} rows got {written} answers")
    return counts


def _size(source: str) -> int:
    return 0 if source == "-" else Path(source).stat().st_size


class _Progress:
    """Show a bar with documents/s once the job has taken some time.

    The bar counts the bytes of the files that are done, since how much of a file has been read is
    not known when it is compressed.
    """

    def __init__(self, stack: ExitStack, enabled: bool | None, tasks: Sequence[Task]) -> None:
        self._stack, self._enabled = stack, enabled
        # The size of all files before each file, and the first file of each task.
        sizes = [_size(source) for task in tasks for source in task.sources]
        self._before = list(accumulate(sizes, initial=0))
        self._first = list(accumulate((len(task.sources) for task in tasks), initial=0))
        self._update: Callable[[float, str], None] | None = None
        self._start = self._last = time.monotonic()
        self._rows = 0

    def __call__(self, item: _Item) -> None:
        """Count the rows of an item that was written."""
        self._rows += len(item.rows)
        now = time.monotonic()
        if (
            now - self._start < SECONDS_BEFORE_PROGRESS
            or now - self._last < SECONDS_BETWEEN_UPDATES
        ):
            return
        self._last = now
        if self._update is None:
            self._update = self._stack.enter_context(progress_bar("predicting", self._enabled))
        rate = self._rows / (now - self._start)
        done = self._before[self._first[item.task] + item.state["source"]]
        self._update(
            done / max(1, self._before[-1]),
            f"{self._rows:,} documents, {rate:,.0f} documents/s",
        )
