"""A classifier or regressor of rows that have texts, numbers, categories, pictures and sounds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperagg._common.checkpoint import remove_checkpoint
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.split import train_validation_split
from hyperagg.multimodal.batches import Rows
from hyperagg.multimodal.columns.media import AudioColumn, ImageColumn
from hyperagg.multimodal.columns.tabular import (
    CategoryColumn,
    Column,
    NumberColumn,
    Place,
    TextColumn,
)
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.explanation import Explanation, explain
from hyperagg.multimodal.fusion import make_encoder
from hyperagg.multimodal.targets import Targets
from hyperagg.multimodal.trainer import History, Recipe, predict, train

__all__ = ["KINDS", "MultimodalModel"]

KINDS: dict[str, Any] = {
    kind.kind: kind for kind in (TextColumn, NumberColumn, CategoryColumn, ImageColumn, AudioColumn)
}
# About as many rows as it takes; few rows are seen more often.
ROWS_TO_SEE, MAX_EPOCHS, MIN_EPOCHS = 300_000, 60, 5

Cells = Mapping[str, Sequence[Any]]


class MultimodalModel:
    """Learns a label or a number from rows of several columns, each of which may be missing.

    logits = W sum_m sum_t s_m e_mt * p_mt * v_m + b

    Args:
        columns: by name "text", "number", "category", "image" or "audio".
        regression: whether numbers are foretold, and not labels.
        d_model: D.
        hidden: width of the perceptrons that patches and frames go through.
        rate: samples a second of sounds; those of files are brought to it.
        fusion: "sum", or one of its rivals "concatenation" and "attention".
        epochs: passes over the rows; None: 300,000 rows to see, 5 passes at least, at most 60.
        learning_rate, embedding_learning_rate, batch_size, weight_decay, dropout, augment: see `Recipe`.
        validation_fraction: of the rows that is held out to tell which epoch was best; 0: the last.

    Cells are str for a text, int or float for a number, str or int for a category, for a picture a
    uint8 array (height, width) or (height, width, 3) or the path of a file, for a sound an array
    (samples,) of int16 or of floats between -1 and 1 at `rate` or the path of a file; and None
    where a row has none.

    Raises:
        ValueError: no column, or a kind or a fusion that is not known.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        regression: bool = False,
        d_model: int = 128,
        hidden: int = 128,
        rate: int = 8000,
        fusion: str = "sum",
        epochs: int | None = None,
        validation_fraction: float = 0.1,
        **recipe: Any,
    ) -> None:
        if not columns:
            raise ValueError("columns: there are none; give at least one")
        for name, kind in columns.items():
            if kind not in KINDS:
                raise ValueError(f"columns[{name!r}]={kind!r}: there are {', '.join(KINDS)}")
        self.kinds = dict(columns)
        self.regression, self.d_model, self.hidden = regression, d_model, hidden
        self.rate, self.fusion, self.epochs = rate, fusion, epochs
        self.validation_fraction, self.recipe = validation_fraction, recipe
        self.columns: dict[str, Column] = {}
        self.network: MultimodalNetwork | None = None
        self.targets = Targets(regression)
        self.history_ = History()

    def fit(
        self,
        cells: Cells,
        targets: Sequence[Any],
        *,
        seed: int = 0,
        place: Place | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        report: Callable[[float, str], None] | None = None,
    ) -> MultimodalModel:
        """Learn from rows.

        Args:
            cells: by column, one a row.
            targets: a label (str or int) or, in regression, a number a row.
            seed: of the weights, the rows held out, their order and all that is random.
            place: how errors name a row; None: by its number, from 0.
            checkpoint: the file of a state to go on from, written every 20 seconds.
            resume: go on from it, to the same weights.
            report: told the share that is done, and a line.

        Raises:
            ValueError: a cell that is not of its column's kind, a row that has nothing, fewer than
                two classes, a checkpoint of another run.
        """
        place = place or "row {}".format
        number = self._check(cells, targets)
        cells = {name: cells[name] for name in self.kinds}
        self.targets = Targets.learn(targets, self.regression, place)
        wanted = self.targets.encode(targets)
        self.columns = {name: self._learn_column(name, cells[name], place) for name in self.kinds}
        rows = self._encode(cells, number, place)
        share, by_class = self.validation_fraction, not self.regression
        train_rows, held = train_validation_split(
            wanted, share, seed, "stratified" if by_class else "random"
        )
        torch.manual_seed(seed)
        self.network = self._make_network()
        recipe = Recipe(epochs=self.epochs or self._epochs(number), **self.recipe)

        def loss(logits: Tensor, numbers: np.ndarray) -> Tensor:
            return self.targets.loss(logits, wanted[train_rows[numbers]])

        def score() -> float:
            assert self.network is not None
            return self.targets.score(predict(self.network, _take(rows, held)), wanted[held])

        self.history_ = train(
            self.network,
            _take(rows, train_rows),
            loss,
            recipe,
            seed=seed,
            score=score if len(held) else None,
            checkpoint=checkpoint,
            resume=resume,
            note=_fingerprint(wanted, self.describe()),
            report=report,
        )
        if checkpoint is not None:
            remove_checkpoint(checkpoint)
        return self

    def logits(self, cells: Cells, place: Place | None = None) -> np.ndarray:
        """(rows, C) what the labels' probabilities come of; in regression (rows, 1) numbers.

        A column of the model that `cells` leaves out is missing in every row.

        Raises:
            ValueError: as `fit`.
        """
        known = {name: cells[name] for name in self.kinds if name in cells}
        if not known:
            raise ValueError(f"cells: has none of the model's columns {', '.join(self.kinds)}")
        number, network = self._check(known, None), self._trained()
        rows = self._encode(known, number, place or "row {}".format)
        found = predict(network, rows).astype(np.float64)
        if self.regression:
            return found * self.targets.scale + self.targets.centre
        return found

    def predict(self, cells: Cells, place: Place | None = None) -> list[Any]:
        """The most probable label of each row; in regression a number."""
        logits = self.logits(cells, place)
        return logits[:, 0].tolist() if self.regression else self.answers.labels(logits)

    def predict_proba(self, cells: Cells, place: Place | None = None) -> np.ndarray:
        """(rows, C) probabilities, columns as in `classes_`."""
        if self.regression:
            raise ValueError("predict_proba: a regression has no probabilities")
        return self.answers.probabilities(self.logits(cells, place))

    def evaluate(
        self, cells: Cells, targets: Sequence[Any], place: Place | None = None
    ) -> dict[str, float]:
        """accuracy, macro_f1 and balanced_accuracy; in regression r2, mae and rmse."""
        return self.targets.measures(self.logits(cells, place), targets)

    def explain(self, cells: Mapping[str, Any]) -> Explanation:
        """What each token of one row, {column: cell}, adds to each logit; the sum's alone."""
        self._trained()
        known = {name: [cells[name]] for name in self.kinds if name in cells}
        rows = self._encode(known, 1, "row {}".format)
        return explain(self, rows, cells)

    @property
    def classes_(self) -> list[Any]:
        """The labels, in the order of the columns of logits; none in regression."""
        return self.targets.classes

    @property
    def answers(self) -> LabelDecoder:
        return LabelDecoder(self.classes_)

    def save_pretrained(self, folder: str | Path) -> None:
        """config.json, model.safetensors, the tokenizers of texts, and README.md."""
        from hyperagg.multimodal.serialization import write

        write(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> MultimodalModel:
        """The model of a folder.

        Raises:
            ValueError: nothing there, a file missing or damaged, or another kind of model.
        """
        from hyperagg.multimodal.serialization import read

        return read(Path(folder))

    def describe(self) -> dict[str, Any]:
        """For config.json: all but the weights and the words."""
        return {
            "regression": self.regression,
            "d_model": self.d_model,
            "hidden": self.hidden,
            "rate": self.rate,
            "fusion": self.fusion,
            "epochs": self.epochs,
            "validation_fraction": self.validation_fraction,
            "recipe": self.recipe,
            "classes": self.classes_,
            "centre": self.targets.centre,
            "scale": self.targets.scale,
            "columns": {name: column.describe() for name, column in self.columns.items()},
        }

    def _learn_column(self, name: str, cells: Sequence[Any], place: Place) -> Column:
        if all(cell is None for cell in cells):
            raise ValueError(f"column {name!r}: is empty in every row; leave it out")
        own = _named(place, name)
        if self.kinds[name] == AudioColumn.kind:
            return AudioColumn(self.rate)
        return KINDS[self.kinds[name]].learn(cells, own)

    def _encode(self, cells: Cells, number: int, place: Place) -> Rows:
        encoded = {
            name: self.columns[name].encode(cells[name], _named(place, name)) for name in cells
        }
        rows = Rows(encoded, number)
        bare = np.flatnonzero(~rows.present.any(1))
        if len(bare):
            raise ValueError(
                f"{place(int(bare[0]))}: has nothing in any of {', '.join(map(repr, cells))} "
                f"({len(bare):,} of {number:,} rows): fill one of them, or remove the row"
            )
        return rows

    def _make_network(self) -> MultimodalNetwork:
        modalities = {
            name: column.modality(self.d_model, self.hidden)
            for name, column in self.columns.items()
        }
        encoder = make_encoder(self.fusion, self.d_model, modalities)
        return MultimodalNetwork(encoder, self.targets.outputs)

    def _trained(self) -> MultimodalNetwork:
        if self.network is None:
            raise ValueError("the model has not learned yet: call fit, or from_pretrained")
        return self.network

    def _epochs(self, rows: int) -> int:
        return min(MAX_EPOCHS, max(MIN_EPOCHS, -(-ROWS_TO_SEE // rows)))

    def _check(self, cells: Cells, targets: Sequence[Any] | None) -> int:
        if targets is not None:
            for name in self.kinds:
                if name not in cells:
                    raise ValueError(f"cells: has no column {name!r}; there are {list(cells)}")
        numbers = {name: len(cells[name]) for name in cells if name in self.kinds}
        if targets is not None:
            numbers["targets"] = len(targets)
        if len(set(numbers.values())) > 1:
            raise ValueError(f"cells: differ in how many rows there are: {numbers}")
        number = next(iter(numbers.values()))
        if not number:
            raise ValueError("cells: there are no rows; give at least one")
        return number


def _take(rows: Rows, numbers: np.ndarray) -> Rows:
    return Rows({name: _Chosen(cells, numbers) for name, cells in rows.cells.items()}, len(numbers))


class _Chosen:
    """Some of the rows of a column."""

    def __init__(self, cells: Any, numbers: np.ndarray) -> None:
        self.cells, self.numbers = cells, numbers
        self.present = cells.present[numbers]

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        return self.cells.batch(self.numbers[rows], rng)


def _named(place: Place, name: str) -> Place:
    return lambda row: f"{place(row)}, column {name!r}"


def _fingerprint(wanted: np.ndarray, described: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(wanted.tobytes()):08x} {zlib.crc32(repr(described).encode()):08x}"
