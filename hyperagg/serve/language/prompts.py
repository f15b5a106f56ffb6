"""Token ids of what a request begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyperagg.serve.errors import RequestError
from hyperagg.serve.language.model import ServedLanguageModel
from hyperagg.serve.language.schema import Message
from hyperagg.serve.language.settings import LanguageSettings
from hyperagg.serve.language.text_stream import TextStream
from hyperagg.text.tokenizer_errors import raise_as_tokenizer_error

__all__ = ["Prompt", "check_lengths", "encode_chat", "encode_prompts"]


@dataclass(frozen=True)
class Prompt:
    """Token ids, the first `num_added` of which precede the text; None if no text was given."""

    given: str | None
    tokens: list[int]
    num_added: int

    def text(self, model: ServedLanguageModel) -> str:
        """Return the text that was given, or else that of the tokens."""
        if self.given is not None:
            return self.given
        stream = TextStream(model.tokenizer)
        return "".join(map(stream.push, self.tokens[self.num_added :])) + stream.finish()


def encode_prompts(
    model: ServedLanguageModel, prompt: str | Sequence[str] | Sequence[int] | Sequence[list[int]]
) -> list[Prompt]:
    """Return the token ids of each prompt.

    A text begins with the token that begins every document in training; token ids are taken as they
    are, unless there are none.

    Raises:
        RequestError: there is no prompt, a text is not valid Unicode, or an id is not in the
            vocabulary.
    """
    start = model.tokenizer.eos_token_id
    prompts: list[str | list[int]]
    if isinstance(prompt, str):
        prompts = [prompt]
    elif prompt and isinstance(prompt[0], int):
        prompts = [[int(token) for token in prompt]]  # type: ignore[arg-type]
    else:
        prompts = [each if isinstance(each, str) else list(each) for each in prompt]  # type: ignore[arg-type]
    if not prompts:
        raise RequestError(400, "prompt=[]: expected at least one prompt", param="prompt")
    encoded = []
    for each in prompts:
        if isinstance(each, str):
            encoded.append(Prompt(each, [start, *_encode(model, each, "prompt")], 1))
            continue
        vocab_size = model.model.config.vocab_size
        for token in each:
            if not 0 <= token < vocab_size:
                raise RequestError(
                    400,
                    f"prompt: token id {token}; expected 0 to {vocab_size - 1}",
                    param="prompt",
                )
        encoded.append(Prompt(None, each or [start], 0 if each else 1))
    return encoded


def encode_chat(model: ServedLanguageModel, messages: Sequence[Message]) -> list[int]:
    """Return the token ids of a conversation, by the template of the tokenizer.

    Raises:
        RequestError: the tokenizer has no template, the template refuses the messages, or a message
            contains a special token of the tokenizer, which could end it and begin another, or
            several messages make one that a template joins.
    """
    if model.tokenizer.chat_template is None:
        raise RequestError(
            400,
            f"model {model.name!r}: its tokenizer has no chat template; use /v1/completions",
            param="model",
            code="unsupported_model",
        )
    texts = [message.text for message in messages]
    stripped = map(str.strip, texts)
    parts = [(f"[{i}].content contains", each) for i, each in enumerate(texts)]
    # A template may put contents side by side, as they are or without the white space around them.
    parts += [("the contents, joined, contain", "".join(each)) for each in (texts, stripped)]
    for where, content in parts:
        for token in _encode(model, content, "messages"):
            if token in model.control_tokens:
                raise RequestError(
                    400,
                    f"messages: {where} {model.control_tokens[token]!r}, a special token of the "
                    "tokenizer; expected text without it",
                    param="messages",
                )
    try:
        text = model.tokenizer.apply_chat_template(
            [{"role": each.role, "content": each.text} for each in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
    except Exception as error:  # a template may divide by zero as well as refuse
        raise RequestError(
            400, f"messages: refused by the chat template ({error})", param="messages"
        ) from error
    return _encode(model, str(text), "messages") or [model.tokenizer.eos_token_id]


def check_lengths(
    model: ServedLanguageModel,
    prompt: Sequence[int],
    max_tokens: int,
    settings: LanguageSettings,
    param: str,
) -> None:
    """Raise an error if a prompt is too long, or too long for what is to follow it."""
    if len(prompt) > settings.max_prompt_tokens:
        raise RequestError(
            400,
            f"{param}: {len(prompt)} tokens; expected at most {settings.max_prompt_tokens} "
            "(max_prompt_tokens of the server)",
            param=param,
            code="context_length_exceeded",
        )
    context = model.max_context
    if context is not None and len(prompt) + max_tokens > context:
        raise RequestError(
            400,
            f"{param}: {len(prompt)} tokens and {max_tokens} to generate; the context of model "
            f"{model.name!r} has {context}",
            param=param,
            code="context_length_exceeded",
        )


def _encode(model: ServedLanguageModel, text: str, param: str) -> list[int]:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            400,
            f"{param}: a lone surrogate at character {error.start}; expected Unicode text",
            param=param,
        ) from error
    # Not by the tokenizer of transformers, which changes settings of the shared one at every call.
    backend = model.tokenizer.backend_tokenizer
    try:
        with raise_as_tokenizer_error(f"{param}: the tokenizer cannot encode the text"):
            ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    except ValueError as error:
        raise RequestError(400, str(error), param=param) from error
    return ids
