"""Renders the model card (README.md) of a saved model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]


def model_card(
    title: str, summary: str, metadata: Mapping[str, Any], facts: Sequence[str], usage: str
) -> str:
    """Return a model card in Markdown, with the YAML front matter that the Hugging Face Hub reads.

    Args:
        title: the name of the model.
        summary: one paragraph that says what the model is.
        metadata: fields of the front matter, as `huggingface_hub.ModelCardData` names them, with
            values that JSON can hold. "library_name: hyperagg" is added.
        facts: one item each of the list below the summary.
        usage: Python code that loads the model and predicts.

    Example:
        >>> card = model_card("m", "A classifier.", {"tags": ["a"]}, ["classes: 2"], "import m")
        >>> card.splitlines()[:4]
        ['---', 'library_name: "hyperagg"', 'tags: ["a"]', '---']
    """
    # JSON is a subset of YAML, so no title or label can break out of its field.
    fields = {"library_name": "hyperagg", **metadata}
    return "\n".join(
        [
            "---",
            *(f"{name}: {json.dumps(value)}" for name, value in fields.items()),
            "---",
            f"# {title}",
            "",
            summary,
            "",
            *(f"- {fact}" for fact in facts),
            "",
            "```python",
            usage.strip("\n"),
            "```",
            "",
        ]
    )
