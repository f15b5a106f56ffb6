"""Renders the model card (README.md) of a saved model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["example_texts", "model_card"]

_MAX_EXAMPLES, _MAX_EXAMPLE_LENGTH = 10, 2000
_MAX_CARD_LENGTH = 2**20


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
    card = "\n".join(
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
    # The name of a folder may have bytes that are not UTF-8, which Python holds as surrogates.
    return card.encode("utf-8", "replace").decode("utf-8")


def example_texts(folder: Path) -> list[str]:
    """Return the example texts of a saved model, at most ten: the field `widget` of its card.

    The Hugging Face Hub shows them beside a model. Each is a line ``- text: ...`` of the front
    matter, in quotes or not; other forms of YAML are ignored.
    """
    try:
        with (folder / "README.md").open(encoding="utf-8") as file:
            card = file.read(_MAX_CARD_LENGTH)
    except (OSError, UnicodeDecodeError):
        return []
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    found = re.findall(r"^ *- text: *(.+?) *$", front[1] if front else "", re.MULTILINE)
    texts = [text for text in map(_unquote, found) if text and len(text) <= _MAX_EXAMPLE_LENGTH]
    return texts[:_MAX_EXAMPLES]


def _unquote(text: str) -> str:
    if text.startswith("'") and text.endswith("'") and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except (ValueError, RecursionError):
        return ""
