"""How well a language model knows texts: perplexity per token, and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Perplexity", "measure_perplexity"]

# Places whose logits are made at once; with 10,000 words they are 160 MB.
PLACES = 4096


@dataclass(frozen=True)
class Perplexity:
    """What a model makes of texts.

    Args:
        nats: -sum log P(token | all before it in its document), the end of each document included.
        tokens: how many were predicted.
        words: white-space separated, and one end a document.
        bytes: of the texts in UTF-8.
    """

    nats: float
    tokens: int
    words: int
    bytes: int

    @property
    def per_token(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def per_word(self) -> float:
        """Comparable between tokenizers, unless one of them has an unknown word."""
        return math.exp(min(self.nats / self.words, 700))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers that can write any text."""
        return self.nats / math.log(2) / max(1, self.bytes)


@torch.no_grad()
def measure_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
    shown: bool = False,
) -> Perplexity:
    """Perplexity of a causal language model on texts, each a document of its own.

    Args:
        model: of this library, or any causal model of transformers.
        tokenizer: its tokenizer; its eos_token stands before and after every text.
        texts: as they are.
        window: None streams: a token is predicted from all of its document, read in chunks with
            the state (or cache) carried on. A number predicts from windows of so many tokens.
        stride: how far a window moves, half of it unless named; the tokens that stood in the
            window before are context only.
        shown: a progress bar on standard error.

    Raises:
        ValueError: no text, or a window or stride that cannot be.

    Cost: one pass over the tokens; window / stride passes with windows.
    """
    if not texts:
        raise ValueError("there is no text to measure perplexity on")
    if window is not None and window < 2:
        raise ValueError(f"window={window}: give at least 2 tokens, one to predict the next from")
    stride = stride or max(1, (window or 2) // 2)
    if window is not None and not 0 < stride < window:
        raise ValueError(f"stride={stride}: give 1 to {window - 1}, less than the window")
    end = tokenizer.eos_token_id
    documents = [
        [end, *ids, end] for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ]
    was_training = model.training
    model.eval()
    batches = list(_by_length(documents) if window is None else _windows(documents, window, stride))
    if shown:
        bar = track(batches, "measuring perplexity", console=Console(stderr=True), transient=True)
    nats = sum(_nats(model, rows, firsts) for rows, firsts in (bar if shown else batches))
    model.train(was_training)
    return Perplexity(
        nats,
        sum(len(document) - 1 for document in documents),
        sum(len(text.split()) + 1 for text in texts),
        sum(len(text.encode()) for text in texts),
    )


Batch = tuple[list[list[int]], list[int]]


def _by_length(documents: list[list[int]]) -> Iterator[Batch]:
    """Documents of about the same length, as many as fit; all their tokens but the first count."""
    rows: list[list[int]] = []
    for document in sorted(documents, key=len):
        if rows and (len(rows) + 1) * min(len(document), PLACES) > PLACES:
            yield rows, [1] * len(rows)
            rows = []
        rows.append(document)
    yield rows, [1] * len(rows)


def _windows(documents: list[list[int]], window: int, stride: int) -> Iterator[Batch]:
    """Windows of documents, and the first token in each that the one before has not predicted."""
    rows: list[list[int]] = []
    firsts: list[int] = []
    for document in documents:
        predicted = 1
        for start in range(0, max(1, len(document) - 1), stride):
            end = min(start + window, len(document))
            rows.append(document[start:end])
            firsts.append(predicted - start)
            predicted = end
            if len(rows) * window >= PLACES:
                yield rows, firsts
                rows, firsts = [], []
            if end == len(document):
                break
    if rows:
        yield rows, firsts


def _nats(model: PreTrainedModel, rows: list[list[int]], firsts: list[int]) -> float:
    """-sum log P of the tokens from `firsts` on, read in chunks of PLACES with the state kept."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    counted = torch.zeros_like(ids, dtype=torch.bool)
    for index, (row, first) in enumerate(zip(rows, firsts)):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
        counted[index, first : len(row)] = True
    ids, mask, counted = (each.to(model.device) for each in (ids, mask, counted))
    inputs = longest - 1
    chunk = max(1, PLACES // len(rows))
    cache = DynamicCache(config=model.config) if chunk < inputs else None
    total = 0.0
    for start in range(0, inputs, chunk):
        end = min(start + chunk, inputs)
        logits: Tensor = model(
            ids[:, start:end],
            attention_mask=None if len(rows) == 1 else mask[:, :end],
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits
        wanted = counted[:, start + 1 : end + 1]
        targets = ids[:, start + 1 : end + 1][wanted]
        total += F.cross_entropy(logits[wanted].float(), targets, reduction="sum").item()
    return total
