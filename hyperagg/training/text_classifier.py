"""Text in, labels out: the estimator around tokenizer, model and training loop."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

from hyperagg.models.attention import AttentionMixer, TransformerMixer
from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.text import HubTokenizer, Ragged, Tokenizer, WordTokenizer, is_gram, read_tokenizer
from hyperagg.training import model_folder
from hyperagg.training.explanation import Explanation, explain, telling_tokens
from hyperagg.training.loop import History, Labelled, hold_out, train
from hyperagg.training.progress import training_bar
from hyperagg.training.rates import row_rates
from hyperagg.training.running import RunningDocument
from hyperagg.training.steppers import Recipe, make_stepper, predict_logits, softmax

__all__ = ["MIXERS", "ClassifierConfig", "TextClassifier"]

Label = str | int
MixerName = Literal["aggregation", "attention", "transformer"]

MIXERS: dict[str, type[nn.Module]] = {
    "aggregation": AggregationMixer,
    "attention": AttentionMixer,
    "transformer": TransformerMixer,
}
# Each found on a held-out part of r52's training rows; docs/log.md has the grids.
RECIPES = {
    "aggregation": Recipe(epochs=10, learning_rate=0.03),
    "attention": Recipe(epochs=5, learning_rate=0.01),
    "transformer": Recipe(epochs=4, learning_rate=0.0005),
}


@dataclass(frozen=True)
class ClassifierConfig:
    """What a `TextClassifier` is made of; saved as config.json.

    Args:
        mixer: "aggregation", or one of its rivals "attention" and "transformer".
        d_model: the dimension of the embedding.
        max_words: the most frequent words that are kept.
        min_count: uses in the training texts below which a word is not kept.
        max_grams: as many pairs of neighbouring words, beginnings and endings of long words are
            tokens as well; see `WordTokenizer`. Rivals have none.
        max_tokens: what of a text is read; None: all of it, however long. Rivals read 512, since
            their time grows with the square.
        epochs, learning_rate, label_smoothing, batch_size: see `Recipe`; None: what is best for
            the mixer.
        validation_share: the part of the training rows that is held out, when none is given to
            `fit`, to tell which epoch was best.
    """

    mixer: MixerName = "aggregation"
    d_model: int = 128
    max_words: int = 200_000
    min_count: int = 1
    max_grams: int = 300_000
    max_tokens: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    label_smoothing: float | None = None
    batch_size: int | None = None
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.mixer, str) or self.mixer not in MIXERS:
            raise ValueError(f"mixer={shorten(self.mixer)}: there are {', '.join(MIXERS)}")
        optional = {f.name for f in fields(self) if f.default is None}
        whole = ("d_model", "max_words", "min_count", "max_tokens", "epochs", "batch_size")
        for name in (*whole, "max_grams"):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            least = 0 if name == "max_grams" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={shorten(value)}: give a whole number, {least} or more")
        for name in ("learning_rate", "label_smoothing", "validation_share"):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(value, float | int):
                raise TypeError(f"{name}={shorten(value)}: give a number")
            if name == "learning_rate":
                if not 0 < value < float("inf"):
                    raise ValueError(f"{name}={value}: give a finite number above 0")
            elif not 0 <= value < 1:
                raise ValueError(f"{name}={value}: give 0 or more, below 1")

    def recipe(self) -> Recipe:
        given = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        return replace(RECIPES[self.mixer], **{k: v for k, v in given.items() if v is not None})


class TextClassifier:
    """Classifies texts by aggregation: logits = W n^-1/2 sum_t e_t * p_t + b.

    The sum is over a text's words, pairs of neighbours, and beginnings and endings of long words.

    Every argument of `ClassifierConfig` may be given by name. `tokenizer` is a tokenizer of the
    Hugging Face `tokenizers` library; without one the words and grams of the training texts are
    used.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        history_: loss, validation accuracy and seconds of each epoch of the last `fit`.

    Numerics: float32. Cost: O(n d) a text to learn or to classify, any length.

    >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> clf.predict(["a good one"])
    ['yes']
    """

    def __init__(self, *, tokenizer: Any = None, **config: Any) -> None:
        known = {f.name for f in fields(ClassifierConfig)}
        for name in config:
            if name not in known:
                raise TypeError(f"{name}: no such argument; there are {', '.join(sorted(known))}")
        if config.get("mixer", "aggregation") != "aggregation":
            config = {"max_tokens": 512, "max_grams": 0, "d_model": 256, **config}
        self.config = ClassifierConfig(**config)
        self.classes_: list[Label] = []
        self.history_ = History()
        self._given_tokenizer = None if tokenizer is None else HubTokenizer(tokenizer)
        self._tokenizer: Tokenizer | None = None
        self._model: Classifier | None = None

    @property
    def model(self) -> Classifier:
        """The PyTorch module."""
        if self._model is None:
            raise ValueError("this TextClassifier is not trained: call fit, or from_pretrained")
        return self._model

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts texts into tokens."""
        if self._tokenizer is None:
            raise ValueError("this TextClassifier is not trained: call fit, or from_pretrained")
        return self._tokenizer

    def fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Label],
        *,
        validation: tuple[Iterable[str], Iterable[Label]] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool | None = None,
    ) -> TextClassifier:
        """Learn from texts and their labels.

        Args:
            texts: strings, in a list or anything else that yields them.
            labels: as many, str or int, of at least two kinds.
            validation: texts and labels that tell which epoch was best; None: a part of the
                training rows is held out for it (`validation_share`).
            seed: the same seed, data and arguments give the same weights.
            checkpoint: a file that keeps the state of training, so that `resume=True` can go on
                from it to the same weights after an interruption.
            progress: show a progress bar; None: if standard error is a terminal.

        Returns:
            self, with the weights of the best epoch.

        Raises:
            ValueError, TypeError: texts or labels that cannot be learned from, with the place.
            KeyboardInterrupt: after Ctrl-C; the model is usable as it then is.
        """
        texts, labels = _check_labelled(texts, labels)
        classes = sorted(set(labels), key=_label_order)
        if len(classes) < 2:
            raise ValueError(
                f"labels: all are {classes[0]!r}; a classifier needs at least two classes"
            )
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise TypeError("validation: give a pair of texts and labels")
            validation = _check_labelled(*validation, "validation ")
        if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")
        if resume and checkpoint is None:
            raise ValueError("resume: give the checkpoint to go on from as well")
        seed = int(seed)
        torch.manual_seed(seed)
        recipe = self.config.recipe()
        # From here on what was learned before is gone; what fails leaves an untrained classifier.
        self._model, self.history_, self.classes_ = None, History(), classes
        self._tokenizer = self._given_tokenizer or WordTokenizer.train(
            texts, self.config.max_words, self.config.min_count, self.config.max_grams
        )
        data = self._encode_labelled(texts, labels, "labels")
        if validation is None:
            kept, held = hold_out(data.targets, self.config.validation_share, seed)
            data, held_out = data.take(kept), data.take(held)
        else:
            held_out = self._encode_labelled(*validation, "validation labels")
        try:
            model, rates = self._build(), None
            if self.config.mixer == "aggregation":
                rates = row_rates(self._tokenizer, data)
                with torch.no_grad():
                    model.embedding *= torch.from_numpy(rates)[:, None]
            stepper = make_stepper(model, recipe, rates)
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
            raise ValueError(
                f"d_model={self.config.d_model}: no memory for {len(self._tokenizer.vocabulary):,} "
                "words of that size; give a smaller one"
            ) from error
        try:
            with training_bar(self.config.mixer, recipe.epochs, _shown(progress)) as report:
                self.history_ = train(
                    stepper,
                    data,
                    held_out,
                    recipe,
                    seed=seed,
                    checkpoint=None if checkpoint is None else Path(checkpoint),
                    resume=resume,
                    report=report,
                )
        except KeyboardInterrupt:
            self._model = model
            raise
        self._model = model
        return self

    def predict(self, texts: Iterable[str]) -> list[Label]:
        """The most probable label of each text."""
        return [self.classes_[c] for c in self._logits(texts).argmax(1)]

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """(B, C) probabilities, columns as in `classes_`."""
        return softmax(self._logits(texts))

    def evaluate(self, texts: Iterable[str], labels: Iterable[Label]) -> dict[str, float]:
        """{"accuracy": ..., "macro_f1": ...} on texts whose labels are known.

        Raises:
            ValueError: a label that was not there in training.
        """
        texts, labels = _check_labelled(texts, labels)
        model = self.model
        data = self._encode_labelled(texts, labels, "labels")
        predicted = self._predict(model, data.rows).argmax(1)
        return {
            "accuracy": float(accuracy_score(data.targets, predicted)),
            "macro_f1": float(f1_score(data.targets, predicted, average="macro", zero_division=0)),
        }

    def explain(self, text: str) -> Explanation:
        """What every token of a text adds to every class's logit.

        logit_c = bias_c + sum_t contribution_tc. Aggregation's logits are a sum over tokens, so
        this is exact; for a rival it is the first-order account, gradient times token vector, and
        the Explanation says so.

        Cost: O(n d C), of a rival C backward passes.
        """
        (text,) = _check_texts([text])
        rows = self._encode([text])
        logits = self._predict(self.model, rows)[0]
        alignment = self.tokenizer.align(text)
        return explain(self.model, rows.token_ids, text, alignment, self.classes_, logits)

    def open(self) -> RunningDocument:
        """An empty document that text is appended to, and that can be classified at any time.

        Raises:
            ValueError: what the classifier reads of a word depends on what follows: a rival, a
                tokenizer of the `tokenizers` library, or max_tokens.
        """
        if not isinstance(self.model.mixer, AggregationMixer):
            raise ValueError(f"open: not for mixer={self.config.mixer!r}, which reads texts whole")
        if not isinstance(self.tokenizer, WordTokenizer):
            raise ValueError("open: not for a tokenizer that was given, which reads texts whole")
        if self.config.max_tokens is not None:
            raise ValueError(f"open: not with max_tokens={self.config.max_tokens}")
        return RunningDocument(self.model, self.tokenizer, self.classes_)

    def word_vectors(self) -> np.ndarray:
        """(words, D) the embedding of the words, by falling use; neither [UNK] nor grams."""
        entries = self.tokenizer.vocabulary[1:]
        words = entries
        if isinstance(self.tokenizer, WordTokenizer):
            words = [entry for entry in entries if not is_gram(entry)]
        return self.model.embedding.detach()[1 : 1 + len(words)].numpy()

    def telling_tokens(self, number: int = 10, among: int = 10_000) -> dict[Label, list[str]]:
        """The tokens that speak most for each class, of the first `among` of the vocabulary: words
        by falling use, and grams after them.

        A token speaks for a class by what it adds to that class's logit more than to the mean of
        all, at a text's first 64 places on average.

        Raises:
            ValueError: a rival, in whose logits a token has no part of its own.
        """
        return telling_tokens(self.model, self.tokenizer.vocabulary, self.classes_, number, among)

    def parse_labels(self, labels: Sequence[str]) -> list[Label]:
        """Labels as a file has them, as strings, in the type that this classifier learned."""
        by_name = {str(label): label for label in self.classes_}
        return [by_name.get(label, label) for label in labels]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, tokenizer.json and README.md, each whole."""
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; give the name of a folder")
        described = {
            "classes": self.classes_,
            "history": asdict(self.history_),
            **asdict(self.config),
        }
        texts = {
            "README.md": _model_card(self, folder.resolve().name),
            "tokenizer.json": self.tokenizer.to_json(),
        }
        model_folder.write(folder, described, texts, self.model.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TextClassifier:
        """A classifier from a folder that `save_pretrained` wrote, or from a Hugging Face repo id.

        Raises:
            ValueError: nothing there, a file missing or damaged, or not a model of this library.
        """
        path = model_folder.locate(folder)
        described = model_folder.read_config(path)
        known = {f.name for f in fields(ClassifierConfig)}
        with model_folder.blame(path, "config.json"):
            classifier = cls(**{k: v for k, v in described.items() if k in known})
            classifier.classes_ = _check_classes(described["classes"])
            classifier.history_ = History(**described["history"])
        with model_folder.blame(path, "tokenizer.json"):
            text = (path / "tokenizer.json").read_text(encoding="utf-8")
            classifier._tokenizer = read_tokenizer(text)
        with model_folder.blame(path, "model.safetensors"):
            with torch.device("meta"):  # shapes alone: a damaged config may ask for terabytes
                expected = classifier._build().state_dict()
            weights = model_folder.read_weights(path, expected)
            classifier._model = classifier._build()
            classifier._model.load_state_dict(weights)
        return classifier

    def _build(self) -> Classifier:
        config = self.config
        mixer = MIXERS[config.mixer](config.d_model)
        return Classifier(
            len(self.tokenizer.vocabulary), len(self.classes_), config.d_model, mixer
        ).requires_grad_(True)

    def _encode(self, texts: Sequence[str]) -> Ragged:
        rows = self.tokenizer.encode(texts)
        return rows if self.config.max_tokens is None else rows.truncate(self.config.max_tokens)

    def _encode_labelled(
        self, texts: Sequence[str], labels: Sequence[Label], name: str
    ) -> Labelled:
        index = {label: c for c, label in enumerate(self.classes_)}
        targets = np.empty(len(labels), dtype=np.int64)
        for i, label in enumerate(labels):
            if label not in index:
                raise ValueError(
                    f"{name}[{i}]: {label!r} was not there in training; the labels are "
                    f"{_enumerate(self.classes_)}"
                )
            targets[i] = index[label]
        return Labelled(self._encode(texts), targets)

    def _logits(self, texts: Iterable[str]) -> np.ndarray:
        texts = _check_texts(texts)
        return self._predict(self.model, self._encode(texts))

    def _predict(self, model: Classifier, rows: Ragged) -> np.ndarray:
        return predict_logits(model, rows, self.config.recipe().batch_size)


def _check_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    checked = _as_list(texts, name)
    for i, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: {shorten(text)} is {type(text).__name__}; give str")
    return checked


def _check_labelled(
    texts: Iterable[str], labels: Iterable[Label], part: str = ""
) -> tuple[list[str], list[Label]]:
    """Lists of both, the labels as Python's own str and int, which compare and save alike."""
    texts, labels = _check_texts(texts, f"{part}texts"), _as_list(labels, f"{part}labels")
    if len(texts) != len(labels):
        raise ValueError(
            f"{part}labels: {len(labels)} of them for {len(texts)} texts; give one a text"
        )
    if not texts:
        raise ValueError(f"{part}texts: there are none; give at least one")
    for i, label in enumerate(labels):
        if not isinstance(label, str | numbers.Integral):
            kind = type(label).__name__
            raise TypeError(f"{part}labels[{i}]: {shorten(label)} is {kind}; give str or int")
    return texts, [str(label) if isinstance(label, str) else int(label) for label in labels]


