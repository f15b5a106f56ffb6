"""Attention and a transformer block as text classifiers, trained with PyTorch.

    logits  =  W mean_t mixer(e_1 ... e_n)_t + b

The tokens are those of `TextClassifier(max_ngrams=0)` and the validation rows are those of
`TextClassifier` with the same seed, so that a comparison compares models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal

import numpy as np

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError(
        "the baselines attention and transformer need PyTorch: pip install 'hyperagg[torch]'",
        name="torch",
    ) from error

from hyperagg._common.calibration import best_threshold, fit_temperature
from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.metrics import classification_metrics
from hyperagg._common.progress import progress_bar
from hyperagg._common.split import train_validation_split
from hyperagg._common.torch_random import seeded
from hyperagg._common.validation import check_choice, check_integer, check_real
from hyperagg.classifier.baselines.attention import (
    NUM_HEADS,
    AttentionMixer,
    PaddedMixer,
    TransformerMixer,
)
from hyperagg.classifier.training.labels import (
    check_labeled_texts,
    check_texts,
    encode_labels,
    first_classes,
    is_multi_label,
    unique_labels,
)
from hyperagg.text import Ragged, WordTokenizer

__all__ = ["NeuralClassifier", "NeuralModule"]

_MIXERS: dict[str, type[AttentionMixer] | type[TransformerMixer]] = {
    "attention": AttentionMixer,
    "transformer": TransformerMixer,
}
# Chosen on validation rows; docs/log.md lists the grids.
_EPOCHS = {"attention": 5, "transformer": 4}
_LEARNING_RATES = {"attention": 0.01, "transformer": 0.0005}
# Batches of similar length are formed within chunks of about this many tokens.
_TOKENS_PER_CHUNK = 200_000


class NeuralModule(nn.Module):
    """Map ragged rows of token ids to logits: embedding, mixer, linear head.

    Args:
        vocab_size: V, the number of token ids.
        num_classes: C.
        mixer: pools the token vectors of each row into one vector.
    """

    def __init__(self, vocab_size: int, num_classes: int, mixer: PaddedMixer) -> None:
        super().__init__()
        self.mixer = mixer
        self.embedding = nn.Parameter(torch.empty(vocab_size, mixer.d_model).uniform_(-0.05, 0.05))
        self.head = nn.Linear(mixer.d_model, num_classes)

    def forward(self, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Return the logits (B, C) of the rows token_ids[cu_seqlens[b] : cu_seqlens[b + 1]]."""
        return self.head(self.mixer(self.embedding, token_ids, cu_seqlens))


