"""The classifier and the regressor of tables with text, numbers, categories, images and audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np

from hyperagg._common.calibration import calibrate
from hyperagg._common.evaluation import Evaluation, evaluate_logits
from hyperagg._common.hub import locate_model
from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.regression import RegressionEvaluation
from hyperagg._common.validation import check_real
from hyperagg.multimodal import serialization
from hyperagg.multimodal.base_estimator import Defaults, MultimodalEstimator, outputs, targets_of
from hyperagg.multimodal.batches import Rows
from hyperagg.multimodal.columns import AudioColumn, ImageColumn, RowName, TextColumn
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.explanation import VALUE
from hyperagg.multimodal.fitted import FittedState
from hyperagg.multimodal.history import History
from hyperagg.multimodal.table import Cells, read_cells
from hyperagg.multimodal.targets import ClassTarget, ContinuousTarget
from hyperagg.multimodal.trainer import predict as predict_logits

__all__ = ["MultimodalClassifier", "MultimodalRegressor", "load_multimodal"]


class MultimodalClassifier(MultimodalEstimator):
    """Classifies rows of several columns, any of which may be missing in any row.

    logits = W sum_m sum_t s_m e_mt * p_mt * v_m + b

    The sum runs over the modalities m that a row has, and over their tokens t. Everything nonlinear
    is in the tokens e_mt, so what each token adds to each logit is exact, see `explain`.

    Args:
        columns: the kind of each column by name: "text", "number", "category", "image" or "audio".
        d_model: dimension of the tokens and of their sum.
        hidden_dim: width of the perceptrons that image patches and audio frames pass through.
        sample_rate: of audio, in samples per second; files are resampled to it.
        fusion: "sum", or one of its baselines "concatenation" and "attention".
        epochs: passes over the rows; None: as many as see 300,000 rows, but 5 to 60. With neither
            images nor audio fewer, if the cross-entropy of the held-out rows has not improved for
            10 of them, and with a text as many as see 50,000, or until it has not improved for 3.
        learning_rate: the highest one of AdamW; after a short warm-up it falls to 0 along a cosine.
            None: 0.005.
        embedding_learning_rate: the highest one of Adagrad, which trains the embeddings of words.
            None: 0.02.
        batch_size: rows per step.
        weight_decay: of the weights of linear maps.
        dropout: fraction of the modalities that a training step leaves out; every row keeps one.
        augment: whether images and audio are varied at random in training.
        validation_fraction: fraction of the rows that is held out to choose the best epoch and the
            temperature, by which the logits are divided so that probabilities match frequencies;
            0: the last epoch counts, and nothing is divided.

    Cells are str for a text, int or float for a number, and str or int for a category. An image is
    a uint8 array (height, width) or (height, width, 3), or the path of a file; it is scaled down to
    32 pixels at most. An audio clip is an array (samples,) of int16, or of floats between -1 and 1,
    at `sample_rate`, or the path of a file. None and NaN are missing cells.

    Attributes:
        classes_: labels, in the order of the columns of `predict_proba`.
        columns_: what was learned about each column.
        network_: the PyTorch module.
        history_: loss and validation accuracy of each epoch, the temperature, and the calibration
            error on the held-out rows before and after it.

    Raises:
        ValueError, TypeError: an argument has the wrong type or is out of range.

    Numerics: float32; training is deterministic. Cost: O(n d) per row for n tokens, besides the
        perceptrons.

    >>> X = {"note": ["red and round", "long"] * 20, "weight": [150, None] * 20}
    >>> model = MultimodalClassifier({"note": "text", "weight": "number"}, d_model=16, epochs=5)
    >>> model = model.fit(X, ["apple", "banana"] * 20, progress=False)
    >>> model.predict({"note": "a red one"})
    'apple'
    """

    _model = "MultimodalClassifier"

    @property
    def target_(self) -> ClassTarget:
        """The labels, and what encodes them."""
        target: ClassTarget = self._fitted().target
        return target

    @property
    def classes_(self) -> list[Label]:
        """Labels, in the order of the columns of `predict_proba`."""
        return list(self.target_.classes)

    def logits(self, X: Any) -> np.ndarray:
        """Return the logits of each row.

        Args:
            X: a table as for `fit`; a column of the model that it lacks is missing in every row. A
                mapping of plain values is a single row.

        Returns:
            (rows, C) float64, or (C,) for a single row.

        Raises:
            ValueError, TypeError: a cell is not valid, or a row has not a single value.
        """
        cells = read_cells(X, self.columns)
        logits = outputs(self._fitted(), cells)
        return logits[0] if cells.single else logits

    def predict(self, X: Any, top_k: int | None = None, threshold: float | None = None) -> Any:
        """Return the most probable label of each row.

        Args:
            X: as for `logits`.
            top_k: return for each row a list of that many pairs (label, probability) instead, the
                most probable first.
            threshold: return for each row the list of the labels whose probability is above it, or
                with `top_k` of the pairs, the most probable first.

        Returns:
            a list with one entry per row, or the entry of a single row.
        """
        state, cells = self._fitted(), read_cells(X, self.columns)
        found = _decoder(state).labels(outputs(state, cells), top_k, threshold)
        return found[0] if cells.single else found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Args:
            X: as for `logits`.

        Returns:
            (rows, C) with columns as in `classes_`, or (C,) for a single row.
        """
        state, cells = self._fitted(), read_cells(X, self.columns)
        probabilities = _decoder(state).probabilities(outputs(state, cells))
        return probabilities[0] if cells.single else probabilities

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:
        """Return "accuracy", "macro_f1" and "expected_calibration_error".

        Args:
            X: as for `logits`.
            y: one label per row. One that the model does not have counts as an error.
        """
        return self.evaluation(X, y).metrics

    def evaluation(self, X: Any, y: Any) -> Evaluation:
        """Compare the predictions with known labels: the metrics, the scores of each class, the
        confusion matrix and the worst errors.

        Args:
            X, y: as for `evaluate`.
        """
        state, cells = self._fitted(), read_cells(X, self.columns)
        labels = state.target.check_labels(targets_of(cells, y, "y"), "y")
        return evaluate_logits(_decoder(state), outputs(state, cells), labels)

    @property
    def decoder(self) -> LabelDecoder:
        """What turns logits into probabilities and labels."""
        return _decoder(self._fitted())

    def _defaults(self) -> Defaults:
        kinds = set(self.columns.values())
        if kinds & {ImageColumn.kind, AudioColumn.kind}:
            return Defaults()
        # Words and n-grams soon know the training rows by heart.
        return Defaults(50_000, patience=3) if TextColumn.kind in kinds else Defaults(patience=10)

    def _fit_target(self, y: list[Any], row_name: RowName) -> ClassTarget:
        return ClassTarget.fit(y, row_name)

    def _calibrate(
        self, network: MultimodalNetwork, history: History, rows: Rows, encoded: np.ndarray
    ) -> None:
        logits = predict_logits(network, rows)
        truth = encoded[:, None] == np.arange(logits.shape[1])
        found = calibrate(logits, truth, multi_label=False)
        network.divide_head(found.temperature)
        history.temperature = found.temperature
        history.expected_calibration_error = found.expected_calibration_error

    def _output_scale(self, target: ClassTarget) -> dict[str, Any]:
        return {"classes": list(target.classes)}

    def _summary(self, target: ClassTarget) -> tuple[str, str, list[str]]:
        classes = ", ".join(map(repr, target.classes[:10]))
        more = len(target.classes) - 10
        facts = [f"classes: {classes}" + (f" and {more} more" if more > 0 else "")]
        return f"one of {len(target.classes)} labels", "accuracy", facts

    @classmethod
    def _read_target(cls, config: Mapping[str, Any]) -> ClassTarget:
        classes = config["classes"]
        if (
            not isinstance(classes, list)
            or not all(isinstance(label, str | int) for label in classes)
            or len(set(classes)) != len(classes)
            or len(classes) < 2
        ):
            raise ValueError("classes: expected a list of two or more distinct labels")
        return ClassTarget(tuple(classes))


