"""Write the answers to rows that are all in memory, in the formats of `predict`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.batch_prediction.encoders import make_encoder
from hyperagg.classifier.batch_prediction.encoding import OutputFormat, Rows
from hyperagg.classifier.batch_prediction.output import StandardOutput
from hyperagg.classifier.batch_prediction.plan import (
    Task,
    is_folder,
    output_format_of,
    plan_tasks,
)
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions
from hyperagg.data.readers.table import Table

__all__ = ["OutputOptions", "plan_table_output", "print_predictions", "write_table_predictions"]


@dataclass(frozen=True)
class OutputOptions:
    """The options of `predict` that describe its output.

    Args:
        out: a file or a folder; None for standard output.
        format: "labels", "jsonl", "csv" or "parquet"; None to choose by `out` and the answers.
        keep: the columns of the input that the output repeats: name there -> name in the output.
        force: whether to replace an output that exists.
        label_separator: what joins the labels of a row in plain labels and CSV.
    """

    out: Path | None = None
    format: str | None = None
    keep: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    label_separator: str = "|"

    def format_name(self, answer: PredictionOptions) -> str:
        """Return the name of the format.

        Raises:
            ValueError: the extension of `out` is not known, or plain labels cannot hold what was
                requested.
        """
        name = output_format_of(self.out, self.format)
        if name is None:
            to_folder = self.out is not None and is_folder(self.out)
            has_columns = self.keep or answer.probabilities or answer.ranked or to_folder
            name = "jsonl" if has_columns else "labels"
        if name == "labels" and (self.keep or answer.probabilities):
            option = "--keep" if self.keep else "--probabilities"
            raise ValueError(f"{option}: plain labels have no columns; use --output-format jsonl")
        return name

    def format_of(
        self, decoder: LabelDecoder | None, answer: PredictionOptions, with_file: bool = False
    ) -> OutputFormat:
        """Return the description of the output.

        Args:
            decoder: of the labels; None if the answers are numbers.
            answer: what is answered.
            with_file: whether each row names its file.

        Raises:
            ValueError: as `format_name`, or two columns have one name.
        """
        format = OutputFormat(
            self.format_name(answer),
            () if decoder is None else decoder.classes,
            several=decoder is not None and (decoder.multi_label or answer.ranked),
            keep=self.keep,
            with_file=with_file,
            probabilities=answer.probabilities,
            label_separator=self.label_separator,
            numbers=decoder is None,
        )
        for column in format.columns:
            if format.columns.count(column) > 1:
                raise ValueError(
                    f"--keep {column}: the output has a column of that name; rename the one that "
                    f"is kept, as in --keep {column}=given_{column}"
                )
        return format


def print_predictions(
    decoder: LabelDecoder,
    logits: np.ndarray,
    options: PredictionOptions,
    label_separator: str = "|",
) -> None:
    """Print one line per row of the logits (B, C): its labels, or JSON where there is more."""
    format = OutputOptions(label_separator=label_separator).format_of(decoder, options)
    rows = Rows("", range(1, len(logits) + 1), [""] * len(logits), {})
    answers = Predictions.from_logits(decoder, logits, options)
    StandardOutput().write(make_encoder(format).encode(rows, answers))


def plan_table_output(
    file: str, input_format: str | None, options: OutputOptions, format: OutputFormat
) -> Task:
    """Return where the answers to a table go.

    Raises:
        ValueError: the output exists, or is the input.
    """
    [task] = plan_tasks(
        [file],
        options.out,
        format=format.name,
        input_format=input_format,
        job={"output": [format.name, format.columns, format.label_separator]},
        resume=False,
        force=options.force,
    )
    return task


def write_table_predictions(
    task: Task, table: Table, answers: Predictions, format: OutputFormat
) -> None:
    """Write one row per row of a table.

    Args:
        task: the output, of `plan_table_output`.
        table: the rows that were answered.
        answers: their answers.
        format: the description of the output.

    Raises:
        ValueError: the table does not have a column that is kept.
        OSError: the output cannot be written.
    """
    kept = {name: table.find(name, "--keep") for name in format.keep}
    rows = Rows(table.name, table.row_numbers, [""] * len(table), kept)
    encoder = make_encoder(format)
    data = encoder.header() + encoder.encode(rows, answers)
    if isinstance(task.output, StandardOutput):
        task.output.open(b"")
        task.output.write(data)
        task.output.close()
        return
    # All answers are there, so there is nothing that a later call could continue, or take for the
    # output of the job that wrote what is replaced.
    task.output.record.unlink(missing_ok=True)
    with atomic_write(task.output.path) as draft:
        if format.name != "parquet":
            draft.write_bytes(data)
            return
        from hyperagg.classifier.batch_prediction.parquet import convert_to_parquet

        with tempfile.TemporaryDirectory() as folder:
            stream = Path(folder) / "rows.arrow"
            stream.write_bytes(data)
            convert_to_parquet(stream, draft, format)
