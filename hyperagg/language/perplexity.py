"""Evaluation of a language model on texts: perplexity, and bits per byte."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hyperagg._common.progress import progress_bar
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

    Example:
        >>> result = Perplexity(nats=2.0794415, num_tokens=3, num_words=2, num_bytes=10)
        >>> round(result.perplexity, 3), round(result.bits_per_byte, 3)
        (2.0, 0.3)
    """

    nats: float
    num_tokens: int
    num_words: int
    num_bytes: int

    @property
    def perplexity(self) -> float:
        """Return exp(nats / num_tokens), which depends on the tokenizer."""
        return math.exp(self.nats / self.num_tokens)

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

    Numerics: the logits are converted to float32 before the softmax.
    Cost: one pass over the tokens; window / stride passes with windows.

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
    nats = 0.0
    with progress_bar("measuring perplexity", progress) as update:
        for index, (rows, first_predicted) in enumerate(batches, 1):
            nats += _nats(model, rows, first_predicted)
            update(index / len(batches), f"batch {index}/{len(batches)}")
    model.train(was_training)
    return Perplexity(
        nats,
        num_tokens,
        num_words=sum(
            len(text.split()) + 1 if ends else len(re.split(r"\s+", text)) for text in texts
        ),
        num_bytes=sum(len(text.encode()) for text in texts),
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


# Rows of token ids, and the index of the first token to predict in each.
Batch = tuple[list[list[int]], list[int]]


def _by_length(documents: list[list[int]]) -> Iterator[Batch]:
    """Batches of whole documents of similar length, up to POSITIONS_PER_CHUNK tokens each."""
    rows: list[list[int]] = []
    for document in sorted(documents, key=len):
        length = min(len(document), POSITIONS_PER_CHUNK)
        if rows and (len(rows) + 1) * length > POSITIONS_PER_CHUNK:
            yield rows, [1] * len(rows)
            rows = []
        rows.append(document)
    yield rows, [1] * len(rows)


def _windows(
    documents: list[list[int]], window: int, stride: int, fill_last: bool
) -> Iterator[Batch]:
    """Batches of windows; each predicts the tokens that the previous window did not.

    With `fill_last`, the last window of a document begins early enough to be as long as the others.
    """
    rows: list[list[int]] = []
    first_predicted: list[int] = []
    for document in documents:
        predicted = 1
        for start in range(0, max(1, len(document) - 1), stride):
            end = min(start + window, len(document))
            start = max(0, end - window) if fill_last else start
            rows.append(document[start:end])
            first_predicted.append(predicted - start)
            predicted = end
            if len(rows) * window >= POSITIONS_PER_CHUNK:
                yield rows, first_predicted
                rows, first_predicted = [], []
            if end == len(document):
                break
    if rows:
        yield rows, first_predicted


def _nats(model: PreTrainedModel, rows: list[list[int]], first_predicted: list[int]) -> float:
    """-sum log P of the tokens from `first_predicted` on, read in chunks with the cache kept."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    predicted = torch.zeros_like(ids, dtype=torch.bool)
    for index, (row, first) in enumerate(zip(rows, first_predicted)):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
        predicted[index, first : len(row)] = True
    ids, mask, predicted = (tensor.to(model.device) for tensor in (ids, mask, predicted))
    num_inputs = longest - 1
    chunk = max(1, POSITIONS_PER_CHUNK // len(rows))
    use_cache = chunk < num_inputs
    cache = None
    total = 0.0
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
        nll = F.cross_entropy(logits[targets_mask].float(), targets, reduction="sum")
        total += nll.item()
    return total
