"""The bodies of requests: their schemas, and how their errors read."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperagg.serve.errors import RequestError

__all__ = [
    "ExplainRequest",
    "FeedbackRequest",
    "InferenceRequest",
    "PredictRequest",
    "StreamMessage",
    "body_schema",
    "parse",
]

# A description completes the sentence "expected ...", which is the error of the field.
_TopK = Annotated[
    int | None, Field(ge=1, le=2**31, description="the number of labels to return, from 1")
]
# A cell of a table: a text, a number, a category, or the base64 text of an image or a clip.
Cell = str | int | float | None
Row = dict[str, Cell]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PredictRequest(_Body):
    """The body of `/predict`, as Text Embeddings Inference has it, with `texts` and `top_k`."""

    inputs: Annotated[
        str | list[str] | list[list[str]] | Row | list[Row] | None,
        Field(
            description="a text, a pair of texts, or a list of lists of one or two texts; for a "
            "model of tables a row, {column: value}, or a list of rows"
        ),
    ] = None
    texts: Annotated[list[str] | None, Field(description="a list of texts")] = None
    top_k: _TopK = None
    raw_scores: Annotated[bool, Field(description="true or false: whether scores are logits")] = (
        False
    )
    truncate: Annotated[
        bool | None, Field(description="true or false: whether long texts are cut off")
    ] = None
    truncation_direction: Annotated[
        Literal["left", "right", "Left", "Right"],
        Field(description='"Left" or "Right": the side that is cut off'),
    ] = "Right"


class _InferenceParameters(_Body):
    top_k: _TopK = None
    function_to_apply: Annotated[
        Literal["sigmoid", "softmax", "none"] | None,
        Field(description='"sigmoid", "softmax" or "none"'),
    ] = None


class InferenceRequest(_Body):
    """The body of `POST /`, as huggingface_hub's InferenceClient sends it."""

    inputs: Annotated[str | list[str], Field(description="a text or a list of texts")]
    parameters: Annotated[
        _InferenceParameters | None, Field(description="an object with top_k or function_to_apply")
    ] = None


class ExplainRequest(_Body):
    """The body of `/explain`."""

    inputs: Annotated[
        str | Row, Field(description="a text; for a model of tables a row, {column: value}")
    ]
    labels: Annotated[
        list[str] | None, Field(min_length=1, description="a list of labels of the model")
    ] = None
    top_k: _TopK = None


class FeedbackRequest(_Body):
    """The body of `/feedback`."""

    texts: Annotated[list[str], Field(min_length=1, description="a list of texts")]
    labels: Annotated[
        list[str | list[str]],
        Field(description="a list of as many labels, or lists of labels, of the model"),
    ]
    epochs: Annotated[
        int, Field(ge=1, le=100, description="the number of passes over the texts, from 1 to 100")
    ] = 1


class StreamMessage(_Body):
    """A message to `/stream`."""

    append: Annotated[str, Field(description="a text")] = ""
    reset: Annotated[bool, Field(description="true or false: whether the text begins anew")] = False
    top_k: _TopK = None
    api_key: Annotated[str | None, Field(description="the API key")] = None


_Model = TypeVar("_Model", bound=BaseModel)


def parse(schema: type[_Model], body: bytes | str) -> _Model:
    """Return the content of a body of JSON.

    Raises:
        RequestError: it is not JSON, or does not have the fields of the schema; the error names the
            field, its value and what is accepted.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise RequestError(422, *_describe(schema, error)) from None


def body_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a body for the OpenAPI page."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _describe(schema: type[BaseModel], error: ValidationError) -> tuple[str]:
    # The others are about the alternatives of the same field.
    first: Any = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return (f"the body is not valid JSON: {first['ctx']['error']}",)
    if not first["loc"]:
        return (f"the body is {shorten(first['input'])}: expected a JSON object",)
    name, field = str(first["loc"][0]), schema.model_fields.get(str(first["loc"][0]))
    if field is None:
        return (f"{shorten(name)}: expected one of {', '.join(map(repr, schema.model_fields))}",)
    if first["type"] == "missing":
        return (f"{name} is missing: expected {field.description}",)
    value = first["input"]
    return (f"{name}: {shorten(value)} is not valid: expected {field.description}",)
