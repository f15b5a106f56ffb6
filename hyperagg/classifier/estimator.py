"""Provides the text classifier: an estimator around tokenizer, parameters and training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hyperagg._common.checkpoint import check_checkpoint, remove_checkpoint
from hyperagg._common.evaluation import Evaluation, evaluate_logits
from hyperagg._common.hub import push_folder
from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.progress import activity
from hyperagg._common.representation import represent
from hyperagg._common.training_lock import TrainingLock, one_at_a_time
from hyperagg._common.validation import (
    check_bool,
    check_choice,
    check_integer,
    check_output_folder,
    check_path,
)
from hyperagg._numba.threads import limit_threads
from hyperagg.classifier import fitting, serialization
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.explanation import Explanation, top_features
from hyperagg.classifier.fitted import FittedState
from hyperagg.classifier.history import History
from hyperagg.classifier.incremental import begin_training, continue_training
from hyperagg.classifier.initial_vectors import learn_initial_vectors, read_initial_vectors
from hyperagg.classifier.interop.fasttext import read_fasttext
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import NUM_BLOCKS, Pooling
from hyperagg.classifier.predictor import Predictor
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.quantization import prune, round_to_int8
from hyperagg.classifier.streaming import StreamingDocument
from hyperagg.classifier.training.labels import (
    ClassWeight,
    Labels,
    check_class_weight,
    check_classes,
    check_distinct,
    check_label,
    check_label_kind,
    check_labeled_texts,
    check_sample_weight,
    check_spelling,
    check_texts,
    check_validation,
    is_multi_label,
    parse_labels,
    unique_labels,
)
from hyperagg.classifier.training.loop import Callback
from hyperagg.classifier.training.run_options import RunOptions, check_run_options
from hyperagg.classifier.training.state import TrainingResult, state_lengths
from hyperagg.text import UNKNOWN, FeatureChoice, HubTokenizer, Tokenizer, WordTokenizer, ngram_mask

if TYPE_CHECKING:
    from hyperagg.classifier.interop.torch_module import ClassifierModule

__all__ = ["TextClassifier"]


class TextClassifier:
    """Classifies texts by aggregation of token vectors.

        logits  =  W sum_t w_t e_t * p_t / |w| + b

    The sum is over the tokens of a text in any script: its words, word bigrams, and prefixes and
    suffixes of long words or all n-grams of characters. The c-th occurrence of a token has the
    weight w_t = 1/c.

    Args:
        tokenizer: a tokenizer of the Hugging Face `tokenizers` library. By default the vocabulary
            is built from the training texts.
        d_model: the dimension of the embedding.
        max_words: the maximum number of words in the vocabulary, the most frequent ones.
        min_count: the minimum number of occurrences of a word or n-gram in the training texts.
        max_ngrams: the maximum number of n-grams in the vocabulary, the most frequent ones.
        features: "words"; "ngrams": also word bigrams, prefixes and suffixes, and n-grams of the
            letters of scripts that do not separate words; "chars": all n-grams of characters
            instead of prefixes and suffixes; or "auto": "chars" if more than a fifth of the
            tokens of a sample of the texts occur once, otherwise "ngrams". See
            `hyperagg.text.WordTokenizer`.
        pooling: the weight of the c-th occurrence of a token: "harmonic" for 1/c, "mean" for 1.
        max_tokens: the number of tokens of a text that are read (default: all of them).
        epochs: the number of passes over the training texts (default: 10, or with fewer than 1,000
            texts as many as make 10,000 steps, at most 200; twice as many in multi-label
            problems).
        learning_rate: the initial learning rate; it decays linearly to 0 (default: 0.0015 per
            class, at least 0.2 / sqrt(number of texts), at most 0.04).
        label_smoothing: the probability that is taken from the true class and spread over all
            classes (default: 0.1; 0 in multi-label problems).
        validation_fraction: the fraction of the training texts of each class, rounded down, that
            is held out to determine the best epoch and the temperature, if `fit` is not given
            validation data. If most classes are too small for that, none is held out, and the last
            epoch counts as the best.
        refit: whether to train once more afterwards, on all texts and for as many epochs.
        threads: the maximum number of threads for training (default: the usable processors, from
            the affinity mask and the quota of the container, or `OMP_NUM_THREADS`). No more are
            started than there are usable processors. The weights do not depend on it.

    Attributes:
        classes_: the labels, in the order of the columns of `predict_proba`.
        multi_label_: whether a text may have any number of labels instead of exactly one.
        history_: the course of the last `fit`.
        model_: the parameters, NumPy arrays.
        tokenizer_: converts texts to token ids.
        class_weight_: the class weights of the last `fit` or `partial_fit`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Numerics: float32. Cost: O(n D) per text of n tokens, for training and prediction, any length.

    Example:
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.predict(["a good one"])
        ['yes']
        >>> clf.predict("a bad one")
        'no'
    """

    def __init__(
        self,
        *,
        tokenizer: Any = None,
        d_model: int = 64,
        max_words: int = 200_000,
        min_count: int = 1,
        max_ngrams: int = 300_000,
        features: FeatureChoice = "auto",
        pooling: Pooling = "harmonic",
        max_tokens: int | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        label_smoothing: float | None = None,
        validation_fraction: float = 0.1,
        refit: bool = True,
        threads: int | None = None,
    ) -> None:
        self.config = ClassifierConfig(
            d_model=d_model,
            max_words=max_words,
            min_count=min_count,
            max_ngrams=max_ngrams,
            features=features,
            pooling=pooling,
            max_tokens=max_tokens,
            epochs=epochs,
            learning_rate=learning_rate,
            label_smoothing=label_smoothing,
            validation_fraction=validation_fraction,
            refit=refit,
        )
        self.threads = None if threads is None else check_integer("threads", threads, 1)
        if tokenizer is not None and not hasattr(tokenizer, "encode_batch_fast"):
            raise TypeError(
                f"tokenizer: expected a tokenizers.Tokenizer, got {type(tokenizer).__name__}"
            )
        self._given_tokenizer = None if tokenizer is None else HubTokenizer(tokenizer)
        self._state: FittedState | None = None
        self._predictor: tuple[FittedState, Predictor] | None = None  # the last one
        self._checkpoint: Path | None = None  # of the last fit, until the model is saved
        self._training_lock = TrainingLock()

    def __repr__(self) -> str:
        given = self._given_tokenizer
        tokenizer = None if given is None else given.backend
        return represent(
            self, {**asdict(self.config), "tokenizer": tokenizer, "threads": self.threads}
        )

    def _fitted(self) -> FittedState:
        """The state; what needs several parts of it takes it once, since another thread may be
        training."""
        state = self._state
        if state is None:
            raise ValueError(_NOT_FITTED)
        return state

    @property
    def classes_(self) -> list[Label]:
        """The labels, in the order of the columns of `predict_proba`; [] before the first fit."""
        state = self._state
        return [] if state is None else list(state.classes)

    @property
    def multi_label_(self) -> bool:
        """Whether a text may have any number of labels instead of exactly one."""
        state = self._state
        return state is not None and state.multi_label

    @property
    def class_weight_(self) -> ClassWeight:
        """The class weights of the last `fit` or `partial_fit`."""
        state = self._state
        return None if state is None else state.class_weight

    @property
    def model_(self) -> ClassifierModel:
        """The parameters, NumPy arrays; predictions follow changes of their values."""
        return self._fitted().model

    @property
    def history_(self) -> History:
        """The course of the last `fit`."""
        state = self._state
        return History() if state is None else state.result.history

    @property
    def tokenizer_(self) -> Tokenizer:
        """The tokenizer, which converts texts to token ids."""
        return self._fitted().tokenizer

    @property
    def decoder(self) -> LabelDecoder:
        """What converts logits to probabilities and labels."""
        return self._fitted().decoder

    @property
    def predictor(self) -> Predictor:
        """The part of the classifier that predicts, as `load_predictor` returns it."""
        return self._state_and_predictor()[1]

    def _state_and_predictor(self) -> tuple[FittedState, Predictor]:
        state, known = self._fitted(), self._predictor
        if (
            known is None
            or known[0] is not state
            or known[1].decoder.threshold != state.result.history.threshold
            or known[1].max_tokens != self.config.max_tokens
        ):
            known = state, state.predictor(self.config.max_tokens)
            self._predictor = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_predictor": None}

    @one_at_a_time
    def fit(
        self,
        X: Iterable[str],
        y: Iterable[Any],
        *,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        class_weight: Literal["balanced"] | Mapping[Label, float] | None = None,
        sample_weight: Iterable[float] | None = None,
        vectors: str | Path | None = None,
        unlabelled: Iterable[str] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> TextClassifier:
        """Train the classifier on texts and their labels.

        Args:
            X: the texts: a list, a NumPy array, a column of pandas, polars or Arrow, or a generator
                of str. A table is refused, also one of a single column.
            y: as many labels, str or int, at least two distinct ones; a member of a (str, Enum) is
                its value. True and False, floats, None and tables of one column are refused, and
                so are two labels that differ only in type or in the white space around them. In a
                multi-label problem a list of labels for each text, which may be empty; a matrix of
                indicators is refused.
            validation: texts and labels that determine the best epoch and the temperature (default:
                a fraction of the training texts, `validation_fraction`).
            class_weight: the factor of the loss of each class, {label: weight}, where a class that
                is not named has weight 1; "balanced" is inversely proportional to the number of
                texts of the class.
            sample_weight: the factor of the loss of each text. The step size adapts to the
                gradients, so only the ratios of the weights matter. The validation score is not
                weighted.
            vectors: a text file of word vectors (.vec, GloVe) of dimension d_model, the initial
                values of the embedding. A word that the file does not have starts at random.
            unlabelled: further texts without labels, of the same kind as X. Token vectors are
                learned from them and X first, and improved by labels that a first classifier gives
                to them (not in a multi-label problem); training on X and y starts from these
                vectors. It helps where labels are few. Cost: as two to four epochs over these
                texts; see docs/few-labels.md.
            seed: determines the initial parameters and the order of the texts. The same seed, data
                and arguments give the same bits.
            checkpoint: a file that keeps the state of training, written every 20 seconds and
                after an interruption. `save_pretrained` removes it once the model is saved.
            resume: whether to continue from the checkpoint, if it exists; the result has the same
                bits as without the interruption.
            progress: whether to show a progress bar (default: in a terminal or a notebook, and
                elsewhere lines of the logger "hyperagg" at level INFO).
            callbacks: functions that are called with a `Progress` after every chunk of an epoch.

        Returns:
            The classifier itself. If texts were held out, it has the parameters of the best epoch,
            or with `refit` those of all texts after as many epochs; and its logits are divided by
            the temperature at which the held-out labels are most likely.

        Raises:
            TypeError, ValueError: an argument cannot be used; for X and y with the index.
            KeyboardInterrupt: after Ctrl-C; the classifier is usable as it is then. After any other
                error it is as it was before.
        """
        texts, labels = check_labeled_texts(X, y)
        classes, multi_label = check_classes(labels), is_multi_label(labels)
        weights = check_sample_weight(sample_weight, len(texts))
        factors = check_class_weight(class_weight, classes)
        if validation is not None:
            validation = check_validation(validation, multi_label)
        options = check_run_options(seed, self.threads, progress, callbacks)
        resume = check_bool("resume", resume)
        checkpoint = check_checkpoint(checkpoint, resume)
        if vectors is not None:
            vectors = check_path("vectors", vectors)
        further = None if unlabelled is None else _check_unlabelled(unlabelled, vectors)
        initial = None
        with limit_threads(options.threads):
            with activity("learning the vocabulary", progress):
                tokenizer = self._train_tokenizer([*texts, *(further or ())])
            if vectors is not None:
                initial = read_initial_vectors(vectors, tokenizer, self.config)
            elif further is not None:
                tokenizer, initial = learn_initial_vectors(
                    texts, further, tokenizer, self.config, options
                )
        problem = Problem(self.config, tokenizer, classes, multi_label, factors)
        result = TrainingResult()

        def adopt() -> None:
            if result.model is not None:
                self._state = FittedState(tokenizer, classes, result, multi_label, factors)

        try:
            with limit_threads(options.threads):
                fitting.fit(
                    result,
                    problem,
                    problem.encode(texts, labels, weights=weights),
                    None if validation is None else problem.encode(*validation, "validation y"),
                    options,
                    vectors=initial,
                    unlabelled=None if further is None else problem.encode_texts(further),
                    checkpoint=checkpoint,
                    resume=resume,
                )
        except KeyboardInterrupt:
            adopt()
            raise
        adopt()
        self._checkpoint = checkpoint
        return self

    @one_at_a_time
    def partial_fit(
        self,
        X: Iterable[str],
        y: Iterable[Any],
        *,
        epochs: int | None = None,
        sample_weight: Iterable[float] | None = None,
        class_weight: Literal["unchanged", "balanced"] | Mapping[Label, float] | None = "unchanged",
        seed: int = 0,
        progress: bool | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> TextClassifier:
        """Continue training on more texts; the vocabulary and the classes grow.

        New labels follow the known ones in `classes_`. A few texts of a new label suffice to learn
        it. What was learned before stays unless the new texts contradict it: beside new labels the
        classifier also trains on documents that it draws from the tokens and labels it knows. The
        first call is a `fit`; or, with a single label, a classifier that knows this label alone. An
        interruption leaves the classifier as it was. Other threads may predict and explain
        meanwhile: each of their answers is that of the classifier before this call or after it. If
        another thread trains the classifier, this call waits for it and continues from there.

        Args:
            X, y: as in `fit`.
            epochs: the number of passes over these texts (default: 1, or with new labels as many as
                make 10,000 steps, from 10 to 200).
            sample_weight: as in `fit`.
            class_weight: as in `fit`, or "unchanged" for the class weights of the last `fit` or
                `partial_fit`, which are saved with the model. "balanced" counts the texts of all
                calls.
            seed: determines the order of the texts and the initial values of new rows.
            progress, callbacks: as in `fit`.

        Raises:
            TypeError, ValueError: as in `fit`; or the classifier cannot continue training, because
                it was quantized, imported, or loaded without its training.safetensors, or its fit
                was interrupted in the first run.
        """
        epochs = None if epochs is None else check_integer("epochs", epochs, 1)
        unchanged = isinstance(class_weight, str) and class_weight == "unchanged"
        state = self._state
        if state is None:
            texts, labels = check_labeled_texts(X, y)
            given: Any = None if unchanged else class_weight
            if len(unique_labels(labels)) != 1:
                return self.fit(
                    texts, labels, class_weight=given, sample_weight=sample_weight, seed=seed,
                    progress=progress, callbacks=callbacks,
                )  # fmt: skip
            check_sample_weight(sample_weight, len(texts))
            return self._begin(
                texts, labels, given, check_run_options(seed, self.threads, progress, callbacks)
            )
        if not state.result.state:
            reason = (
                "the fit of this classifier was interrupted in its first run"
                if state.result.interrupted
                else "this classifier was quantized, imported, or loaded without its "
                "training.safetensors"
            )
            raise ValueError(f"partial_fit: {reason}, so it cannot continue training; use fit")
        texts, labels = check_labeled_texts(X, y)
        check_label_kind(labels, state.multi_label)
        weights = check_sample_weight(sample_weight, len(texts))
        options = check_run_options(seed, self.threads, progress, callbacks)
        known, tokenizer = set(state.classes), state.tokenizer
        added = (check_label(c, "y") for c in unique_labels(labels) if c not in known)
        classes = [*state.classes, *added]
        check_distinct(classes)
        updated = state.class_weight if unchanged else check_class_weight(class_weight, classes)
        with limit_threads(options.threads):
            if isinstance(tokenizer, WordTokenizer):
                config = self.config
                tokenizer = tokenizer.extended(
                    texts, config.max_words, config.min_count, config.max_ngrams
                )
            problem = Problem(self.config, tokenizer, classes, state.multi_label, updated)
            data = problem.encode(texts, labels, weights=weights)
            result = continue_training(state.result, problem, data, options, epochs=epochs)
        self._state = replace(
            state, tokenizer=tokenizer, classes=classes, result=result, class_weight=updated
        )
        return self

    def _begin(
        self, texts: list[str], labels: Labels, class_weight: Any, options: RunOptions
    ) -> TextClassifier:
        """Learn the tokens of texts that have a single label."""
        classes, multi_label = check_classes(labels, at_least=1), is_multi_label(labels)
        factors = check_class_weight(class_weight, classes)
        with limit_threads(options.threads):
            tokenizer = self._train_tokenizer(texts)
            problem = Problem(self.config, tokenizer, classes, multi_label, factors)
            result = begin_training(problem, problem.encode(texts, labels), options)
        self._state = FittedState(tokenizer, classes, result, multi_label, factors)
        return self

    def _train_tokenizer(self, texts: list[str]) -> Tokenizer:
        config = self.config
        return self._given_tokenizer or WordTokenizer.train(
            texts, config.max_words, config.min_count, config.max_ngrams, config.features
        )

    def predict(
        self,
        X: str | Iterable[str],
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> Any:
        """Predict the label of each text.

        Args:
            X: the texts, as in `fit`, or a single string.
            top_k: the number of labels to return for each text, with their probabilities.
            threshold: the probability above which a label is returned, from 0 to 1.

        Returns:
            A list with one entry per text; for a single string that entry alone. An entry is

            - the most probable label; in a multi-label problem the tuple of all labels whose
              probability is above the threshold that maximized the micro-F1 on held-out texts;
            - with `threshold`: the list of the labels whose probability is above it, the most
              probable first, which may be empty; in a multi-label problem a tuple as before;
            - with `top_k`: a list of at most `top_k` pairs (label, probability), the most probable
              first; with `threshold` as well, only of the labels above it.

        Example:
            >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
            >>> [(label, round(p)) for label, p in clf.predict("good", top_k=2)]
            [('yes', 1), ('no', 0)]
        """
        return self.predictor.predict(X, top_k, threshold)

    def predict_proba(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C), columns as in `classes_`; (C,) for a single string.

        A row sums to 1; in a multi-label problem, and in a model that fastText trained with
        negative sampling, every class has a probability of its own.
        """
        return self.predictor.predict_proba(X)

    def logits(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the logits (B, C) float32, columns as in `classes_`; (C,) for a single string."""
        return self.predictor.logits(X)

    def evaluate(self, X: Iterable[str], y: Iterable[Any]) -> dict[str, float]:
        """Measure how well the predictions match known labels.

        Args:
            X, y: as in `fit`. A label that the classifier does not have counts as an error.

        Returns:
            "accuracy" and "macro_f1", or "micro_f1" and "macro_f1" in a multi-label problem, and
            "expected_calibration_error", each from 0 to 1.

        Raises:
            TypeError, ValueError: as in `fit`, or a label reads like a class of another type.
        """
        return self.evaluation(X, y).metrics

    def evaluation(self, X: Iterable[str], y: Iterable[Any]) -> Evaluation:
        """Compare the predictions with known labels: the metrics, the scores of each class, the
        confusion matrix and the worst errors.

        Args, raises: as `evaluate`.

        Example:
            >>> texts, labels = ["good film", "bad film"] * 20, ["yes", "no"] * 20
            >>> clf = TextClassifier().fit(texts, labels)
            >>> clf.evaluation(["good film", "bad film"], ["yes", "yes"]).confused_pairs()
            [ConfusedPair(label='yes', predicted='no', rows=1)]
        """
        texts, labels = check_labeled_texts(X, y)
        state, predictor = self._state_and_predictor()
        check_label_kind(labels, state.multi_label)
        check_spelling(labels, state.classes)
        return evaluate_logits(predictor.decoder, predictor.logits(texts), labels)

    def explain(self, text: str) -> Explanation:
        """Return what every word of a text contributes to the logit of every class.

        logit_c = bias_c + sum_t contribution_tc, exactly but for rounding.

        Cost: O(n D C).

        Example:
            >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
            >>> explanation = clf.explain("A good one")
            >>> explanation.tokens[explanation.for_label("yes").argmax()]
            'good'
        """
        return self.predictor.explain(text)

    def stream(self) -> StreamingDocument:
        """Return an empty document that text is appended to and that can be classified at any time.

        Raises:
            ValueError: the classifier has a given tokenizer or `max_tokens`, so what it reads of a
                word may depend on what follows.

        Example:
            >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
            >>> clf.stream().append("a go").append("od one").predict()
            'yes'
        """
        return self.predictor.stream()

    def word_vectors(self) -> np.ndarray:
        """Return the embedding (words, D) of the words by decreasing frequency, without "[UNK]" and
        n-grams."""
        state = self._fitted()
        return state.model.embedding[_entry_ids(state.tokenizer, ngrams=False)]

    def top_features(self, number: int = 10, among: int = 10_000) -> dict[Label, list[str]]:
        """Return the most discriminative tokens of each class, the strongest first.

        The score of a token for a class is what it adds to the logit of the class, averaged over
        the first 64 positions of a text, minus the mean of the same over all classes.

        Args:
            number: the number of tokens per class.
            among: the number of entries of the vocabulary to consider: the words by decreasing
                frequency, then the n-grams.
        """
        number, among = check_integer("number", number, 1), check_integer("among", among, 1)
        state = self._fitted()
        vocabulary = state.tokenizer.vocabulary
        ids = _entry_ids(state.tokenizer, ngrams=True)[:among]
        best = top_features(state.model, ids, number)
        return {c: [vocabulary[i] for i in row] for c, row in zip(state.classes, best)}

    @one_at_a_time
    def quantize(
        self, dtype: Literal["int8"] = "int8", *, max_tokens: int | None = None
    ) -> TextClassifier:
        """Make the saved model small: 8-bit integers for the embedding, and fewer tokens.

        Each row is rounded to integer multiples of its greatest absolute value divided by 127. The
        classifier predicts with the rounded values, so saving does not change predictions. It
        cannot continue training with `partial_fit`.

        Args:
            dtype: "int8".
            max_tokens: the number of words and n-grams to keep, those with the largest effect on
                the logits over all their occurrences in training (default: all).

        Raises:
            TypeError, ValueError: an argument is invalid, the classifier is not fitted, or with
                `max_tokens` it lacks the token counts of its training.
        """
        check_choice("dtype", dtype, ("int8",))
        fitted = self._fitted()
        model, tokenizer, state = fitted.model, fitted.tokenizer, fitted.result.state
        if max_tokens is not None:
            max_tokens = check_integer("max_tokens", max_tokens, 1)
            if not isinstance(tokenizer, WordTokenizer) or "token_counts" not in state:
                raise ValueError(
                    "max_tokens: requires the built-in tokenizer and the token counts of training, "
                    "which training.safetensors holds"
                )
            model, tokenizer = prune(model, tokenizer, state["token_counts"], max_tokens)
        else:
            model = model.copy()  # another thread may be predicting with this one
        scales = round_to_int8(model.embedding)
        result = replace(fitted.result, model=model, state={})
        self._state = replace(fitted, tokenizer=tokenizer, result=result, scales=scales)
        return self

    def parse_labels(self, labels: Labels) -> Labels:
        """Convert labels as files have them to the labels of this classifier that read the same.

        The class 1 is found for "1", and if no other class reads so for "1.0" and " 1 "; "true" is
        found for "True". A label without such a class stays as it is.
        """
        return parse_labels(labels, self.classes_)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, tokenizer.json, README.md and, if training can
        continue, training.safetensors. Each file is written atomically. The checkpoint of its
        training is removed then."""
        self._write(folder)
        if self._checkpoint is not None:
            remove_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _write(self, folder: str | Path) -> None:
        state, folder = self._fitted(), check_output_folder(folder)
        serialization.write(
            folder,
            self.config,
            state.decoder,
            state.class_weight,
            state.result.history,
            state.tokenizer,
            state.model,
            state.scales,
            state.result.state,
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, revision: str | None = None, token: str | bool | None = None
    ) -> TextClassifier:
        """Load a classifier that `save_pretrained` wrote.

        Args:
            folder: the folder, or a repository id "owner/name" of the Hugging Face Hub.
            revision: the branch, tag or commit of the repository.
            token: the access token for a private repository.

        Raises:
            ValueError: the folder does not exist, a file is missing or damaged, or it is not a
                text classifier of this version of hyperagg.
            ImportError: a repository id requires huggingface_hub.
        """
        saved = serialization.read(folder, revision=revision, token=token)
        classifier = cls(**vars(saved.config))
        model, scales = saved.model()
        state = saved.training_state(state_lengths(model))
        decoder = saved.decoder
        classifier._state = FittedState(
            saved.tokenizer,
            decoder.classes,
            TrainingResult(model, saved.history, state),
            decoder.multi_label,
            saved.class_weight,
            scales,
            decoder.stepped,
        )
        return classifier

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str = "Upload model",
    ) -> str:
        """Save the classifier to a repository of the Hugging Face Hub.

        Args:
            repo_id: the repository "owner/name"; it is created if it does not exist.
            revision: the branch to commit to.
            token: the access token (default: the one that `hf auth login` saved).
            private: whether a new repository is private.
            commit_message: the message of the commit.

        Returns:
            The URL of the commit.

        Raises:
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

    def to_torch(self) -> ClassifierModule:
        """Return a PyTorch module of the same function, with a copy of the parameters.

        It maps token ids and `cu_seqlens`, as `tokenizer_.encode` returns them, to logits.

        Raises:
            ValueError: the classifier is not fitted, or has hierarchical softmax.
            ImportError: PyTorch is not installed.
        """
        model = self.model_
        model.refuse_tree("to_torch")
        from hyperagg.classifier.interop.torch_module import ClassifierModule

        return ClassifierModule.from_model(model)

    def export_onnx(self, path: str | Path) -> None:
        """Write the model as an .onnx file that maps token ids to logits.

        Its inputs are `token_ids` (T,) int32 and `cu_seqlens` (B + 1,) int64, as
        `tokenizer_.encode` returns them; its outputs are `logits` and `probabilities` (B, C)
        float32. The labels and the tokenizer are in the metadata of the file, which `OnnxTokenizer`
        reads, and a quantized embedding stays quantized. See `hyperagg.classifier.interop.onnx`.

        Raises:
            ValueError: the classifier is not fitted, or has hierarchical softmax; the parameters
                exceed 2 GB; or the path is a folder.
            ImportError: onnx is not installed.
        """
        state = self._fitted()
        state.model.refuse_tree("export_onnx")
        from hyperagg.classifier.interop import onnx

        onnx.write(
            path,
            state.model,
            state.scales,
            state.decoder,
            self.config.max_tokens,
            state.tokenizer,
        )

    @classmethod
    def from_fasttext(cls, file: str | Path) -> TextClassifier:
        """Load a supervised fastText model (.bin, .ftz); the classifier predicts as fastText does.

        The probabilities are those of fastText without the 1e-5 that it adds to each, and with
        hierarchical softmax to that of each decision. Classes are in the order of the file, which
        is by frequency; with one-vs-all and negative sampling in the reverse order, so that of
        equally probable classes the first is the one that fastText predicts.

        Raises:
            ValueError: the file cannot be read; see `hyperagg.classifier.interop.fasttext`.
        """
        found = read_fasttext(check_path("file", file))
        if len(found.labels) < 2:
            raise ValueError(f"{file}: expected a model with at least two labels, got one")
        classifier = cls(d_model=found.dim, pooling="mean", max_ngrams=0)
        stepped = found.loss in ("ns", "ova")
        order = slice(None, None, -1 if stepped else 1)
        model = ClassifierModel(
            embedding=found.input,
            positions=np.ones((NUM_BLOCKS, found.dim), dtype=np.float32),
            weight=np.ascontiguousarray(found.output[order]),
            bias=np.zeros(len(found.labels), dtype=np.float32),
            pooling="mean",
            tree=found.tree,
        )
        classifier._state = FittedState(
            found.tokenizer,
            [*found.labels[order]],
            TrainingResult(model),
            multi_label=found.loss == "ova",
            stepped=stepped,
        )
        return classifier


def _entry_ids(tokenizer: Tokenizer, ngrams: bool) -> np.ndarray:
    """Return the ids of all words, and of the n-grams if wanted."""
    wanted = np.array([entry != UNKNOWN for entry in tokenizer.vocabulary], dtype=bool)
    if not ngrams:
        wanted &= ~ngram_mask(tokenizer)
    return np.flatnonzero(wanted)


def _check_unlabelled(unlabelled: Iterable[str], vectors: Path | None) -> list[str]:
    texts = check_texts(unlabelled, "unlabelled")
    if not texts:
        raise ValueError("unlabelled: expected at least one text, got none")
    if vectors is not None:
        raise ValueError(
            "vectors and unlabelled: both give the initial vectors; expected one of them"
        )
    return texts


_NOT_FITTED = "this TextClassifier is not fitted; call fit or from_pretrained first"
