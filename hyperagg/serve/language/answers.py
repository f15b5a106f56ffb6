"""Responses in the shapes of OpenAI's API, whole and as the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from hyperagg.serve.language.engine import (
    Event,
    Finished,
    GenerationRequest,
    Piece,
    PromptRead,
    TokenLogprob,
)
from hyperagg.serve.language.text_stream import is_byte_level, token_bytes

__all__ = ["Answer", "ChatAnswer", "CompletionAnswer", "Usage"]


class Answer(ABC):
    """Describe texts part by part: the chunks of a stream, or the parts of one answer.

    Args:
        model: the name of the model.
        tokenizer: its tokenizer.
        has_logprobs: whether the answer has log probabilities.
    """

    id_prefix: str
    object_name: str
    chunk_name: str

    def __init__(
        self, model: str, tokenizer: PreTrainedTokenizerFast, *, has_logprobs: bool
    ) -> None:
        self.tokenizer, self.has_logprobs = tokenizer, has_logprobs
        self._head = {
            "id": f"{self.id_prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return an event of a stream."""
        return {**self._head, "object": self.chunk_name, "choices": choices}

    def body(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return the answer that has all texts, each given as one piece."""
        return {
            **self._head,
            "object": self.object_name,
            "choices": [self.choice(piece) for piece in pieces],
        }

    @abstractmethod
    def opening(self, choice: int, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        """Return what precedes a text in the answer.

        Args:
            choice: the index of the text.
            logprobs: the tokens of its prompt, if their log probabilities were asked for.
        """

    @abstractmethod
    def choice(self, piece: Piece) -> dict[str, Any]:
        """Return a whole text."""

    @abstractmethod
    def choice_part(self, piece: Piece) -> dict[str, Any]:
        """Return a part of a text in a stream."""

    def name(self, token: int) -> str:
        """Return the text of a token, or its bytes where they are not a text."""
        backend = self.tokenizer.backend_tokenizer
        if not is_byte_level(backend):
            return str(backend.decode([token], skip_special_tokens=False))
        data = token_bytes(backend, token)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class CompletionAnswer(Answer):
    """The answer of /v1/completions.

    Args:
        prompts: for each choice, the text of the prompt to return before it and the number of
            tokens of the prompt that precede this text; empty to return no prompts.
    """

    id_prefix, object_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def __init__(
        self,
        model: str,
        tokenizer: PreTrainedTokenizerFast,
        *,
        has_logprobs: bool,
        prompts: Sequence[tuple[str, int]] = (),
    ) -> None:
        super().__init__(model, tokenizer, has_logprobs=has_logprobs)
        self._prompts = prompts

    def opening(self, choice: int, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        if not self._prompts:
            return None
        text, num_added = self._prompts[choice]
        return Piece(choice, text, list(logprobs[num_added:]), None)

    def choice(self, piece: Piece) -> dict[str, Any]:
        return {
            "index": piece.choice,
            "text": piece.text,
            "logprobs": self._logprobs(piece.tokens) if self.has_logprobs else None,
            "finish_reason": piece.finish_reason,
        }

    choice_part = choice

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        return {
            "tokens": [self.name(each.token) for each in tokens],
            "token_logprobs": [each.logprob for each in tokens],
            "top_logprobs": [
                {self.name(token): logprob for token, logprob in each.alternatives} or None
                for each in tokens
            ],
            "text_offset": [each.offset for each in tokens],
        }


class ChatAnswer(Answer):
    """The answer of /v1/chat/completions."""

    id_prefix, object_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self, choice: int, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        return Piece(choice, "", [], None)

    def choice(self, piece: Piece) -> dict[str, Any]:
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return self._choice("message", message, piece)

    def choice_part(self, piece: Piece) -> dict[str, Any]:
        is_first = not (piece.text or piece.tokens or piece.finish_reason)
        role = {"role": "assistant"} if is_first else {}
        return self._choice("delta", {**role, "content": piece.text}, piece)

    def _choice(self, field: str, value: dict[str, Any], piece: Piece) -> dict[str, Any]:
        content = [
            {
                **self._token(each.token, each.logprob),
                "top_logprobs": [self._token(*alternative) for alternative in each.alternatives],
            }
            for each in piece.tokens
        ]
        return {
            "index": piece.choice,
            field: value,
            "logprobs": {"content": content, "refusal": None} if self.has_logprobs else None,
            "finish_reason": piece.finish_reason,
        }

    def _token(self, token: int, logprob: float | None) -> dict[str, Any]:
        data = token_bytes(self.tokenizer.backend_tokenizer, token)
        return {"token": self.name(token), "logprob": logprob, "bytes": list(data)}


class Usage:
    """Count the tokens of a request.

    Args:
        requests: one per prompt.
    """

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        self._prompt = sum(len(request.prompt) for request in requests)
        self._generated = self._cached = self._state_bytes = 0

    def add(self, event: Event) -> None:
        """Count what an event reports."""
        if isinstance(event, PromptRead):
            self._cached += event.cached_tokens
        elif isinstance(event, Finished):
            self._generated += event.generated_tokens
            self._state_bytes = max(self._state_bytes, event.state_bytes)

    def body(self) -> dict[str, Any]:
        """Return the field `usage`; `state_bytes` is the size of the state of one text."""
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._generated,
            "total_tokens": self._prompt + self._generated,
            "prompt_tokens_details": {"cached_tokens": self._cached},
            "state_bytes": self._state_bytes,
        }
