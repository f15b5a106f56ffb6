"""What the multimodal classifier and regressor share: arguments, training, saving and loading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hyperagg._common.checkpoint import check_checkpoint, digest_arrays, remove_checkpoint
from hyperagg._common.hub import locate_model, push_folder
from hyperagg._common.label_decoder import Label
from hyperagg._common.model_card import model_card
from hyperagg._common.progress import progress_bar
from hyperagg._common.representation import represent
from hyperagg._common.saved_files import check_dimensions, check_tensors, raise_as_corrupt
from hyperagg._common.split import train_validation_split
from hyperagg._common.tensors import digest_texts
from hyperagg._common.torch_random import seeded
from hyperagg._common.validation import (
    check_bool,
    check_choice,
    check_integer,
    check_output_folder,
    check_real,
    check_seed,
)
from hyperagg.multimodal import serialization
from hyperagg.multimodal.batches import Rows, encode_rows
from hyperagg.multimodal.columns import (
    COLUMN_TYPES,
    AudioColumn,
    Column,
    RowName,
    TextColumn,
)
from hyperagg.multimodal.columns.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from hyperagg.multimodal.columns.base import is_missing
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.explanation import Explanation, explain
from hyperagg.multimodal.fitted import FittedState
from hyperagg.multimodal.fusion import FUSIONS, make_encoder
from hyperagg.multimodal.history import History
from hyperagg.multimodal.table import Cells, as_list, read_cells
from hyperagg.multimodal.targets import (
    ClassTarget,
    ContinuousTarget,
    class_weights,
    sample_weights,
)
from hyperagg.multimodal.trainer import Progress, TrainingConfig, train
from hyperagg.multimodal.trainer import predict as predict_logits

__all__ = ["Defaults", "MultimodalEstimator", "outputs", "targets_of"]

MIN_EPOCHS, MAX_EPOCHS = 5, 60

_MAX_DIMENSION, _MAX_COUNT = 2**16, 2**31 - 1


@dataclass(frozen=True)
class Defaults:
    """What an estimator uses for arguments that are not given.

    Args:
        rows_to_see: number of rows that all epochs together make training see.
        patience: number of epochs without a better one after which training ends;
            None: it does not.
        learning_rate, embedding_learning_rate: see `MultimodalClassifier`.
    """

    rows_to_see: int = 300_000
    patience: int | None = None
    learning_rate: float = 5e-3
    embedding_learning_rate: float = 0.02


class MultimodalEstimator:
    """What the classifier and the regressor share: everything but the meaning of the outputs."""

    _model: ClassVar[str]  # the name in config.json, for subclasses as well

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        d_model: int = 128,
        hidden_dim: int = 128,
        sample_rate: int = 8000,
        fusion: str = "sum",
        epochs: int | None = None,
        learning_rate: float | None = None,
        embedding_learning_rate: float | None = None,
        batch_size: int = 64,
        weight_decay: float = 0.01,
        dropout: float = 0.2,
        augment: bool = True,
        validation_fraction: float = 0.1,
    ) -> None:
        if not isinstance(columns, Mapping):
            raise TypeError(f"columns={shorten(columns)}: expected a mapping from name to kind")
        if not columns:
            raise ValueError("columns={}: expected at least one column")
        for name, kind in columns.items():
            if not isinstance(name, str):
                raise TypeError(f"columns: {shorten(name)}: expected a str as the name of a column")
            check_choice(f"columns[{name!r}]", kind, COLUMN_TYPES)
        self.columns = dict(columns)
        self.d_model = check_integer("d_model", d_model, 1, _MAX_DIMENSION)
        self.hidden_dim = check_integer("hidden_dim", hidden_dim, 1, _MAX_DIMENSION)
        self.sample_rate = check_integer(
            "sample_rate", sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE
        )
        self.fusion = check_choice("fusion", fusion, FUSIONS)
        self.epochs = None if epochs is None else check_integer("epochs", epochs, 1)
        self.learning_rate = _check_rate("learning_rate", learning_rate)
        self.embedding_learning_rate = _check_rate(
            "embedding_learning_rate", embedding_learning_rate
        )
        self.batch_size = check_integer("batch_size", batch_size, 1, _MAX_COUNT)
        self.weight_decay = check_real("weight_decay", weight_decay, 0)
        self.dropout = check_real("dropout", dropout, 0, 1, open_maximum=True)
        self.augment = check_bool("augment", augment)
        self.validation_fraction = check_real(
            "validation_fraction", validation_fraction, 0, 1, open_maximum=True
        )
        self._checkpoint: Path | None = None  # of the last fit, until the model is saved
        self._state: FittedState | None = None

    def __repr__(self) -> str:
        return represent(self, {"columns": self.columns, **self._arguments()})

    @property
    def columns_(self) -> dict[str, Column]:
        """What was learned about each column; {} before the first fit."""
        state = self._state
        return {} if state is None else dict(state.columns)

    @property
    def network_(self) -> MultimodalNetwork | None:
        """The PyTorch module; None before the first fit."""
        state = self._state
        return None if state is None else state.network

    @property
    def history_(self) -> History:
        """The course of the last fit: losses, validation scores, and the calibration."""
        state = self._state
        return History() if state is None else state.history

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        class_weight: Literal["balanced"] | Mapping[Label, float] | None = None,
        sample_weight: Any = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool | None = None,
        callbacks: Sequence[Callable[[Progress], Any]] = (),
    ) -> Self:
        """Learn from the rows of a table.

        Args:
            X: one sequence of cells per column: a mapping, a table of pandas, polars or Arrow, or
                what `hyperagg.data.readers.table.read_table` returns. It must have every column of
                the model; others are ignored. A missing cell is None or NaN.
            y: one target per row.
            validation: a pair (X, y) of rows by which the best epoch is chosen and the
                probabilities of a classifier are calibrated; None: a part of the rows is held out
                for it, see `validation_fraction`.
            class_weight: for the classifier, factors of the loss of the rows of each class, as
                {label: weight} with 1 for the labels that are not named; "balanced": in inverse
                proportion to the number of rows of the class.
            sample_weight: one factor >= 0 of the loss per row, on average best 1. Validation
                scores are not weighted.
            seed: of the initial weights, the rows that are held out, their order, dropout and
                augmentation; the same seed, data and arguments give the same weights.
            checkpoint: a file that holds the state of training, written every 20 seconds and
                after an interruption. `save_pretrained` removes it once the model is saved.
            resume: whether to continue from the checkpoint, to the same weights, if it exists. A
                checkpoint of other cells, targets, weights or arguments is refused.
            progress: whether a progress bar is shown; None: in a terminal and in a notebook, and
                elsewhere lines of the logger "hyperagg" at level INFO.
            callbacks: functions that are called with a `Progress` after every step.

        Returns:
            self.

        Raises:
            ValueError, TypeError: an argument or a cell is not valid; the error names the row and
                the column. A fit that fails leaves the model as it was.
        """
        seed, resume = check_seed(seed), check_bool("resume", resume)
        file = check_checkpoint(checkpoint, resume)
        if progress is not None:
            progress = check_bool("progress", progress)
        callbacks = _check_callbacks(callbacks)
        cells = read_cells(X, self.columns, required=self.columns)
        targets = targets_of(cells, y, "y")
        target = self._fit_target(targets, cells.row_name)
        encoded = target.encode(targets, "y")
        weights = self._row_weights(class_weight, sample_weight, target, encoded)
        if validation is not None:
            held_out, held_out_targets = self._check_validation(validation, target)
        # Files are read from here on.
        columns = {
            name: self._fit_column(name, cells.columns[name], cells.cell_name(name))
            for name in self.columns
        }
        rows = encode_rows(columns, cells)
        if validation is None:
            strategy: Literal["stratified", "random"] = (
                "stratified" if target.stratified else "random"
            )
            kept, held = train_validation_split(encoded, self.validation_fraction, seed, strategy)
            train_rows, train_targets = rows.take(kept), encoded[kept]
            validation_rows, validation_targets = rows.take(held), encoded[held]
            weights = None if weights is None else weights[kept]
        else:
            train_rows, train_targets = rows, encoded
            validation_rows, validation_targets = encode_rows(columns, held_out), held_out_targets
        network = self._make_network(columns, target, seed)

        def loss(logits: Tensor, indices: np.ndarray) -> Tensor:
            own = None if weights is None else weights[indices]
            return target.loss(logits, train_targets[indices], own)

        def validate() -> tuple[float, float]:
            logits = predict_logits(network, validation_rows)
            score = target.score(logits, validation_targets)
            return score, target.criterion(logits, validation_targets)

        with progress_bar("training", progress) as update:

            def report(state: Progress) -> None:
                update(state.fraction, _status(state))
                for callback in callbacks:
                    callback(state)

            course = train(
                network,
                train_rows,
                loss,
                self._training_config(cells.num_rows),
                seed=seed,
                validate=validate if len(validation_rows) else None,
                checkpoint=file,
                resume=resume,
                # Without a checkpoint nothing is compared, so nothing need be read once more.
                identity={}
                if file is None
                else {
                    **self._arguments(),
                    "columns": _digest({n: c.to_config() for n, c in columns.items()}),
                    "data": digest_arrays(train_rows.arrays()),
                    "validation data": digest_arrays(validation_rows.arrays()),
                    "targets": _digest(
                        [asdict(target), digest_arrays([train_targets, validation_targets])]
                    ),
                    "weights": None if weights is None else digest_arrays([weights]),
                },
                report=report,
            )
        history = History(**asdict(course), num_validation=len(validation_rows))
        if len(validation_rows):
            self._calibrate(network, history, validation_rows, validation_targets)
        self._state = FittedState(columns, target, network, history)
        self._checkpoint = file
        return self

    def explain(self, X: Any) -> Explanation | list[Explanation]:
        """Return what each token of each row adds to each output. It is exact.

        Args:
            X: as for `predict`.

        Returns:
            one explanation per row, or the explanation of a single row.

        Raises:
            ValueError: the fusion is not "sum", or as in `predict`.
        """
        state, cells = self._fitted(), read_cells(X, self.columns)
        rows = encode_rows(state.columns, cells)

        def explain_row(i: int) -> Explanation:
            def token_names(name: str, num_tokens: int) -> list[str]:
                return state.columns[name].token_names(cells.columns[name][i], num_tokens)

            batch, scale = rows.batch(np.array([i])), self._output_scale(state.target)
            texts = {}
            for name, column in state.columns.items():
                if name in batch and isinstance(column, TextColumn):
                    text = cells.columns[name][i]
                    texts[name] = text, column.tokenizer.align(text)
            return explain(state.network, batch, token_names=token_names, texts=texts, **scale)

        explanations = [explain_row(i) for i in range(cells.num_rows)]
        return explanations[0] if cells.single else explanations

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder: config.json, model.safetensors, tokenizers, README.md.

        The checkpoint of its training is removed then.

        Raises:
            ValueError: the model is not trained, or the folder cannot be written to.
        """
        self._write(folder)
        if self._checkpoint is not None:
            remove_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _write(self, folder: str | Path) -> None:
        state, folder = self._fitted(), check_output_folder(folder)
        config = {
            "arguments": self._arguments(),
            "columns": {name: column.to_config() for name, column in state.columns.items()},
            "target": asdict(state.target),
            "history": asdict(state.history),
        }
        tokenizers = {
            index: column.tokenizer.to_json()
            for index, column in enumerate(state.columns.values())
            if isinstance(column, TextColumn)
        }
        tensors = {name: value.numpy() for name, value in state.network.state_dict().items()}
        card = self._model_card(folder.resolve().name, state)
        serialization.write(folder, self._model, config, tokenizers, tensors, card)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a model from a folder that `save_pretrained` wrote, or from the Hugging Face Hub.

        Args:
            folder_or_hub_id: a folder, or a repository id "owner/name".
            revision: the branch, tag or commit of the repository (default: the main branch).
            token: the access token (default: the one that `hf auth login` saved).

        Raises:
            ValueError: the model does not exist, a file is missing or damaged, or the folder holds
                another kind of model.
            ImportError: an id was given and huggingface_hub is not installed.
        """
        saved = serialization.read(locate_model(folder_or_hub_id, revision=revision, token=token))
        if saved.model != cls._model:
            raise ValueError(f"{saved.path}: holds a {saved.model}; expected a {cls._model}")
        return cls._from_saved(saved)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str = "Upload model",
    ) -> str:
        """Upload the model to the Hugging Face Hub.

        Args:
            repo_id: the repository "owner/name"; it is created if it does not exist.
            revision: the branch to commit to (default: the main branch).
            token: the access token (default: the one that `hf auth login` saved).
            private: whether a new repository is private (default: the owner's setting).
            commit_message: the message of the commit.

        Returns:
            the URL of the commit.

        Raises:
            ValueError: the model is not trained.
            ImportError: huggingface_hub is not installed.
        """
        self._fitted()
        return push_folder(
            self._write,
            repo_id,
            revision=revision,
            token=token,
            private=private,
            commit_message=commit_message,
        )

    def _fit_target(self, y: list[Any], row_name: RowName) -> ClassTarget | ContinuousTarget:
        raise NotImplementedError

    def _row_weights(
        self, class_weight: Any, sample_weight: Any, target: Any, encoded: np.ndarray
    ) -> np.ndarray | None:
        """(rows,) factors of the loss; None if all are 1, which gives the same bits faster."""
        factors = []
        if class_weight is not None:
            factors.append(class_weights(class_weight, target, encoded))
        if sample_weight is not None:
            factors.append(sample_weights(sample_weight, len(encoded)))
        weights = np.prod(factors, 0) if factors else np.ones(1)
        return None if (weights == 1).all() else weights

    def _calibrate(
        self, network: MultimodalNetwork, history: History, rows: Rows, encoded: np.ndarray
    ) -> None:
        """Fit what turns outputs into probabilities on held-out rows."""

    def _output_scale(self, target: Any) -> dict[str, Any]:
        """The arguments of `explain` that say what the outputs are."""
        raise NotImplementedError

    def _summary(self, target: Any) -> tuple[str, str, list[str]]:
        """What the model predicts, the measure of its validation score, and more facts."""
        raise NotImplementedError

    def _fit_column(self, name: str, cells: Sequence[Any], row_name: RowName) -> Column:
        if all(is_missing(cell) or (isinstance(cell, str) and not cell.strip()) for cell in cells):
            raise ValueError(f"X: column {name!r} is empty in every row; leave it out of columns")
        if self.columns[name] == AudioColumn.kind:
            return AudioColumn(self.sample_rate)
        column: Column = COLUMN_TYPES[self.columns[name]].fit(cells, row_name)
        return column

    def _check_validation(self, validation: Any, target: Any) -> tuple[Cells, np.ndarray]:
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise TypeError(f"validation={shorten(validation)}: expected a pair (X, y)")
        cells = read_cells(validation[0], self.columns)
        targets = targets_of(cells, validation[1], "validation y")
        return cells, target.encode(targets, "validation y")

    def _fitted(self) -> FittedState:
        """The state; what needs several parts of it takes it once, since another thread may be
        training."""
        state = self._state
        if state is None:
            raise ValueError(
                f"this {type(self).__name__} is not trained: call fit or from_pretrained first"
            )
        return state

    def _make_network(
        self, columns: Mapping[str, Column], target: Any, seed: int = 0
    ) -> MultimodalNetwork:
        with seeded(seed):
            modalities = {
                name: column.make_modality(self.d_model, self.hidden_dim)
                for name, column in columns.items()
            }
            encoder = make_encoder(self.fusion, self.d_model, modalities)
            return MultimodalNetwork(encoder, target.num_outputs)

    def _defaults(self) -> Defaults:
        return Defaults()

    def _training_config(self, num_rows: int) -> TrainingConfig:
        defaults = self._defaults()
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, -(-defaults.rows_to_see // num_rows)))
        return TrainingConfig(
            epochs=self.epochs or epochs,
            patience=defaults.patience if self.epochs is None else None,
            learning_rate=self.learning_rate or defaults.learning_rate,
            embedding_learning_rate=self.embedding_learning_rate
            or defaults.embedding_learning_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            augment=self.augment,
        )

    def _arguments(self) -> dict[str, Any]:
        """The arguments of the constructor other than `columns`."""
        names = (
            "d_model",
            "hidden_dim",
            "sample_rate",
            "fusion",
            "epochs",
            "learning_rate",
            "embedding_learning_rate",
            "batch_size",
            "weight_decay",
            "dropout",
            "augment",
            "validation_fraction",
        )
        return {name: getattr(self, name) for name in names}

    def _model_card(self, title: str, state: FittedState) -> str:
        predicts, measure, facts = self._summary(state.target)
        columns = ", ".join(f"{name} ({kind})" for name, kind in self.columns.items())
        parameters = sum(p.numel() for p in state.network.parameters())
        if scores := state.history.score:
            best = scores[state.history.best_epoch]
            facts = [*facts, f"{measure} on the validation rows: {best:z.4f}"]
        if errors := state.history.expected_calibration_error:
            facts = [*facts, f"expected calibration error there: {errors[1]:.4f}"]
        name = self._model
        return model_card(
            title,
            f"Predicts {predicts} from any of the columns {columns}. Trained with hyperagg.",
            {"tags": ["multimodal", "tabular"]},
            [*facts, f"fusion: {self.fusion}", f"parameters: {parameters:,}"],
            f"from hyperagg import {name}\n\nmodel = {name}.from_pretrained({title!r})",
        )

    @classmethod
    def _from_saved(cls, saved: serialization.SavedModel) -> Self:
        config = saved.config
        with raise_as_corrupt(saved.path, "config.json"):
            kinds = {name: column["kind"] for name, column in config["columns"].items()}
            model = cls(kinds, **config["arguments"])
            target = cls._read_target(config["target"])
            history = History.from_config(config["history"])
        columns: dict[str, Column] = {}
        for index, (name, column) in enumerate(config["columns"].items()):
            file = f"tokenizer-{index}.json" if kinds[name] == "text" else "config.json"
            with raise_as_corrupt(saved.path, file):
                columns[name] = COLUMN_TYPES[kinds[name]].from_config(column)
        with raise_as_corrupt(saved.path, "model.safetensors"):
            sizes = {"d_model": model.d_model, "outputs": target.num_outputs}
            if not {"image", "audio"}.isdisjoint(kinds.values()):  # others do not use it
                sizes["hidden_dim"] = model.hidden_dim
            check_dimensions(saved.tensors, sizes)
            with torch.device("meta"):  # shapes alone
                expected = model._make_network(columns, target).state_dict()
            check_tensors(
                saved.tensors,
                {name: (tuple(value.shape), "float32") for name, value in expected.items()},
            )
            tensors = saved.load_tensors()
            network = model._make_network(columns, target)
            network.load_state_dict(
                {name: torch.from_numpy(array) for name, array in tensors.items()}
            )
        model._state = FittedState(columns, target, network.eval(), history)
        return model

    @classmethod
    def _read_target(cls, config: Mapping[str, Any]) -> ClassTarget | ContinuousTarget:
        raise NotImplementedError


def _check_rate(name: str, value: Any) -> float | None:
    return None if value is None else check_real(name, value, 0, open_minimum=True)


def outputs(state: FittedState, cells: Cells) -> np.ndarray:
    """Return (rows, outputs) float64, not yet scaled as the targets are."""
    return predict_logits(state.network, encode_rows(state.columns, cells)).astype(np.float64)


def targets_of(cells: Cells, y: Any, name: str) -> list[Any]:
    targets = as_list(y, name)
    if len(targets) != cells.num_rows:
        raise ValueError(
            f"{name}: expected one target per row, got {len(targets):,} for {cells.num_rows:,}"
        )
    return targets


def _status(state: Progress) -> str:
    score = state.validation_score
    validation = "" if score is None else f"  validation {score:z.4f}"
    return f"epoch {state.epoch + 1}/{state.epochs}  loss {state.loss:.3f}{validation}"


def _check_callbacks(callbacks: Any) -> tuple[Callable[[Progress], Any], ...]:
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str | bytes):
        raise TypeError(f"callbacks={shorten(callbacks)}: expected a list of functions")
    functions = tuple(callbacks)
    for function in functions:
        if not callable(function):
            raise TypeError(f"callbacks: {shorten(function)}: expected functions")
    return functions


def _digest(config: Any) -> str:
    return digest_texts([repr(config)])