def _as_list(values: Iterable[Any], name: str) -> list[Any]:
    """Of an array, a column or a generator as well; not of what only looks like a sequence."""
    if isinstance(values, str):
        raise TypeError(f"{name}: is a str; give a list, even if it is of one")
    if isinstance(values, bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: is {type(values).__name__}; give a list")
    return list(values)


def _label_order(label: Label) -> tuple[bool, Label]:
    return isinstance(label, str), label


def _enumerate(labels: Sequence[Label], most: int = 10) -> str:
    named = ", ".join(repr(label) for label in labels[:most])
    return named if len(labels) <= most else f"{named} and {len(labels) - most} more"


def _shown(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


def _check_classes(classes: object) -> list[Label]:
    if (
        not isinstance(classes, list)
        or not all(isinstance(label, str | int) for label in classes)
        or len(set(classes)) != len(classes)
        or len(classes) < 2
    ):
        raise ValueError("classes are no list of different labels")
    return classes


def _model_card(classifier: TextClassifier, name: str) -> str:
    history = classifier.history_
    lines = [
        "---",
        "library_name: hyperagg",
        "pipeline_tag: text-classification",
        "---",
        f"# {name}",
        "",
        f"A text classifier by {classifier.config.mixer}, trained with hyperagg.",
        "",
        f"- classes: {_enumerate(classifier.classes_)}",
        f"- words: {len(classifier.tokenizer.vocabulary):,}",
        f"- parameters: {classifier.model.count_parameters()['parameters']:,}",
        f"- epochs: {len(history.loss)}, the best of them {history.best_epoch + 1}",
    ]
    if history.validation_accuracy:
        best = history.validation_accuracy[history.best_epoch]
        lines.append(f"- accuracy on the held-out part of the training rows: {best:.4f}")
    lines += [
        "",
        "```python",
        "import hyperagg",
        "",
        f'clf = hyperagg.TextClassifier.from_pretrained("{name}")',
        'clf.predict(["a text"])',
        "```",
        "",
    ]
    return "\n".join(lines)
