"""Parses plain lines and fastText lines: one text per line."""

from __future__ import annotations

from collections.abc import Iterator

from hyperagg.data.readers.columns import ColumnSpec, is_blank
from hyperagg.data.readers.errors import quote
from hyperagg.data.readers.parsed_rows import BLANK_LINE, ParsedRows
from hyperagg.data.readers.text_lines import TextBlocks

__all__ = ["LABEL_PREFIX", "fasttext_rows", "plain_rows"]

LABEL_PREFIX = "__label__"
_ROW_AFTER_CR = f"\r{LABEL_PREFIX}"


def plain_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse one text per line; a blank line is an empty text."""
    if spec.labeled:
        raise spec.error("is read as plain lines, which have no labels: use another format")
    if spec.keep:
        raise spec.error(
            f"is read as plain lines, which have no column {quote(spec.keep[0])} to keep"
        )
    number = 1
    for lines in blocks.lines():
        yield ParsedRows("lines", lines, [], list(range(number, number + len(lines))))
        number += len(lines)


def fasttext_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse lines of `__label__NAME words ...` as fastText does; a blank line is an empty text.

    The labels are a tuple. They are also the column "label", which can be kept.
    """
    for name in spec.keep:
        if name != "label":
            raise spec.error(f"is read as fastText lines, which have no column {quote(name)}")
    number = 0
    for lines in blocks.lines():
        rows = ParsedRows("fasttext")
        for line in lines:
            number += 1
            if spec.labeled and _ROW_AFTER_CR in line:
                raise spec.error(
                    f"line {number} has a CR before {LABEL_PREFIX}: expected lines that all end "
                    "with LF, with CRLF or with CR"
                )
            text, found = _split_fasttext(line)
            if spec.labeled and LABEL_PREFIX in found:
                raise spec.error(f"line {number} has no label after {LABEL_PREFIX}: add its name")
            if not found and is_blank(text):
                rows.problems[len(rows.texts)] = BLANK_LINE
            rows.texts.append(text)
            rows.labels.append(tuple(name.removeprefix(LABEL_PREFIX) for name in found))
        rows.lines = list(range(number + 1 - len(lines), number + 1))
        rows.kept = [list(map(list, rows.labels)) for _ in spec.keep]
        yield rows


def _split_fasttext(line: str) -> tuple[str, list[str]]:
    """Return the text and the distinct words with the prefix of a line."""
    head, _, rest = line.strip().partition(" ")
    if head.startswith(LABEL_PREFIX) and LABEL_PREFIX not in rest and len(head.split()) == 1:
        return rest, [head]
    # The rare forms: a label after a word, several labels, none, or a tab after the label.
    words = line.split()
    found = list(dict.fromkeys(word for word in words if word.startswith(LABEL_PREFIX)))
    return " ".join(word for word in words if not word.startswith(LABEL_PREFIX)), found
