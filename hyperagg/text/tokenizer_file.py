"""Checks a tokenizer.json of the Hugging Face `tokenizers` library before the library reads it.

Such a file is a program: it may pad every text to a billion tokens, double every letter forty
times, or split by a regular expression that takes exponential time. What is accepted here costs
time and memory in proportion to the texts, and covers the tokenizers of published models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from reprlib import repr as shorten
from typing import Any

from hyperagg._common.validation import check_integer

__all__ = ["check_regex", "check_tokenizer_file"]

_MAX_PADDED_TOKENS = 2**16
_MAX_GROWTH = 16  # of the length of a text, by all replacements together
_MAX_INSERTED = 1000  # characters before or after a text
_MAX_WORD_CHARACTERS = 10_000  # WordPiece takes quadratic time in the length of a word
_MAX_PARTS = 100  # normalizers, pre-tokenizers and so on
_MAX_PATTERN = 2000  # characters of a regular expression
# Of one alternative of a regular expression. The time is a polynomial in the length of the text
# whose degree is the number of unbounded quantifiers, times two to the power of all quantifiers.
_MAX_UNBOUNDED, _MAX_QUANTIFIERS = 3, 8
_MAX_REPEATS = 16  # a larger number counts as unbounded


def check_tokenizer_file(content: Mapping[str, Any]) -> int:
    """Check the JSON object of a tokenizer.json, and return the number of token ids.

    Raises:
        ValueError, TypeError: the ids are not those from 0 to the number of entries - 1, or what
            is done to a text costs out of proportion.
    """
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model"):
        part = content.get(name)
        if not isinstance(part, Mapping) and (part is not None or name == "model"):
            raise ValueError(f"{name}={shorten(part)}: expected an object")
    _check_padding(content.get("padding"), content.get("truncation"))
    for name in ("normalizer", "decoder"):
        _check_growth(name, list(_parts(content.get(name))))
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        for part in _parts(content.get(name)):
            pattern = part.get("pattern")
            if isinstance(pattern, Mapping) and "Regex" in pattern:
                check_regex(pattern["Regex"])
    return _check_ids(content["model"], content.get("added_tokens") or [])


def check_regex(pattern: Any) -> None:
    """Check that a regular expression of Oniguruma takes polynomial time of a small degree.

    A group may not be repeated more than once, there are no references to groups, and an
    alternative has a small number of quantifiers.

    Raises:
        ValueError: it may take longer.

    Example:
        >>> check_regex(r"'s|'t| ?\\p{L}+|[^\\s\\p{L}]+[\\r\\n]*|\\s+(?!\\S)|\\s+")
        >>> check_regex(r"(\\w+)*$")
        Traceback (most recent call last):
            ...
        ValueError: regular expression '(\\\\w+)*$': a group is repeated; such expressions may take exponential time
    """  # noqa: E501
    if not isinstance(pattern, str):
        raise ValueError(f"regular expression {shorten(pattern)}: expected a str")
    message = f"regular expression {shorten(pattern)}: "
    if len(pattern) > _MAX_PATTERN:
        raise ValueError(f"{message}expected at most {_MAX_PATTERN} characters")
    unbounded = quantifiers = depth = 0
    for atom, quantifier in _atoms(pattern):
        if atom == "|" and depth == 0:
            unbounded = quantifiers = 0
        depth += (atom == "(") - (atom == ")")
        if atom[0] == "\\" and (atom[1:2] in "kg" or atom[1:2].isdigit()) and atom[1:2] != "0":
            raise ValueError(f"{message}it refers to a group")
        if quantifier is None:
            continue
        if atom == ")" and quantifier > 1:
            raise ValueError(
                f"{message}a group is repeated; such expressions may take exponential time"
            )
        quantifiers += 1
        unbounded += quantifier > _MAX_REPEATS
        if unbounded > _MAX_UNBOUNDED or quantifiers > _MAX_QUANTIFIERS:
            raise ValueError(f"{message}too many quantifiers in one alternative")


def _atoms(pattern: str) -> Iterator[tuple[str, float | None]]:
    """Yield the characters, escapes, classes and parentheses of a regular expression, and how
    often each may be repeated if it has a quantifier."""
    i = 0
    while i < len(pattern):
        begin = i
        if pattern[i] == "\\":
            i += 2
            if pattern[begin + 1 : begin + 2] in "pPxuk" and pattern[i : i + 1] in "{<":
                i = _after(pattern, i, "}>")
        elif pattern[i] == "[":
            i = _after_class(pattern, i)
        elif pattern.startswith(("(?#", "(?~"), i):
            raise ValueError(f"regular expression {shorten(pattern)}: a group that is not known")
        else:
            i += 1
        atom, quantifier = pattern[begin:i], None
        while i < len(pattern) and atom not in "(|" and (found := _quantifier(pattern, i)):
            quantifier = max(found[0], quantifier or 0)
            i = found[1]
        yield atom, quantifier


def _quantifier(pattern: str, i: int) -> tuple[float, int] | None:
    """The greatest number of repeats of the quantifier at i and where it ends; None without one."""
    if pattern[i] in "*+":
        return float("inf"), i + 1
    if pattern[i] == "?":
        return 1, i + 1
    if pattern[i] == "{":
        end = pattern.find("}", i)
        numbers = pattern[i + 1 : end].split(",") if end > 0 else []
        if 0 < len(numbers) <= 2 and all(n.isdigit() or not n for n in numbers) and any(numbers):
            return (float(numbers[-1]) if numbers[-1] else float("inf")), end + 1
    return None


def _after(pattern: str, i: int, ends: str) -> int:
    """The index after the first character of `ends` from i on."""
    while i < len(pattern) and pattern[i] not in ends:
        i += 1
    return i + 1


def _after_class(pattern: str, i: int) -> int:
    """The index after the character class that begins at i; classes nest."""
    depth, start = 0, i
    while i < len(pattern):
        if pattern[i] == "\\":
            i += 1
        elif pattern[i] == "[":
            depth, start = depth + 1, i
            i += pattern.startswith("^", i + 1)
            i += pattern.startswith("]", i + 1)  # a bracket at the beginning is a member
        elif pattern[i] == "]":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    raise ValueError(f"regular expression {shorten(pattern)}: {pattern[start:][:20]!r} has no end")


def _parts(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a normalizer, pre-tokenizer or decoder, or those that it is a sequence of."""
    waiting, count = [part], 0
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        count += 1
        if count > _MAX_PARTS:
            raise ValueError(f"{shorten(part.get('type'))}: more than {_MAX_PARTS} in sequence")
        yield part
        for name in ("normalizers", "pretokenizers", "decoders"):
            if isinstance(part.get(name), list):
                waiting += part[name]


