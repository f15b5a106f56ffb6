"""What a classifier has learned, as one value that its readers take once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.predictor import Predictor
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.training.labels import ClassWeight
from hyperagg.classifier.training.state import TrainingResult
from hyperagg.text import Tokenizer

__all__ = ["FittedState"]


@dataclass(frozen=True)
class FittedState:
    """All that a fit, `partial_fit` or a file determines.

    Training never changes a state: it makes another one and puts it in the place of the last. A
    reader that takes the state once therefore sees parameters, vocabulary and labels that belong
    together, whatever another thread does meanwhile.

    Args:
        tokenizer: converts texts to token ids.
        classes: the labels, in the order of their ids.
        result: the parameters, the history and what `partial_fit` continues from.
        multi_label: whether a text may have any number of labels instead of exactly one.
        class_weight: the factor of the loss of each class.
        scales: (V,) of a quantized embedding.
        stepped: whether the probabilities are the sigmoids of fastText.
    """

    tokenizer: Tokenizer
    classes: Sequence[Label]
    result: TrainingResult
    multi_label: bool = False
    class_weight: ClassWeight = None
    scales: np.ndarray | None = None
    stepped: bool = False

    @property
    def model(self) -> ClassifierModel:
        """The parameters."""
        assert self.result.model is not None
        return self.result.model

    @property
    def decoder(self) -> LabelDecoder:
        """What converts logits to probabilities and labels."""
        threshold = self.result.history.threshold
        return LabelDecoder(self.classes, self.multi_label, threshold, self.stepped)

    def problem(self, config: ClassifierConfig) -> Problem:
        """Return what the classifier learns."""
        return Problem(config, self.tokenizer, self.classes, self.multi_label, self.class_weight)

    def predictor(self, max_tokens: int | None) -> Predictor:
        """Return the part that predicts."""
        return Predictor(self.model, self.tokenizer, self.decoder, max_tokens)