class MultimodalRegressor(MultimodalEstimator):
    """Predicts a continuous target of rows of several columns, any of which may be missing.

    value = std (w sum_m sum_t s_m e_mt * p_mt * v_m + b) + mean

    The mean and the standard deviation are those of the training targets; the loss is the squared
    error.

    Args:
        columns: the kind of each column by name: "text", "number", "category", "image" or "audio".

    The other arguments, the cells and the attributes are those of `MultimodalClassifier`, but for
    `classes_`. The validation score is R². With a text among the columns, the defaults differ:
    learning_rate 0.001, embedding_learning_rate 0.01, and as many epochs as see 20,000 rows, fewer
    if R² has not improved for 3 of them.

    >>> X = {"width": [1.0, 2.0, 3.0, 4.0] * 20}
    >>> model = MultimodalRegressor({"width": "number"}, d_model=16, epochs=60, learning_rate=0.02)
    >>> model = model.fit(X, [1.0, 4.0, 9.0, 16.0] * 20, progress=False)
    >>> 7 < model.predict({"width": 3.0}) < 11
    True
    """

    _model = "MultimodalRegressor"

    @property
    def target_(self) -> ContinuousTarget:
        """The mean and the standard deviation of the training targets."""
        target: ContinuousTarget = self._fitted().target
        return target

    def predict(self, X: Any) -> Any:
        """Return the predicted value of each row.

        Args:
            X: a table as for `fit`; a column of the model that it lacks is missing in every row. A
                mapping of plain values is a single row.

        Returns:
            (rows,) float64, or a float for a single row.

        Raises:
            ValueError, TypeError: a cell is not valid, or a row has not a single value.
        """
        cells = read_cells(X, self.columns)
        values = _values(self._fitted(), cells)
        return float(values[0]) if cells.single else values

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:
        """Return "r2", "mae" and "rmse": R², mean absolute and root mean squared error.

        R² of a constant target is 1 if every prediction is right and 0 otherwise, as in
        scikit-learn.

        Args:
            X: as for `predict`.
            y: one finite number per row.
        """
        return self.evaluation(X, y).metrics

    def evaluation(self, X: Any, y: Any) -> RegressionEvaluation:
        """Compare the predictions with known values: the metrics, their standard errors, the
        residuals and the worst rows.

        Args:
            X, y: as for `evaluate`.
        """
        state, cells = self._fitted(), read_cells(X, self.columns)
        truth = state.target.values(targets_of(cells, y, "y"), "y")
        return RegressionEvaluation(_values(state, cells), truth)

    def _defaults(self) -> Defaults:
        if TextColumn.kind not in self.columns.values():
            return Defaults()
        # Words and n-grams by the ten thousands soon fit the noise of a few thousand values.
        return Defaults(20_000, patience=3, learning_rate=1e-3, embedding_learning_rate=0.01)

    def _fit_target(self, y: list[Any], row_name: RowName) -> ContinuousTarget:
        return ContinuousTarget.fit(y, row_name)

    def _row_weights(
        self, class_weight: Any, sample_weight: Any, target: Any, encoded: np.ndarray
    ) -> np.ndarray | None:
        if class_weight is not None:
            raise ValueError(
                f"class_weight={shorten(class_weight)}: expected None, because a regressor has no "
                "classes; use sample_weight"
            )
        return super()._row_weights(None, sample_weight, target, encoded)

    def _output_scale(self, target: ContinuousTarget) -> dict[str, Any]:
        return {"classes": [VALUE], "offset": target.mean, "scale": target.std}

    def _summary(self, target: ContinuousTarget) -> tuple[str, str, list[str]]:
        return "a continuous target", "R²", []

    @classmethod
    def _read_target(cls, config: Mapping[str, Any]) -> ContinuousTarget:
        mean = check_real("target.mean", config["mean"])
        return ContinuousTarget(mean, check_real("target.std", config["std"], 0, open_minimum=True))


def _decoder(state: FittedState) -> LabelDecoder:
    return LabelDecoder(list(state.target.classes))


def _values(state: FittedState, cells: Cells) -> np.ndarray:
    """(rows,) the predicted values."""
    values: np.ndarray = outputs(state, cells)[:, 0] * state.target.std + state.target.mean
    return values


def load_multimodal(
    folder_or_hub_id: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> MultimodalClassifier | MultimodalRegressor:
    """Load a `MultimodalClassifier` or a `MultimodalRegressor`, whichever was saved.

    Args:
        folder_or_hub_id, revision, token: as for `MultimodalClassifier.from_pretrained`.

    Raises:
        ValueError: the model does not exist, or a file is missing or damaged.
    """
    saved = serialization.read(locate_model(folder_or_hub_id, revision=revision, token=token))
    if saved.model == MultimodalClassifier._model:
        return MultimodalClassifier._from_saved(saved)
    return MultimodalRegressor._from_saved(saved)
