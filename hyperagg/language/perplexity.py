"""Evaluation of a language model on texts: perplexity, and bits per byte."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hyperagg._common.progress import progress_bar
from hyperagg.language.standard_error import StandardError, standard_error
from hyperagg.language.tokenizer import encode

__all__ = ["CONVENTIONS", "Convention", "Perplexity", "measure_perplexity"]

Convention = Literal["end-of-text", "lm-eval"]
CONVENTIONS = ("end-of-text", "lm-eval")

# Positions whose logits are computed at once: 160 MB with a vocabulary of 10,000 words.
POSITIONS_PER_CHUNK = 4096


@dataclass(frozen=True)
class Perplexity:
    """Hold the negative log-likelihood of texts, and what it is normalized by.

    Args:
        nats: -sum log P(token | the preceding tokens of its document), including the token that
            ends each document in the convention "end-of-text".
        num_tokens: number of predicted tokens.
        num_words: number of words that are separated by white space, plus one per document for
            its end in the convention "end-of-text".
        num_bytes: number of bytes of the texts in UTF-8.
        loss_error: the standard error of nats / num_tokens over documents, or over blocks of tokens
            if there are few documents; see `standard_error`. None if it is unknown.

    Example:
        >>> result = Perplexity(nats=2.0794415, num_tokens=3, num_words=2, num_bytes=10)
        >>> round(result.perplexity, 3), round(result.bits_per_byte, 3)
        (2.0, 0.3)
    """

    nats: float
    num_tokens: int
    num_words: int
    num_bytes: int
    loss_error: StandardError | None = None

    @property
    def perplexity(self) -> float:
        """Return exp(nats / num_tokens), which depends on the tokenizer."""
        return math.exp(self.nats / self.num_tokens)

    @property
    def perplexity_standard_error(self) -> float | None:
        """Return the standard error of `perplexity`: the perplexity times that of the loss, the
        derivative of exp being exp (the delta method). It is about the choice of the texts, not
        about the seed of the model."""
        return None if self.loss_error is None else self.perplexity * self.loss_error.value

    @property
    def perplexity_per_word(self) -> float:
        """Return exp(nats / num_words).

        It is comparable between tokenizers that have no unknown word. The exponent is capped at
        700, so that the result is finite.
        """
        return math.exp(min(self.nats / self.num_words, 700))

    @property
    def bits_per_byte(self) -> float:
        """Return nats / (num_bytes ln 2), comparable between tokenizers that encode any text."""
        return self.nats / math.log(2) / max(1, self.num_bytes)


@torch.no_grad()
def measure_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
    convention: Convention = "end-of-text",
    progress: bool | None = None,
) -> Perplexity:
    """Measure the perplexity of a causal language model on texts, each a document of its own.

    Args:
        model: a model of this package, or any causal language model of transformers.
        tokenizer: its tokenizer; `eos_token` precedes and follows every text.
        texts: the texts, at least one.
        window: None (default) predicts each token from all preceding tokens of its document, which
            is read in chunks with the cache carried over. An integer >= 2 predicts from windows of
            that many tokens.
        stride: number of tokens by which a window moves, 1 to window - 1 (default: window // 2).
            The tokens that the previous window contained are context only.
        convention: "end-of-text" (default) predicts and counts the token that ends each text, as
            a model has to in order to generate texts. "lm-eval" neither predicts nor counts it, as
            the rolling log-likelihood of lm-evaluation-harness: the words of a text are the parts
            between white space, a text begins with `bos_token` if the tokenizer has one, and the
            last window of a text is as long as the others. With window = M + 1 and stride = M the
            windows are those of lm-eval with max_length = M.
        progress: whether to show a progress bar on standard error; None (default) shows it in a
            terminal and in a notebook.

    Returns:
        A `Perplexity`.

    Raises:
        ValueError: if there are no tokens to predict, if `window` or `stride` is out of range, or
            if `convention` is unknown.

    Numerics: the logits are converted to float32 before the softmax; losses are summed in float64.
    Cost: one pass over the tokens; window / stride passes with windows. The loss of each token is
    kept, in 4 bytes, for the standard error.

    Example:
        >>> from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
        >>> from hyperagg.language.tokenizer import train_tokenizer
        >>> tokenizer = train_tokenizer(["one two", "two"], "words", 10)
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> measure_perplexity(HyperAggForCausalLM(config), tokenizer, ["two one"]).num_tokens
        3
    """
    if not texts:
        raise ValueError("texts: expected at least one text, and got none")
    if window is not None and window < 2:
        raise ValueError(f"window={window}: expected an integer >= 2")
    if window is not None and stride is not None and not 0 < stride < window:
        raise ValueError(f"stride={stride}: expected 1 to {window - 1}, less than the window")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r}: expected one of {', '.join(CONVENTIONS)}")
    stride = stride or max(1, (window or 2) // 2)
    ends = convention == "end-of-text"
    documents = _make_documents(tokenizer, texts, ends)
    num_tokens = sum(len(document) - 1 for document in documents)
    if not num_tokens:
        raise ValueError("texts: expected at least one token, and all texts are empty")
    was_training = model.training
    model.eval()
    batches = list(
        _by_length(documents)
        if window is None
        else _windows(documents, window, stride, fill_last=not ends)
    )
    parts: list[list[np.ndarray]] = [[] for _ in documents]
    with progress_bar("measuring perplexity", progress) as update:
        for index, batch in enumerate(batches, 1):
            for document, losses in zip(batch.documents, _losses(model, batch), strict=True):
                parts[document].append(losses)
            update(index / len(batches), f"batch {index}/{len(batches)}")
    model.train(was_training)
    found = [np.concatenate(each) for each in parts if each]
    return Perplexity(
        float(sum(losses.sum(dtype=np.float64) for losses in found)),
        num_tokens,
        num_words=sum(
            len(text.split()) + 1 if ends else len(re.split(r"\s+", text)) for text in texts
        ),
        num_bytes=sum(len(text.encode()) for text in texts),
        loss_error=standard_error(found),
    )


def _make_documents(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ends: bool
) -> list[list[int]]:
    """The token ids of each text between the tokens that begin and, with `ends`, end it."""
    ids = encode(tokenizer, texts)["input_ids"]
    end = tokenizer.eos_token_id
    if ends:
        return [[end, *row, end] for row in ids]
    start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return [[start, *row] for row in ids]


@dataclass
class _Batch:
    """Rows of token ids; of each, the index of the first token to predict, and its document."""

    rows: list[list[int]] = field(default_factory=list)
    first_predicted: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)

    def add(self, row: list[int], first_predicted: int, document: int) -> None:
        self.rows.append(row)
        self.first_predicted.append(first_predicted)
        self.documents.append(document)


def _by_length(documents: list[list[int]]) -> Iterator[_Batch]:
    """Batches of whole documents of similar length, up to POSITIONS_PER_CHUNK tokens each."""
    batch = _Batch()
    for index in sorted(range(len(documents)), key=lambda index: len(documents[index])):
        document = documents[index]
        length = min(len(document), POSITIONS_PER_CHUNK)
        if batch.rows and (len(batch.rows) + 1) * length > POSITIONS_PER_CHUNK:
            yield batch
            batch = _Batch()
        batch.add(document, 1, index)
    yield batch


def _windows(
    documents: list[list[int]], window: int, stride: int, fill_last: bool
) -> Iterator[_Batch]:
    """Batches of windows; each predicts the tokens that the previous window did not.

    With `fill_last`, the last window of a document begins early enough to be as long as the others.
    """
    batch = _Batch()
    for index, document in enumerate(documents):
        predicted = 1
        for start in range(0, max(1, len(document) - 1), stride):
            end = min(start + window, len(document))
            start = max(0, end - window) if fill_last else start
            batch.add(document[start:end], predicted - start, index)
            predicted = end
            if len(batch.rows) * window >= POSITIONS_PER_CHUNK:
                yield batch
                batch = _Batch()
            if end == len(document):
                break
    if batch.rows:
        yield batch


def _losses(model: PreTrainedModel, batch: _Batch) -> list[np.ndarray]:
    """-log P of the predicted tokens of each row, read in chunks with the cache kept."""
    rows = batch.rows
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    predicted = torch.zeros_like(ids, dtype=torch.bool)
    for index, (row, first) in enumerate(zip(rows, batch.first_predicted)):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
        predicted[index, first : len(row)] = True
    ids, mask, predicted = (tensor.to(model.device) for tensor in (ids, mask, predicted))
    num_inputs = longest - 1
    chunk = max(1, POSITIONS_PER_CHUNK // len(rows))
    use_cache = chunk < num_inputs
    cache = None
    losses = torch.zeros_like(ids, dtype=torch.float32)
    for start in range(0, num_inputs, chunk):
        end = min(start + chunk, num_inputs)
        output = model(
            ids[:, start:end],
            attention_mask=None if len(rows) == 1 else mask[:, :end],
            past_key_values=cache,
            use_cache=use_cache,
        )
        cache = output.past_key_values if use_cache else None
        targets_mask = predicted[:, start + 1 : end + 1]
        targets = ids[:, start + 1 : end + 1][targets_mask]
        logits: Tensor = output.logits
        nll = F.cross_entropy(logits[targets_mask].float(), targets, reduction="none")
        losses[:, start + 1 : end + 1][targets_mask] = nll
    return [
        row[first : len(tokens)].numpy()
        for row, first, tokens in zip(losses.cpu(), batch.first_predicted, rows)
    ]