class NeuralClassifier:
    """Classify texts by one attention layer or one transformer block.

    SparseAdam updates the embedding and AdamW the other parameters, in batches of documents of
    similar length; the learning rate decreases linearly to 0. The weights of the epoch with the
    best score on the validation rows are kept, and the head is divided by the temperature that is
    best on them. With several labels per text, training takes twice as many epochs, without label
    smoothing.

    Args:
        architecture: "attention" or "transformer".
        d_model: embedding dimension D, a multiple of the 4 attention heads.
        max_words: maximum size of the vocabulary.
        max_tokens: number of tokens of each text that are read.
        epochs: passes over the training rows (default: 5 for attention, 4 for the transformer).
        learning_rate: initial learning rate (default: 0.01 for attention, 0.0005 for the
            transformer).
        label_smoothing: weight taken from the true class and spread over all classes.
        batch_size: documents per step.
        validation_fraction: fraction of the training rows that select the epoch.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        multi_label_: whether a text has any number of labels.
        model_: the `NeuralModule`.
        tokenizer_: the `WordTokenizer`.
        epoch_seconds_: seconds of training per epoch.
        validation_scores_: score on the validation rows after each epoch.
        best_epoch_: index of the epoch whose weights were kept.

    Numerics: float32. Equal seeds, data and numbers of threads give equal weights.

    Cost: O(n^2 D + n D^2) per text of n tokens.

    >>> clf = NeuralClassifier("attention", d_model=16, epochs=50)
    >>> clf.fit(["good film", "bad film"] * 20, ["yes", "no"] * 20).predict(["a good one"])
    ['yes']
    """

    def __init__(
        self,
        architecture: Literal["attention", "transformer"] = "attention",
        *,
        d_model: int = 256,
        max_words: int = 200_000,
        max_tokens: int = 512,
        epochs: int | None = None,
        learning_rate: float | None = None,
        label_smoothing: float = 0.1,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
    ) -> None:
        self.architecture = check_choice("architecture", architecture, _MIXERS)
        self.d_model = check_integer("d_model", d_model, 1)
        if self.d_model % NUM_HEADS:
            raise ValueError(f"d_model={d_model}: expected a multiple of {NUM_HEADS}, the heads")
        self.max_words = check_integer("max_words", max_words, 1)
        self.max_tokens = check_integer("max_tokens", max_tokens, 1)
        self.epochs = None if epochs is None else check_integer("epochs", epochs, 1)
        self.learning_rate = learning_rate
        if learning_rate is not None:
            self.learning_rate = check_real("learning_rate", learning_rate, 0, open_minimum=True)
        self.label_smoothing = check_real(
            "label_smoothing", label_smoothing, 0, 1, open_maximum=True
        )
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.validation_fraction = check_real(
            "validation_fraction", validation_fraction, 0, 1, open_maximum=True
        )

    def training_config(self, multi_label: bool = False) -> dict[str, Any]:
        """Return the effective epochs, learning rate, label smoothing and batch size."""
        epochs = self.epochs or _EPOCHS[self.architecture] * (1 + multi_label)
        return {
            "epochs": epochs,
            "learning_rate": self.learning_rate or _LEARNING_RATES[self.architecture],
            "label_smoothing": 0.0 if multi_label else self.label_smoothing,
            "batch_size": self.batch_size,
        }

    def fit(
        self, X: Iterable[str], y: Iterable[Any], *, seed: int = 0, progress: bool | None = None
    ) -> NeuralClassifier:
        """Learn from texts and their labels.

        Args:
            X: the texts.
            y: one label per text, str or int; or a list of labels per text.
            seed: determines the validation rows, the initial weights and the order of the rows.
            progress: show a progress bar (default: in a terminal or a notebook).

        Returns:
            self.

        Raises:
            ValueError, TypeError: invalid texts or labels, or a loss that is not finite.
        """
        texts, labels = check_labeled_texts(X, y)
        self.classes_: list[Label] = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y: {len(self.classes_)} class; expected at least 2")
        self.multi_label_ = is_multi_label(labels)
        self.tokenizer_ = WordTokenizer.train(texts, self.max_words)
        rows = self._encode(texts)
        targets = encode_labels(labels, self.classes_)
        training, validation = train_validation_split(
            first_classes(targets), self.validation_fraction, seed
        )
        truth = targets.indicators(len(self.classes_))
        with seeded(seed):
            mixer = _MIXERS[self.architecture](self.d_model)
            self.model_ = NeuralModule(len(self.tokenizer_), len(self.classes_), mixer)
        if self.multi_label_:
            # Starting from even odds would spend most of the first steps on unlearning them.
            counts = truth[training].sum(0)
            odds = (counts + 0.5) / (len(training) - counts + 0.5)
            with torch.no_grad():
                self.model_.head.bias.copy_(torch.from_numpy(np.log(odds)))
        with progress_bar(self.architecture, progress) as update:
            self._train(rows, truth, training, validation, seed, update)
        self._temperature, self._threshold = 1.0, 0.5
        if len(validation):
            self._calibrate(rows.take(validation), truth[validation])
        return self

    def _train(
        self,
        rows: Ragged,
        truth: np.ndarray,
        training: np.ndarray,
        validation: np.ndarray,
        seed: int,
        update: Callable[[float, str], None],
    ) -> None:
        config, model = self.training_config(self.multi_label_), self.model_
        epochs, initial_rate = config["epochs"], config["learning_rate"]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam([model.embedding], lr=initial_rate),
            torch.optim.AdamW(
                [p for p in model.parameters() if p is not model.embedding], lr=initial_rate
            ),
        ]
        targets = self._smoothed(truth, config["label_smoothing"])
        self.epoch_seconds_: list[float] = []
        self.validation_scores_: list[float] = []
        self.best_epoch_, best, status = epochs - 1, None, ""
        for epoch in range(epochs):
            started = time.perf_counter()
            order = training[np.random.default_rng([seed, epoch]).permutation(len(training))]
            for batch, fraction in _batches(order, rows.lengths, self.batch_size):
                progress = (epoch + fraction) / epochs
                update(progress, f"epoch {epoch + 1}/{epochs}{status}")
                for optimizer in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = initial_rate * (1 - progress)
                    optimizer.zero_grad()
                loss = self._loss(_forward(model, rows.take(batch)), targets[batch])
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"learning_rate={initial_rate}: the loss is not finite in epoch "
                        f"{epoch + 1}; expected a smaller learning rate"
                    )
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
            self.epoch_seconds_.append(time.perf_counter() - started)
            if len(validation):
                score = self._score(self._logits(rows.take(validation)), truth[validation])
                self.validation_scores_.append(score)
                status = f"  validation score {score:.4f}"
                if score >= max(self.validation_scores_):
                    self.best_epoch_, best = epoch, deepcopy(model.state_dict())
        if best is not None:
            model.load_state_dict(best)

    def _smoothed(self, truth: np.ndarray, smoothing: float) -> Tensor:
        spread = smoothing / (2 if self.multi_label_ else truth.shape[1])
        return torch.from_numpy(truth).float() * (1 - smoothing) + spread

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the documents."""
        if self.multi_label_:
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            return losses / len(logits)
        return F.cross_entropy(logits, targets)

    def _score(self, logits: np.ndarray, truth: np.ndarray) -> float:
        """Accuracy, or the best micro-F1 over all thresholds."""
        if self.multi_label_:
            return best_threshold(logits, truth)[1]
        return float(truth[np.arange(len(truth)), logits.argmax(1)].mean())

    def _calibrate(self, rows: Ragged, truth: np.ndarray) -> None:
        logits = self._logits(rows)
        self._temperature = fit_temperature(logits, truth, self.multi_label_)
        if self.multi_label_:
            probabilities = self._decoder.probabilities(logits / np.float32(self._temperature))
            self._threshold = best_threshold(probabilities, truth)[0]
        with torch.no_grad():
            for parameter in self.model_.head.parameters():
                parameter.div_(self._temperature)

    @property
    def _decoder(self) -> LabelDecoder:
        return LabelDecoder(self.classes_, self.multi_label_, self._threshold)

    def predict(self, X: Iterable[str]) -> list[Any]:
        """Return the most probable label of each text, or a tuple of labels if multi_label_."""
        return list(self._decoder.labels(self._logits(self._encode(check_texts(X)))))

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C) of the texts, columns as in `classes_`."""
        return self._decoder.probabilities(self._logits(self._encode(check_texts(X))))

    def evaluate(self, X: Iterable[str], y: Iterable[Any]) -> dict[str, float]:
        """Return the scores on labelled texts, under the keys of `TextClassifier.evaluate`."""
        texts, labels = check_labeled_texts(X, y)
        logits = self._logits(self._encode(texts))
        truth = encode_labels(labels, self.classes_).indicators(len(self.classes_))
        decoder = self._decoder
        return classification_metrics(
            decoder.decide(logits), truth, decoder.probabilities(logits), self.multi_label_
        )

    def num_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.model_.parameters())

    def _encode(self, texts: Sequence[str]) -> Ragged:
        return self.tokenizer_.encode(texts).truncate(self.max_tokens)

    def _logits(self, rows: Ragged) -> np.ndarray:
        out = np.empty((len(rows), len(self.classes_)), dtype=np.float32)
        with torch.inference_mode():
            order = np.arange(len(rows))
            for batch in _similar_lengths(order, rows.lengths, self.batch_size):
                out[batch] = _forward(self.model_, rows.take(batch)).numpy()
        return out


def _forward(model: NeuralModule, rows: Ragged) -> Tensor:
    return model(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))


def _batches(
    order: np.ndarray, lengths: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, float]]:
    """The batches of an epoch, each with the fraction of the epoch before it."""
    count = -(-len(order) // batch_size)
    chunks = max(1, min(count, int(lengths[order].sum()) // _TOKENS_PER_CHUNK))
    boundaries = [min(len(order), count * k // chunks * batch_size) for k in range(chunks + 1)]
    for first, last in zip(boundaries, boundaries[1:]):
        batches = _similar_lengths(order[first:last], lengths, batch_size)
        for i, batch in enumerate(batches):
            yield batch, (first + (last - first) * i / len(batches)) / len(order)


def _similar_lengths(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of documents of similar length, ordered by the first document of each in `order`."""
    by_length = np.argsort(lengths[order], kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches.sort(key=min)
    return [order[batch] for batch in batches]
