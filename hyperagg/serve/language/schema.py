"""Requests in the shapes of OpenAI's API, checked before anything is generated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator

__all__ = ["ChatRequest", "CompletionRequest", "Message", "TextPart"]

MAX_STOPS, MAX_STOP_LENGTH = 4, 1000
MAX_LOGPROBS, MAX_TOP_LOGPROBS = 5, 20

# Arguments that the API has and this server has not, with the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "tools": (None, []),
    "response_format": (None, {"type": "text"}),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """What a stream contains."""

    include_usage: bool = False


def _check_prompt(value: Any) -> Any:
    """Return a prompt; a union of types would report an error for every token of every type."""
    if value is None:
        return ""
    if isinstance(value, str) or _is_list_of(value, str) or _is_list_of_ids(value):
        return value
    if isinstance(value, list) and all(map(_is_list_of_ids, value)):
        return value
    raise ValueError(
        "expected a string, a list of strings, a list of token ids or a list of such lists"
    )


def _is_list_of(value: Any, kind: type) -> bool:
    # Not isinstance, by which a bool is an int.
    return isinstance(value, list) and all(type(each) is kind for each in value)


def _is_list_of_ids(value: Any) -> bool:
    return _is_list_of(value, int)


_Prompt = Annotated[
    Any,
    PlainValidator(
        _check_prompt, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
    ),
]


class _Sampling(_Strict):
    """What both routes accept."""

    model: str
    temperature: float | None = Field(None, ge=0, le=2, description="0: the most probable token.")
    top_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = Field(None, description="1 to 4 strings.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Has no effect.")
    metadata: dict[str, str] | None = Field(None, description="Has no effect.")
    frequency_penalty: Any = Field(None, description="Not supported: 0.")
    presence_penalty: Any = Field(None, description="Not supported: 0.")
    logit_bias: Any = Field(None, description="Not supported: {}.")

    @field_validator(*_NEUTRAL, check_fields=False)
    @classmethod
    def _is_neutral(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if isinstance(value, bool) or value not in _NEUTRAL[name]:
            raise ValueError(f"is not supported; expected {_NEUTRAL[name][1]!r} or nothing")
        return value

    @field_validator("stop")
    @classmethod
    def _has_few_stops(cls, value: str | list[str] | None) -> list[str]:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_LENGTH for stop in stops):
            raise ValueError(
                f"expected up to {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters"
            )
        return stops

    @property
    def num_choices(self) -> int:
        """The number of texts per prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(_Sampling):
    """The body of /v1/completions."""

    prompt: _Prompt = Field(
        "", description="A text, token ids, or a list of either; nothing begins a document."
    )
    max_tokens: int | None = Field(None, ge=0, description="Default: 16.")
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = None
    best_of: int | None = Field(None, description="Not supported: n.")
    suffix: Any = Field(None, description='Not supported: "".')


class TextPart(_Strict):
    """A part of the content of a message."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(_Sampling):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="Default: as many as the server allows.")
    max_completion_tokens: int | None = Field(None, ge=1, description="As max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Any = Field(None, description="Not supported: [].")
    response_format: Any = Field(None, description='Not supported: {"type": "text"}.')

    @field_validator("messages")
    @classmethod
    def _holds_text_alone(cls, value: list[Message]) -> list[Message]:
        for index, message in enumerate(value):
            # Clients send answers back with fields that are null.
            given = [name for name, each in (message.model_extra or {}).items() if each is not None]
            if given:
                raise ValueError(
                    f"[{index}].{given[0]} is not supported; expected role and content"
                )
        return value
