"""Predicts the labels of texts with trained parameters.

This is the part of a classifier that serves. It does not import the modules that train, so that a
process which only predicts starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.validation import check_bool, check_integer
from hyperagg._numba.threads import limit_threads
from hyperagg.classifier import serialization
from hyperagg.classifier.explanation import Explanation, explain
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.streaming import StreamingDocument
from hyperagg.classifier.training.labels import check_texts
from hyperagg.text import Ragged, Tokenizer, WordTokenizer
from hyperagg.text.normalization import text_to_bytes

__all__ = ["Predictor", "encode", "load_predictor"]


class _Source(NamedTuple):
    """Where the model of a loaded predictor is, and the digest of its texts."""

    folder: str
    revision: str | None
    mmap: bool
    text_digest: str


class Predictor:
    """Predicts the labels of texts; any number of threads may use it at the same time.

    One that `load_predictor` returned is pickled as the path of its model.

    Args:
        model: the parameters.
        tokenizer: converts texts to rows of token ids.
        decoder: converts logits to labels.
        max_tokens: the number of tokens of a text that are read (default: all of them).
        threads: the number of threads that a call may use (default: all, and one in a process other
            than the one that made the predictor, since such processes are workers among others).

    Numerics: float32, sums over tokens in float64. Cost: O(n D + C D) per text of n tokens.
    """

    def __init__(
        self,
        model: ClassifierModel,
        tokenizer: Tokenizer,
        decoder: LabelDecoder,
        max_tokens: int | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.decoder = model, tokenizer, decoder
        self.max_tokens = max_tokens
        self.threads = None if threads is None else check_integer("threads", threads, 1)
        self._process: int | None = os.getpid()
        self._source: _Source | None = None

    def __repr__(self) -> str:
        source = "" if self._source is None else f"{self._source.folder!r}, "
        tokens, dimension = self.model.embedding.shape
        labels = ", multi_label" if self.multi_label_ else ""
        return (
            f"{type(self).__name__}({source}{len(self.decoder.classes):,} classes{labels}, "
            f"{tokens:,} tokens, dimension {dimension})"
        )

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        if self._source is None:
            return super().__reduce_ex__(protocol)
        return _load_again, (self._source, self.threads, self.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_process": None}

    @cached_property
    def fingerprint(self) -> str | None:
        """What identifies the model of a loaded predictor, in any copy of its folder: a digest of
        config.json and tokenizer.json, and a checksum of all parameters. None for one that was not
        loaded. Cost: the first use reads the parameters once, at about 2 GB/s."""
        source = self._source
        return None if source is None else f"{source.text_digest}-{self.model.checksum():08x}"

    @property
    def classes_(self) -> list[Label]:
        """The labels, in the order of the columns of `predict_proba`."""
        return list(self.decoder.classes)

    @property
    def multi_label_(self) -> bool:
        """Whether a text may have any number of labels instead of exactly one."""
        return self.decoder.multi_label

    def predict(
        self,
        X: str | Iterable[str],
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> Any:
        """Return the predicted label of each text; see `TextClassifier.predict`."""
        if not isinstance(X, str):
            return self.decoder.labels(self.logits(X), top_k, threshold)
        scored = self._score(X)
        if scored is None:
            return self.predict([X], top_k, threshold)[0]
        logits, best = scored
        if top_k is None and threshold is None and not self.decoder.multi_label:
            return self.decoder.classes[best]
        return self.decoder.labels(logits, top_k, threshold)[0]

    def predict_proba(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C), columns as in `classes_`; (C,) for a single string."""
        return self.decoder.probabilities(self.logits(X))

    def logits(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the logits (B, C) float32, columns as in `classes_`; (C,) for a single string."""
        if isinstance(X, str):
            return self.logits([X])[0]
        texts = check_texts(X, expected="a str or a list of str")
        if len(texts) == 1 and (scored := self._score(texts[0])) is not None:
            return scored[0]
        in_worker = self._process != os.getpid()
        with limit_threads(1 if self.threads is None and in_worker else self.threads):
            return self.model.logits(encode(self.tokenizer, texts, self.max_tokens))

    def _score(self, text: str) -> tuple[np.ndarray, int] | None:
        """The logits (1, C) of a text and its most probable class, without the overhead of a batch;
        None if this predictor has no such way."""
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, WordTokenizer) or self.max_tokens is not None:
            return None
        scorer = self.model.text_scorer()
        if scorer is None:
            return None
        return scorer(text_to_bytes(text), tokenizer.table, tokenizer.level)

    def explain(self, text: str) -> Explanation:
        """Return what each word contributes to each logit; see `TextClassifier.explain`."""
        if not isinstance(text, str):
            raise TypeError(f"text: expected str, got {type(text).__name__}")
        rows = encode(self.tokenizer, [text], self.max_tokens)
        logits = self.model.logits(rows)[0]
        alignment = self.tokenizer.align(text)
        return explain(self.model, rows.token_ids, text, alignment, self.decoder, logits)

    def stream(self) -> StreamingDocument:
        """Return an empty document; see `TextClassifier.stream`."""
        if not isinstance(self.tokenizer, WordTokenizer):
            raise ValueError(
                f"stream: expected the built-in tokenizer, got {type(self.tokenizer).__name__}, "
                "which reads texts whole"
            )
        if self.max_tokens is not None:
            raise ValueError(f"stream: not available with max_tokens={self.max_tokens}")
        return StreamingDocument(self.model.kernel_arguments, self.tokenizer, self.decoder)


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int | None) -> Ragged:
    """Return the token ids of the texts, the first `max_tokens` of each unless it is None."""
    rows = tokenizer.encode(texts)
    return rows if max_tokens is None else rows.truncate(max_tokens)


def load_predictor(
    folder: str | Path,
    *,
    mmap: bool = False,
    threads: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Predictor:
    """Load the part of a saved classifier that predicts.

    The predictor is pickled as the path of the folder, or as the repository id, with its
    `fingerprint`: little is sent to a worker process, and a worker that finds another model at the
    path raises an error.

    Args:
        folder: a folder that `TextClassifier.save_pretrained` wrote, or a repository id
            "owner/name" of the Hugging Face Hub.
        mmap: whether to map the parameters read-only, so that all processes of a machine that do so
            hold one copy of them. Saving a model to the folder replaces the file, so a predictor
            keeps the one that it has mapped; overwriting the file in place is not supported.
        threads: the number of threads that a call may use (default: all, and one after a fork or
            unpickling).
        revision: the branch, tag or commit of the repository.
        token: the access token for a private repository. It is not pickled.

    Raises:
        ValueError: as `TextClassifier.from_pretrained`, or the embedding is quantized and `mmap` is
            set: 8-bit embeddings are unpacked into memory.

    Cost: one pass over all parameters, which are checked to be finite; with `mmap` they are read
    from the disk only if the page cache does not hold them.

    Example:
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.save_pretrained("model")
        >>> load_predictor("model", mmap=True).predict("a good one")
        'yes'
    """
    check_bool("mmap", mmap)
    saved = serialization.read(folder, revision=revision, token=token)
    model, _ = saved.model(mmap)
    predictor = Predictor(
        model, saved.tokenizer, saved.decoder, saved.config.max_tokens, threads=threads
    )
    # A folder's path must not depend on the working directory of the process that unpickles it.
    where = str(Path(folder).absolute()) if Path(folder).is_dir() else str(folder)
    predictor._source = _Source(where, revision, mmap, saved.text_digest)
    return predictor


def _load_again(source: _Source, threads: int | None, fingerprint: str) -> Predictor:
    predictor = load_predictor(
        source.folder, mmap=source.mmap, threads=threads, revision=source.revision
    )
    if predictor.fingerprint != fingerprint:
        raise ValueError(
            f"{source.folder}: holds another model than when the predictor was pickled; load it "
            "again with load_predictor"
        )
    predictor._process = None
    return predictor
