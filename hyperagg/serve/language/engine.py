"""Generation for many requests at a time, on one thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hyperagg.language import HyperAggCache
from hyperagg.serve.language.sampling import Sampler, log_softmax, most_probable
from hyperagg.serve.language.settings import LanguageSettings
from hyperagg.serve.language.state_cache import StateCache
from hyperagg.serve.language.text_stream import StopMatcher, TextStream
from hyperagg.serve.metrics import count_tokens

__all__ = [
    "Engine",
    "Event",
    "Finished",
    "GenerationRequest",
    "Job",
    "OverloadedError",
    "Piece",
    "PromptRead",
    "Sink",
    "TokenLogprob",
]

# Tokens that are read at once. Between two chunks, other requests get their next tokens, and a
# request whose client has gone is dropped.
_CHUNK = 512
# States inside a prompt are kept after every chunk at first, and then after every 4096 tokens.
_SPARSE_AFTER = 4096


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate.

    Args:
        prompt: token ids, at least one.
        max_tokens: the number of tokens to generate; 0 only reads the prompt.
        temperature, top_p, seed: see `Sampler`.
        num_choices: the number of texts.
        first_choice: the index of the first of them within its request.
        stops: strings before which a text ends.
        num_logprobs: the number of most probable tokens to return with every token; None returns no
            log probabilities.
        prompt_logprobs: whether to return those of the prompt too, so that all of it has to be
            read.
    """

    prompt: list[int]
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    num_choices: int = 1
    first_choice: int = 0
    stops: tuple[str, ...] = ()
    num_logprobs: int | None = None
    prompt_logprobs: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its log probability, None for the first of a text, and its alternatives.

    `offset` is the number of characters before the token, since the beginning of the completion or,
    for a token of the prompt, of the prompt.
    """

    token: int
    logprob: float | None
    alternatives: list[tuple[int, float]]
    offset: int


@dataclass(frozen=True)
class PromptRead:
    """The prompt was read; its first `cached_tokens` tokens had a kept state."""

    cached_tokens: int
    logprobs: list[TokenLogprob]


@dataclass(frozen=True)
class Piece:
    """The next part of a text; the last one has a reason to finish: "stop" or "length"."""

    choice: int
    text: str
    tokens: list[TokenLogprob]
    finish_reason: str | None


@dataclass(frozen=True)
class Finished:
    """All texts of a request are complete.

    Args:
        generated_tokens: the number of generated tokens.
        state_bytes: the size of the state of one text.
    """

    generated_tokens: int
    state_bytes: int


Event = PromptRead | Piece | Finished | Exception
Sink = Callable[[Event], None]


class OverloadedError(Exception):
    """As many requests are running as may."""


@dataclass(eq=False)
class Job:
    """A request that runs. Setting `is_cancelled` ends it at the next chunk or token.

    Args:
        request: the request.
        sink: is called with every event, on the thread of the engine; the last event is a
            `Finished` or an exception, unless the job was cancelled.
    """

    request: GenerationRequest
    sink: Sink
    is_cancelled: bool = False
    position: int = 0
    cached_tokens: int = 0
    cache: HyperAggCache | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: TextStream | None = None
    num_characters: int = 0
    choices: list[_Choice] = field(default_factory=list)


@dataclass(eq=False)
class _Batch:
    """Texts whose next tokens are computed together: a row of the cache for each."""

    rows: list[_Choice]
    cache: HyperAggCache


class Engine:
    """Generate texts for many requests at a time.

    One thread reads the prompts, each in chunks and in turn, and then computes the next tokens of
    all texts as one batch: a state of sums has the same size after any number of tokens, so texts
    of any lengths are rows of one batch, join it when their prompt has been read and leave it when
    they end. With attention layers the rows of a batch have to be of the same length, and only the
    texts of one prompt form one.

    Args:
        model: a causal language model of this package, in evaluation mode.
        tokenizer: its tokenizer.
        settings: the limits.
        threads: the number of threads of PyTorch, for the whole process (default: unchanged).

    Numerics: the logits of a row depend on the other rows, and on how the prompt was divided, by
        rounding only.
    Cost: a batch of R rows costs less than R batches, since the weights are read once.

    Example:
        >>> from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
        >>> from hyperagg.language.tokenizer import train_tokenizer
        >>> tokenizer = train_tokenizer(["one two"], "words", 10)
        >>> config = HyperAggConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1)
        >>> engine = Engine(HyperAggForCausalLM(config).eval(), tokenizer, LanguageSettings())
        >>> events = []
        >>> _ = engine.submit([(GenerationRequest([2], max_tokens=3), events.append)])
        >>> engine.close()
        >>> type(events[0]).__name__
        'PromptRead'
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        settings: LanguageSettings,
        *,
        threads: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.threads = threads
        self.states = StateCache(settings.state_cache_bytes, settings.state_cache_entries)
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._jobs: set[Job] = set()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._reading: deque[Job] = deque()
        self._batches: list[_Batch] = []

    def submit(self, requests: Sequence[tuple[GenerationRequest, Sink]]) -> list[Job]:
        """Start requests, all or none, each with the function that receives its events.

        Raises:
            OverloadedError: more requests would run than the settings allow.
        """
        jobs = [Job(request, sink) for request, sink in requests]
        with self._changed:
            if len(self._jobs) + len(jobs) > self.settings.max_generations:
                raise OverloadedError
            self._jobs.update(jobs)
            self._waiting += jobs
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
                self._thread.start()
            self._changed.notify()
        return jobs

    @property
    def num_jobs(self) -> int:
        """The number of requests that run."""
        return len(self._jobs)

    def close(self) -> None:
        """Finish what runs, and end the thread."""
        with self._changed:
            thread, self._thread, self._closing = self._thread, None, True
            self._changed.notify()
        if thread is not None:
            thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        while self._admit():
            try:
                self._continue()
            except Exception as error:  # whatever happens, no request waits for ever
                self._fail_all(error)

    def _continue(self) -> None:
        """Read a chunk of one prompt, and compute the next token of every text."""
        self._drop_cancelled()
        if self._reading:
            job = self._reading.popleft()
            try:
                if not self._read(job):
                    self._reading.append(job)
            except Exception as error:
                self._drop([each for each in self._batches if each.rows[0].job is job])
                self._fail(job, error)
        for batch in list(self._batches):
            try:
                self._step(batch)
            except Exception as error:
                self._drop([batch])
                for job in {row.job for row in batch.rows}:
                    self._fail(job, error)

    def _admit(self) -> bool:
        """Take new requests, wait for the first if nothing runs, and return whether to go on."""
        with self._changed:
            while not (self._waiting or self._reading or self._batches):
                if self._closing:
                    return False
                self._changed.wait()
            self._reading += self._waiting
            self._waiting = []
        return True

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._reading if job.is_cancelled]:
            self._reading.remove(job)
            self._leave(job)
        for batch in list(self._batches):
            cancelled = {row.job for row in batch.rows if row.job.is_cancelled}
            self._retain(batch, [row.job not in cancelled for row in batch.rows])
            for job in cancelled:
                self._leave(job)

    def _read(self, job: Job) -> bool:
        """Read the next chunk of a prompt, and return whether that was the last one."""
        prompt, request = job.request.prompt, job.request
        last = len(prompt) - 1
        if job.cache is None:
            if request.prompt_logprobs:
                job.logprobs = [TokenLogprob(prompt[0], None, [], 0)]
                job.text = TextStream(self.tokenizer)
            else:
                job.position, job.cache = self.states.find(prompt)
                job.cached_tokens = job.position
                count_tokens("kept", job.position)
            job.cache = job.cache or HyperAggCache(self.model.config)
        if job.position < last:
            # The borders of chunks do not depend on where reading began, so that prompts which
            # begin alike have states in common.
            end = min((job.position // _CHUNK + 1) * _CHUNK, last)
            logits = self._forward(
                prompt[job.position : end], job.cache, all_logits=request.prompt_logprobs
            )
            count_tokens("read", end - job.position)
            if request.prompt_logprobs:
                self._add_prompt_logprobs(job, logits)
            job.position = end
            is_sparse = end <= _SPARSE_AFTER or end % _SPARSE_AFTER == 0
            if end == last or (is_sparse and job.cache.has_fixed_size):
                self.states.keep(prompt[:end], job.cache)
            if job.position < last:
                return False
        if not request.max_tokens:
            _emit(job, PromptRead(job.cached_tokens, job.logprobs))
            self._finish(job)
            return True
        logits = self._forward(prompt[last:], job.cache)[-1]
        count_tokens("read", 1)
        _emit(job, PromptRead(job.cached_tokens, job.logprobs))
        job.choices = [_Choice(job, i, self.tokenizer) for i in range(request.num_choices)]
        rows = torch.zeros(request.num_choices, dtype=torch.int64)
        batch = _Batch(list(job.choices), job.cache.select_rows(rows))
        job.cache = None
        self._batches.append(batch)
        self._advance(batch, np.broadcast_to(logits, (len(batch.rows), len(logits))))
        self._merge()
        return True

    def _add_prompt_logprobs(self, job: Job, logits: np.ndarray) -> None:
        """Add the log probabilities of the tokens that follow those of a chunk."""
        prompt, number = job.request.prompt, job.request.num_logprobs or 0
        assert job.text is not None
        for index, row in enumerate(logits, job.position):
            job.num_characters += len(job.text.push(prompt[index]))
            token, log_probabilities = prompt[index + 1], log_softmax(row)
            job.logprobs.append(
                TokenLogprob(
                    token,
                    float(log_probabilities[token]),
                    most_probable(log_probabilities, number),
                    job.num_characters,
                )
            )

    def _forward(
        self, tokens: list[int], cache: HyperAggCache, all_logits: bool = False
    ) -> np.ndarray:
        """Read tokens, and return the logits after each or after the last, (N, V) float32."""
        ids = torch.tensor([tokens], device=self.model.device)
        output = self.model(
            ids, past_key_values=cache, use_cache=True, logits_to_keep=0 if all_logits else 1
        )
        return output.logits[0].float().cpu().numpy()

    def _step(self, batch: _Batch) -> None:
        """Compute the next token of every row."""
        ids = torch.tensor([[row.tokens[-1]] for row in batch.rows], device=self.model.device)
        output = self.model(ids, past_key_values=batch.cache, use_cache=True, logits_to_keep=1)
        self._advance(batch, output.logits[:, -1].float().cpu().numpy())

    def _advance(self, batch: _Batch, logits: np.ndarray) -> None:
        """Give every row its next token; those that are complete leave."""
        count_tokens("generated", len(batch.rows))
        failed: dict[Job, Exception] = {}
        remain = []
        for index, (row, row_logits) in enumerate(zip(batch.rows, logits)):
            piece = None
            if row.job not in failed:
                try:
                    piece = row.advance(row_logits)
                except FloatingPointError as error:
                    failed[row.job] = error
            if row.is_finished:
                read = row.job.request.prompt + row.tokens[:-1]
                self.states.keep(read, batch.cache.select_rows(torch.tensor([index])))
            if piece is not None:
                _emit(row.job, piece)
            remain.append(not row.is_finished)
        ended = {row.job for row in batch.rows if row.is_finished}
        state_bytes = batch.cache.num_bytes // len(batch.rows)
        self._retain(
            batch, [stays and row.job not in failed for row, stays in zip(batch.rows, remain)]
        )
        for job, reason in failed.items():
            self._fail(job, reason)
        for job in ended - set(failed):
            if all(choice.is_finished for choice in job.choices):
                self._finish(job, state_bytes)

    def _retain(self, batch: _Batch, stays: list[bool]) -> None:
        """Remove rows of a batch, and the batch if none is left."""
        if all(stays):
            return
        batch.rows = [row for row, each in zip(batch.rows, stays) if each]
        if batch.rows:
            batch.cache.batch_select_indices(torch.tensor(stays).nonzero()[:, 0])
        else:
            self._drop([batch])

    def _merge(self) -> None:
        """Join the batches whose states have a fixed size."""
        if len(self._batches) > 1 and self._batches[0].cache.has_fixed_size:
            rows = [row for batch in self._batches for row in batch.rows]
            cache = HyperAggCache.concatenate([batch.cache for batch in self._batches])
            self._batches = [_Batch(rows, cache)]

    def _finish(self, job: Job, state_bytes: int | None = None) -> None:
        if state_bytes is None:
            assert job.cache is not None
            state_bytes = job.cache.num_bytes
        self._leave(job)
        _emit(job, Finished(sum(len(choice.tokens) for choice in job.choices), state_bytes))

    def _fail(self, job: Job, error: Exception) -> None:
        self._leave(job)
        _emit(job, error)
        job.is_cancelled = True  # rows that it may still have are dropped

    def _drop(self, batches: list[_Batch]) -> None:
        self._batches = [batch for batch in self._batches if batch not in batches]

    def _fail_all(self, error: Exception) -> None:
        self._batches = []
        self._reading.clear()
        with self._changed:
            running = self._jobs - set(self._waiting)
        for job in running:
            self._fail(job, error)

    def _leave(self, job: Job) -> None:
        with self._changed:
            self._jobs.discard(job)


class _Choice:
    """A text that is generated: its tokens, and the text and log probabilities not yet returned."""

    def __init__(self, job: Job, index: int, tokenizer: PreTrainedTokenizerFast) -> None:
        request = job.request
        self.job, self.index = job, request.first_choice + index
        self.tokens: list[int] = []
        self.is_finished = False
        self._end = tokenizer.eos_token_id
        self._sampler = Sampler(request.temperature, request.top_p, request.seed, self.index)
        self._text = TextStream(tokenizer, request.prompt)
        self._stops = StopMatcher(request.stops)
        self._decoded = self._returned = 0  # characters
        self._held: list[TokenLogprob] = []

    def advance(self, logits: np.ndarray) -> Piece | None:
        """Add the next token, and return what can be returned now, if there is anything."""
        request = self.job.request
        token = self._sampler(logits)
        self.tokens.append(token)
        is_end = token == self._end
        if request.num_logprobs is not None and not is_end:
            self._hold(token, logits, request.num_logprobs)
        decoded = self._text.push(token)
        text = self._stops.push(decoded)
        if not self._stops.is_stopped and (is_end or len(self.tokens) == request.max_tokens):
            rest = self._text.finish()
            decoded += rest
            text += self._stops.push(rest)
            if not self._stops.is_stopped:
                text += self._stops.finish()
            self.is_finished = True
        self.is_finished = self.is_finished or self._stops.is_stopped
        self._decoded += len(decoded)
        self._returned += len(text)
        tokens = self._release()
        if not (text or tokens or self.is_finished):
            return None
        reason = None
        if self.is_finished:
            reason = "stop" if is_end or self._stops.is_stopped else "length"
        return Piece(self.index, text, tokens, reason)

    def _hold(self, token: int, logits: np.ndarray, number: int) -> None:
        log_probabilities = log_softmax(logits)
        self._held.append(
            TokenLogprob(
                token,
                float(log_probabilities[token]),
                most_probable(log_probabilities, number),
                self._decoded,
            )
        )

    def _release(self) -> list[TokenLogprob]:
        """The log probabilities of the tokens whose text was returned.

        Tokens that begin inside a stop string are left out.
        """
        is_complete = self.is_finished and not self._stops.is_stopped
        ready = [each for each in self._held if is_complete or each.offset < self._returned]
        self._held = self._held[len(ready) :]
        return ready


def _emit(job: Job, event: Event) -> None:
    """Deliver an event; a job whose receiver is gone is cancelled."""
    try:
        job.sink(event)
    except RuntimeError:  # a closed event loop
        job.is_cancelled = True
