"""Text in, labels out: the estimator around tokenizer, model and training loop."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hyperagg._common.calibration import best_threshold, expected_calibration_error, fit_temperature
from hyperagg._common.checkpoint import remove_checkpoint
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.model_card import model_card
from hyperagg._common.progress import training_bar
from hyperagg._common.split import train_validation_split
from hyperagg.classifier import serialization as model_folder
from hyperagg.classifier.baselines.attention import AttentionMixer, TransformerMixer
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.explanation import Explanation, explain, top_features
from hyperagg.classifier.history import History
from hyperagg.classifier.incremental import grown, grown_memory, memory_lengths, memory_of
from hyperagg.classifier.interop.fasttext import read_fasttext, read_vectors
from hyperagg.classifier.kernels import trainer as fused
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.predictor import Predictor, encode
from hyperagg.classifier.quantization import most_important, round_rows
from hyperagg.classifier.streaming import StreamingDocument
from hyperagg.classifier.training.feature_scaling import row_rates
from hyperagg.classifier.training.labels import (
    Label,
    Labels,
    are_several,
    check_labelled,
    check_texts,
    class_weights,
    distinct,
    encode_labels,
    first_classes,
)
from hyperagg.classifier.training.loop import read_note, train
from hyperagg.classifier.training.train_steps import (
    FusedTrainStep,
    Labelled,
    Objective,
    make_train_step,
    predict_logits,
)
from hyperagg.classifier.training_config import Recipe
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.text import UNKNOWN, HubTokenizer, Ragged, Tokenizer, WordTokenizer, is_ngram

__all__ = ["ClassifierConfig", "TextClassifier"]

RIVALS = {"attention": AttentionMixer, "transformer": TransformerMixer}


class TextClassifier:
    """Classifies texts by aggregation: logits = W sum_t w_t e_t * p_t / |w| + b.

    The sum is over a text's words, pairs of neighbours, and beginnings and endings of long words;
    the c-th use of one weighs w_t = 1/c.

    Args:
        tokenizer: one of the Hugging Face `tokenizers` library; None: the words and grams of the
            training texts are used.
        threads: for training, 4 at most; None: as many as PyTorch uses. The weights do not depend
            on it.
        config: every argument of `ClassifierConfig`, by name.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        multi_label_: whether a text may have any number of labels, and not exactly one.
        history_: what was seen in the last `fit`.

    Numerics: float32. Cost: O(n d) a text to learn or to classify, any length.

    >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> clf.predict(["a good one"])
    ['yes']
    """

    def __init__(self, *, tokenizer: Any = None, threads: int | None = None, **config: Any) -> None:
        known = {f.name for f in fields(ClassifierConfig)}
        for name in config:
            if name not in known:
                raise TypeError(f"{name}: no such argument; there are {', '.join(sorted(known))}")
        if config.get("mixer", "aggregation") != "aggregation":
            config = {"max_tokens": 512, "max_ngrams": 0, "d_model": 256, **config}
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise ValueError(f"threads={shorten(threads)}: give a whole number, 1 or more")
        self.config = ClassifierConfig(**config)
        self.threads = threads
        self.classes_: list[Label] = []
        self.multi_label_ = False
        self.history_ = History()
        self._given_tokenizer = None if tokenizer is None else HubTokenizer(tokenizer)
        self._tokenizer: Tokenizer | None = None
        self._model: Classifier | None = None
        # What `partial_fit` goes on from, and the scales of an embedding in 8 bits.
        self._memory: dict[str, Tensor] = {}
        self._scales: np.ndarray | None = None
        # What predicts, and what it was made of.
        self._made: tuple[tuple[Any, ...], Predictor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}  # it would hold the weights a second time

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

    @property
    def answers(self) -> LabelDecoder:
        """What turns logits into probabilities and labels."""
        return LabelDecoder(self.classes_, self.multi_label_, self.history_.threshold)

    @property
    def predictor(self) -> Predictor:
        """What predicts. It reads the memory of `model`'s parameters, whatever changes them."""
        model, config, history = self.model, self.config, self.history_
        is_fused = config.mixer == "aggregation"
        places = [table.data_ptr() for table in fused.parameters(model)] if is_fused else []
        own = model, self._tokenizer, self.classes_, self.multi_label_, history.threshold, places
        if (made := self._made) is None or made[0] != own:
            scores: Any = partial(predict_logits, model, batch_size=config.documents_per_batch)
            if is_fused:
                scores = fused.weights(model)
            # Set at once, since another thread may be reading it.
            self._made = made = own, Predictor(config, self.tokenizer, self.answers, scores)
        return made[1]

    def fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        class_weight: Literal["balanced"] | Mapping[Label, float] | None = None,
        vectors: str | Path | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool | None = None,
    ) -> TextClassifier:
        """Learn from texts and their labels.

        Args:
            texts: strings, in a list or anything else that yields them.
            labels: as many, str or int, of at least two kinds; or where a text may have several
                labels or none, a list of them for each text.
            validation: texts and labels that tell which epoch was best, and how sure to be of an
                answer; None: a part of the training rows is held out for it
                (`validation_fraction`).
            class_weight: what a text of each class counts, {label: weight} with 1 for those that
                are not named; "balanced": in inverse proportion to how many texts it has.
            vectors: a text table of word vectors (.vec, GloVe) of d_model numbers to start from; a
                word that it has not starts at random.
            seed: the same seed, data and arguments give the same weights.
            checkpoint: a file that keeps the state of training, so that `resume=True` can go on
                from it to the same weights after an interruption.
            progress: show a progress bar; None: if standard error is a terminal.

        Returns:
            self. With held-out rows the weights of the best epoch, or (`refit`) those of all rows
            after as many epochs; and the head divided by the temperature at which the held-out
            answers are most probable.

        Raises:
            ValueError, TypeError: texts or labels that cannot be learned from, with the place.
            KeyboardInterrupt: after Ctrl-C; the model is usable as it then is.
        """
        texts, labels = check_labelled(texts, labels)
        classes = distinct(labels)
        if len(classes) < 2:
            only = f"all are {classes[0]!r}" if classes else "there are none"
            raise ValueError(f"labels: {only}; a classifier needs at least two classes")
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise TypeError("validation: give a pair of texts and labels")
            validation = check_labelled(*validation, "validation ")
            if are_several(validation[1]) != are_several(labels):
                raise TypeError("validation labels: one a text or several, as in training")
        if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")
        if resume and checkpoint is None:
            raise ValueError("resume: give the checkpoint to go on from as well")
        objective = Objective(class_weights(class_weight, labels, classes), are_several(labels))
        file = None if checkpoint is None else Path(checkpoint)
        # From here on what was learned before is gone; what fails leaves an untrained classifier.
        self._model, self.history_ = None, History()
        self._memory, self._scales, self._made = {}, None, None
        self.classes_, self.multi_label_ = classes, objective.multi_label
        self._tokenizer = self._given_tokenizer or WordTokenizer.train(
            texts, self.config.max_words, self.config.min_count, self.config.max_ngrams
        )
        data = self._encode_labelled(texts, labels, "labels")
        if validation is None:
            kept, held = train_validation_split(
                first_classes(data.targets), self.config.validation_fraction, int(seed)
            )
            learned, held_out = data.take(kept), data.take(held)
        else:
            learned, held_out = data, self._encode_labelled(*validation, "validation labels")
        again = self.config.refit and validation is None and len(held_out.rows) > 0

        recipe = self.config.recipe(len(classes), len(texts), objective.multi_label)
        start = None if vectors is None else self._vectors(vectors)

        def learn(rows: Labelled, **arguments: Any) -> None:
            shared = dict(seed=int(seed), checkpoint=file, progress=progress, start=start)
            self._learn(rows, objective, recipe, **shared, **arguments)

        first_round = read_note(file) if resume and file is not None and file.exists() else None
        if first_round is None:
            learn(learned, validation=held_out, resume=resume)
            self._calibrate(held_out)
            resume = False
        else:
            self.history_ = History(**first_round)
        if again:
            found = self.history_
            learn(
                data,
                validation=None,
                resume=resume,
                stop_after=found.best_epoch + 1,
                note=asdict(found),
            )
            self.history_ = replace(found, texts=len(texts))
            _divide_head(self.model, found.temperature)
        if file is not None:
            remove_checkpoint(file)
        return self

    def _learn(
        self,
        data: Labelled,
        objective: Objective,
        recipe: Recipe,
        *,
        validation: Labelled | None,
        start: tuple[list[int], Tensor] | None,
        seed: int,
        progress: bool | None,
        **arguments: Any,
    ) -> None:
        """A new model from `data`; the one before stays until it is there."""
        torch.manual_seed(seed)
        try:
            model, rates = self._build(), None
            if objective.multi_label:
                # Rather than from even odds: most of the first steps would be spent on unlearning.
                uses = np.bincount(data.targets.token_ids, minlength=len(self.classes_))
                odds = (uses + 0.5) / (len(data.rows) - uses + 0.5)
                with torch.no_grad():
                    model.head.bias.copy_(torch.from_numpy(np.log(odds)))
            if start is not None:
                with torch.no_grad():
                    model.embedding[start[0]] = start[1] * (model.embedding.std() / start[1].std())
            if self.config.mixer == "aggregation":
                rates = row_rates(self.tokenizer, data)
                with torch.no_grad():
                    model.embedding.mul_(torch.from_numpy(rates)[:, None])
            threads = self.threads or torch.get_num_threads()
            train_step = make_train_step(model, recipe, objective, rates, threads)
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
            raise ValueError(
                f"d_model={self.config.d_model}: no memory for {len(self.tokenizer):,} "
                "words of that size; give a smaller one"
            ) from error
        title = self.config.mixer if validation is not None else f"{self.config.mixer}, all rows"
        try:
            with training_bar(title, recipe.epochs, _shown(progress)) as report:
                history = train(
                    train_step, data, validation, recipe, seed=seed, report=report, **arguments
                )
        except KeyboardInterrupt:
            self._model = self._model or model
            raise
        self._model, self.history_ = model, history
        if isinstance(train_step, FusedTrainStep):
            self._memory = memory_of(train_step, data.rows)

    def partial_fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        epochs: int = 1,
        seed: int = 0,
        progress: bool | None = None,
    ) -> TextClassifier:
        """Learn on from more texts; new words and new labels are taken in.

        New labels come after the known ones in `classes_`. What was learned stays, but for what the
        new texts say otherwise. The first call is a `fit`. An interruption leaves the classifier as
        it was.

        Args:
            texts, labels: as for `fit`.
            epochs: passes over them.
            seed: of their order and of the new rows.

        Raises:
            ValueError: a rival, or a classifier without the training.safetensors that
                `save_pretrained` wrote beside it; it cannot learn on.
        """
        if self._model is None:
            return self.fit(texts, labels, seed=seed, progress=progress)
        if not self._memory:
            raise ValueError(
                "partial_fit: this classifier cannot learn on (a rival, one that was quantized or "
                "imported, or without its training.safetensors); use fit"
            )
        texts, labels = check_labelled(texts, labels)
        if are_several(labels) != self.multi_label_:
            wanted = "a list of labels" if self.multi_label_ else "one label"
            raise TypeError(f"labels: give {wanted} a text, as in training")
        after = copy(self)
        after.classes_ = [
            *self.classes_,
            *(label for label in distinct(labels) if label not in self.classes_),
        ]
        if isinstance(self.tokenizer, WordTokenizer):
            config = self.config
            after._tokenizer = self.tokenizer.extended(
                texts, config.max_words, config.min_count, config.max_ngrams
            )
        data = after._encode_labelled(texts, labels, "labels")
        torch.manual_seed(seed)
        model = after._build()
        rates = row_rates(after.tokenizer, data)
        memory = grown_memory(self._memory, rates, len(after.classes_))
        with torch.no_grad():
            model.embedding.mul_(memory["rates"][:, None])
        model = grown(self._model, model)
        temperature = self.history_.temperature
        _divide_head(model, 1 / temperature)
        after.history_ = replace(self.history_, texts=self.history_.texts + len(texts))
        recipe = self.config.recipe(len(after.classes_), after.history_.texts, self.multi_label_)
        recipe = replace(recipe, epochs=epochs)
        objective = Objective(np.ones(len(after.classes_), np.float32), self.multi_label_)
        threads = self.threads or torch.get_num_threads()
        train_step = FusedTrainStep(model, recipe, objective, memory["rates"].numpy(), threads)
        train_step.load_optimizer_state(
            {name.removeprefix("state."): state for name, state in memory.items()}
        )
        with training_bar(self.config.mixer, epochs, _shown(progress)) as report:
            train(train_step, data, None, recipe, seed=seed, report=report)
        _divide_head(model, temperature)
        uses = memory["uses"]
        after._memory = memory_of(train_step, data.rows)
        after._memory["uses"] += uses
        after._model = model
        self.__dict__.update(after.__dict__)
        return self

    def quantize(
        self, kind: Literal["int8"] = "int8", *, max_tokens: int | None = None
    ) -> TextClassifier:
        """Make the saved model small: the embedding in 8 bits a number, and fewer tokens if wanted.

        Each row is rounded to whole multiples of a 127th of its largest number. It is used as it
        would be read again, so that predictions before and after saving are the same.

        Args:
            kind: "int8", the one there is.
            max_tokens: of all words and grams those that matter most: by what they add to the
                logits, and by how often they were used in training.

        Raises:
            ValueError: not trained, or nothing is known of how often tokens were used.
        """
        if kind != "int8":
            raise ValueError(f"kind={shorten(kind)}: there is int8")
        if max_tokens is not None:
            self._prune(max_tokens)
        self._scales, self._memory = round_rows(self.model.embedding), {}
        return self

    def _prune(self, most: int) -> None:
        if not isinstance(most, int) or most < 1:
            raise ValueError(f"max_tokens={shorten(most)}: give a whole number, 1 or more")
        if not isinstance(self.tokenizer, WordTokenizer) or "uses" not in self._memory:
            raise ValueError("max_tokens: only for aggregation over words that was trained here")
        kept = most_important(self.model, self._memory["uses"], most)
        weights = self.model.state_dict()
        weights["embedding"] = weights["embedding"][kept]
        vocabulary = self.tokenizer.vocabulary
        self._tokenizer = WordTokenizer([vocabulary[i] for i in kept.tolist()])
        self._model, self._memory = self._build(), {}
        self._model.load_state_dict(weights)

    def predict(self, texts: Iterable[str]) -> list[Any]:
        """The most probable label of each text; where there may be several, a tuple of those whose
        probability is above a threshold, the one that gave the greatest micro-F1 on the held-out
        rows."""
        return self.predictor.predict(texts)

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """(B, C) probabilities, columns as in `classes_`."""
        return self.predictor.predict_proba(texts)

    def logits(self, texts: Iterable[str]) -> np.ndarray:
        """(B, C) float32, columns as in `classes_`."""
        return self.predictor.logits(texts)

    def evaluate(self, texts: Iterable[str], labels: Iterable[Any]) -> dict[str, float]:
        """How well known labels are met.

        Returns:
            "accuracy" and "macro_f1", where there may be several labels "micro_f1" and "macro_f1";
            and "calibration_error", see `hyperagg._common.calibration`.

        Raises:
            ValueError: a label that was not there in training.
        """
        from sklearn.metrics import accuracy_score, f1_score  # takes longer than a prediction

        texts, labels = check_labelled(texts, labels)
        predictor = self.predictor
        if are_several(labels) != self.multi_label_:
            wanted = "a list of labels" if self.multi_label_ else "one label"
            raise TypeError(f"labels: give {wanted} a text, as in training")
        data = self._encode_labelled(texts, labels, "labels")
        logits = predictor.score(data.rows)
        truth = data.targets.indicators(len(self.classes_))
        error = expected_calibration_error(
            self.answers.probabilities(logits), truth, self.multi_label_
        )
        if self.multi_label_:
            said = self.answers.probabilities(logits) > self.answers.threshold
            scores = {
                f"{average}_f1": float(f1_score(truth, said, average=average, zero_division=0))
                for average in ("micro", "macro")
            }
        else:
            truth, said = data.targets.token_ids, logits.argmax(1)
            scores = {
                "accuracy": float(accuracy_score(truth, said)),
                "macro_f1": float(f1_score(truth, said, average="macro", zero_division=0)),
            }
        return {**scores, "calibration_error": error}

    def explain(self, text: str) -> Explanation:
        """What every token of a text adds to every class's logit.

        logit_c = bias_c + sum_t contribution_tc. Aggregation's logits are a sum over tokens, so
        this is exact; for a rival it is the first-order account, gradient times token vector, and
        the Explanation says so.

        Cost: O(n d C), of a rival C backward passes.
        """
        (text,) = check_texts([text])
        predictor, rows = self.predictor, self._encode([text])
        logits = predictor.score(rows)[0]
        alignment = self.tokenizer.align(text)
        return explain(self.model, rows.token_ids, text, alignment, self.answers, logits)

    def open(self) -> StreamingDocument:
        """An empty document that text is appended to, and that can be classified at any time.

        Raises:
            ValueError: what the classifier reads of a word depends on what follows: a rival, a
                tokenizer of the `tokenizers` library, or max_tokens.
        """
        return self.predictor.open()

    def word_vectors(self) -> np.ndarray:
        """(words, D) the embedding of the words, by falling use; neither [UNK] nor grams."""
        return self.model.embedding.detach()[self._ids(grams=False)].numpy()

    def top_features(self, number: int = 10, among: int = 10_000) -> dict[Label, list[str]]:
        """The tokens that speak most for each class, of the first `among` of the vocabulary: words
        by falling use, and grams after them.

        A token speaks for a class by what it adds to that class's logit more than to the mean of
        all, at a text's first 64 places on average.

        Raises:
            ValueError: a rival, in whose logits a token has no part of its own.
        """
        vocabulary, ids = self.tokenizer.vocabulary, self._ids(grams=True)[:among]
        best = top_features(self.model, ids, number)
        return {c: [vocabulary[i] for i in row] for c, row in zip(self.classes_, best)}

    def parse_labels(self, labels: Sequence[str] | Sequence[tuple[str, ...]]) -> Labels:
        """Labels as a file has them, as strings, in the type that this classifier learned."""
        by_name = {str(label): label for label in self.classes_}
        parsed: Any = [
            tuple(by_name.get(one, one) for one in label)
            if isinstance(label, tuple)
            else by_name.get(label, label)
            for label in labels
        ]
        return parsed

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, tokenizer.json and README.md, each whole."""
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; give the name of a folder")
        described = {
            "classes": self.classes_,
            "several_labels": self.multi_label_,
            "history": asdict(self.history_),
            **asdict(self.config),
        }
        texts = {
            "README.md": model_card(self, folder.resolve().name),
            "tokenizer.json": self.tokenizer.to_json(),
        }
        weights, memory = _arrays(self.model.state_dict()), _arrays(self._memory)
        if self._scales is not None:
            weights |= model_folder.pack(weights.pop("embedding"), self._scales)
        tensors = {"model.safetensors": weights, "training.safetensors": memory}
        model_folder.write(folder, described, texts, tensors)

    def export_onnx(self, path: str | Path) -> None:
        """Write the model as one .onnx file, from token ids to logits, for runtimes without Python.

        Inputs `token_ids` (T,) and `cu_seqlens` (B + 1,), int64: what `tokenizer.encode` gives.
        Outputs `logits` and `probabilities` (B, C) float32, those of `logits` and `predict_proba`.
        The labels are in the file's metadata; what is in 8 bits stays so. See
        `hyperagg.classifier.interop.onnx`.

        Raises:
            ValueError: not trained, a rival, weights of more than 2 GB, or a path that is a folder.
            ImportError: the package onnx is missing.
        """
        if not isinstance(self.model.mixer, PooledAggregation):
            raise ValueError(f"export_onnx: not for mixer={self.config.mixer!r}; aggregation alone")
        from hyperagg.classifier.interop import onnx as onnx_export

        onnx_export.write(path, self.model, self._scales, self.answers, self.config.max_tokens)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TextClassifier:
        """A classifier from a folder that `save_pretrained` wrote, or from a Hugging Face repo id.

        Raises:
            ValueError: nothing there, a file missing or damaged, or not a model of this library.
        """
        saved = model_folder.read(folder)
        classifier = cls(**asdict(saved.config))
        classifier.classes_ = list(saved.answers.classes)
        classifier.multi_label_ = saved.answers.multi_label
        classifier.history_ = saved.history
        classifier._tokenizer = saved.tokenizer
        with torch.device("meta"):  # shapes alone: a damaged config may ask for terabytes
            expected = classifier._build().state_dict()
        weights, classifier._scales = saved.weights(
            {name: tuple(tensor.shape) for name, tensor in expected.items()}
        )
        model = classifier._model = classifier._build()
        model.load_state_dict(_tensors(weights))
        classifier._memory = _tensors(saved.training(memory_lengths(model)))
        return classifier

    @classmethod
    def from_fasttext(cls, file: str | Path) -> TextClassifier:
        """A classifier from a supervised fastText model (.bin), which answers as fastText does.

        Raises:
            ValueError: no such model; see `hyperagg.classifier.interop.fasttext`.
        """
        found = read_fasttext(file)
        if len(found.labels) < 2:
            raise ValueError(f"{file}: has one label; a classifier needs at least two classes")
        classifier = cls(d_model=found.dim, pooling="mean", max_ngrams=0)
        classifier.classes_ = list(found.labels)
        classifier.multi_label_ = found.loss == "ova"
        classifier._tokenizer = found.tokenizer
        classifier._model = classifier._build()
        with torch.no_grad():
            classifier._model.embedding.copy_(torch.from_numpy(found.input))
            classifier._model.head.weight.copy_(torch.from_numpy(found.output))
            classifier._model.head.bias.zero_()
        return classifier

    def _build(self) -> Classifier:
        config = self.config
        mixer: nn.Module
        if config.mixer == "aggregation":
            mixer = PooledAggregation(config.d_model, config.pooling)
        else:
            mixer = RIVALS[config.mixer](config.d_model)
        words, classes = len(self.tokenizer), len(self.classes_)
        return Classifier(words, classes, config.d_model, mixer).requires_grad_(True)

    def _encode(self, texts: Sequence[str]) -> Ragged:
        return encode(self.tokenizer, texts, self.config.max_tokens)

    def _encode_labelled(self, texts: Sequence[str], labels: Labels, name: str) -> Labelled:
        targets = encode_labels(labels, self.classes_, name)
        return Labelled(self._encode(texts), targets)

    def _vectors(self, file: str | Path) -> tuple[list[int], Tensor]:
        """The ids of the words that a table has, and their vectors."""
        words, table = read_vectors(file)
        if table.shape[1] != self.config.d_model:
            raise ValueError(
                f"{file}: vectors of {table.shape[1]} numbers, but d_model is "
                f"{self.config.d_model}; give d_model={table.shape[1]}"
            )
        ids = {entry: i for i, entry in enumerate(self.tokenizer.vocabulary) if not is_ngram(entry)}
        known = [row for row, word in enumerate(words) if word in ids]
        if len(known) < 2:
            raise ValueError(f"{file}: has none of the words of the texts, in lower case")
        return [ids[words[row]] for row in known], torch.from_numpy(table[known])

    def _calibrate(self, held_out: Labelled) -> None:
        if not len(held_out.rows):
            return
        several, logits = self.multi_label_, self.predictor.score(held_out.rows)
        truth = held_out.targets.indicators(len(self.classes_))
        temperature = fit_temperature(logits, truth, several)
        _divide_head(self.model, temperature)
        self.history_.temperature = temperature
        if several:
            shares = self.answers.probabilities(logits / np.float32(temperature))
            self.history_.threshold = best_threshold(shares, truth)[0]
        self.history_.calibration_error = [
            expected_calibration_error(self.answers.probabilities(z), truth, several)
            for z in (logits, logits / np.float32(temperature))
        ]

    def _ids(self, grams: bool) -> np.ndarray:
        """The ids of all words, and of grams too if wanted."""
        return np.array(
            [
                i
                for i, entry in enumerate(self.tokenizer.vocabulary)
                if entry != UNKNOWN and (grams or not is_ngram(entry))
            ]
        )


def _shown(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _divide_head(model: Classifier, by: float) -> None:
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.div_(by)