def _check_padding(padding: Any, truncation: Any) -> None:
    if isinstance(padding, Mapping):
        strategy = padding.get("strategy")
        if isinstance(strategy, Mapping):
            check_integer("padding.strategy.Fixed", strategy.get("Fixed"), 0, _MAX_PADDED_TOKENS)
        if padding.get("pad_to_multiple_of") is not None:
            multiple = padding["pad_to_multiple_of"]
            check_integer("padding.pad_to_multiple_of", multiple, 1, _MAX_PADDED_TOKENS)
        check_integer("padding.pad_id", padding.get("pad_id"), 0, 2**31 - 1)
    elif padding is not None:
        raise ValueError(f"padding={shorten(padding)}: expected an object or null")
    if isinstance(truncation, Mapping):
        length = check_integer("truncation.max_length", truncation.get("max_length"), 1)
        check_integer("truncation.stride", truncation.get("stride", 0), 0, length - 1)
    elif truncation is not None:
        raise ValueError(f"truncation={shorten(truncation)}: expected an object or null")


def _check_growth(name: str, parts: list[Mapping[str, Any]]) -> None:
    growth, inserted = 1.0, 0
    for part in parts:
        for key in ("content", "prepend", "replacement", "prefix", "suffix"):
            if not isinstance(part.get(key, ""), str | type(None)):
                raise ValueError(f"{name}: {key}={shorten(part[key])}: expected a str")
        if part.get("type") == "Prepend":
            inserted += len(part.get("prepend") or "")
        elif part.get("type") == "Replace":
            pattern, content = part.get("pattern"), part.get("content") or ""
            string = pattern.get("String") if isinstance(pattern, Mapping) else None
            # A regular expression may match nothing, between any two characters.
            by_regex = not isinstance(string, str) or not string
            growth *= 1 + len(content) if by_regex else max(1, len(content) / len(str(string)))
            if by_regex and len(content) <= 1:
                growth /= 1 + len(content)  # such as a run of spaces by one
    if growth > _MAX_GROWTH or inserted > _MAX_INSERTED:
        raise ValueError(f"{name}: its replacements make texts more than {_MAX_GROWTH} × longer")


def _check_ids(model: Mapping[str, Any], added_tokens: Any) -> int:
    vocabulary = model.get("vocab")
    entries: dict[str, Any]
    if isinstance(vocabulary, Mapping):
        entries = dict(vocabulary)
    elif isinstance(vocabulary, list):  # of Unigram: pairs of an entry and its score
        entries = {}
        for i, pair in enumerate(vocabulary):
            if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
                raise ValueError(f"vocab[{i}]={shorten(pair)}: expected an entry and its score")
            if pair[0] in entries:
                raise ValueError(f"vocab[{i}]: {shorten(pair[0])} occurs twice")
            entries[pair[0]] = i
    else:
        raise ValueError(f"vocab={shorten(vocabulary)}: expected the entries and their ids")
    if not isinstance(added_tokens, list):
        raise ValueError(f"added_tokens={shorten(added_tokens)}: expected a list")
    for token in added_tokens:
        if not isinstance(token, Mapping) or not isinstance(token.get("content"), str):
            raise ValueError(f"added_tokens: {shorten(token)}: expected an id and a content")
        content = token["content"]
        if entries.setdefault(content, token.get("id")) != token.get("id"):
            raise ValueError(f"added_tokens: {shorten(content)} has another id in the vocabulary")
    seen = bytearray(len(entries))
    for entry, number in entries.items():
        if type(number) is not int or not 0 <= number < len(entries):
            raise ValueError(
                f"vocab[{shorten(entry)}]={shorten(number)}: expected an id from 0 to "
                f"{len(entries) - 1}, without gaps"
            )
        if seen[number]:
            raise ValueError(f"vocab[{shorten(entry)}]={number}: another entry has this id")
        seen[number] = 1
    if not entries:
        raise ValueError("vocab: expected at least one entry")
    if model.get("max_input_chars_per_word") is not None:
        limit = model["max_input_chars_per_word"]
        check_integer("max_input_chars_per_word", limit, 1, _MAX_WORD_CHARACTERS)
    unknown = model.get("unk_token")
    if isinstance(unknown, str) and unknown not in entries:
        raise ValueError(f"unk_token={shorten(unknown)}: expected an entry of the vocabulary")
    return len(entries)
