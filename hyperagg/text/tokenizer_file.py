"""Checks a tokenizer.json of the Hugging Face `tokenizers` library before the library reads it.

Such a file is a program: it may pad every text to a billion tokens, double every letter forty
times, or split by a regular expression that takes exponential time. What is accepted here takes
memory in proportion to the texts and the time of `regex_cost`, and covers the tokenizers of
published models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from reprlib import repr as shorten
from typing import Any

from hyperagg._common.saved_files import UnsupportedError
from hyperagg._common.validation import check_integer
from hyperagg.text.regex_cost import check_regex, may_match_nothing

__all__ = ["check_tokenizer_file"]

_MAX_PADDED_TOKENS = 2**16
_MAX_GROWTH = 16  # of the length of a text, by all replacements together
_MAX_INSERTED = 1000  # characters before or after a text
_MAX_WORD_CHARACTERS = 10_000  # WordPiece takes quadratic time in the length of a word
_MAX_PARTS = 100  # normalizers, pre-tokenizers and so on
_MAX_SPECIAL_TOKENS = 1000  # that are added to a text


def check_tokenizer_file(content: Mapping[str, Any]) -> int:
    """Check the JSON object of a tokenizer.json, and return the number of token ids.

    Raises:
        ValueError, TypeError: the file is damaged.
        UnsupportedError: the file may be valid, but the ids are not those from 0 to the number of
            entries - 1, or what is done to a text costs out of proportion.
    """
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model"):
        part = content.get(name)
        if not isinstance(part, Mapping) and (part is not None or name == "model"):
            raise ValueError(f"{name}={shorten(part)}: expected an object")
    _check_padding(content.get("padding"), content.get("truncation"))
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        for part in _parts(content.get(name)):
            pattern = part.get("pattern")
            if isinstance(pattern, Mapping) and "Regex" in pattern:
                check_regex(pattern["Regex"])
    for name in ("normalizer", "decoder"):
        _check_growth(name, list(_parts(content.get(name))))
    _check_special_tokens(content.get("post_processor"))
    return _check_ids(content["model"], content.get("added_tokens") or [])


def _parts(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a normalizer, pre-tokenizer or decoder, or those that it is a sequence of, in order."""
    waiting, count = [part], 0
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        count += 1
        if count > _MAX_PARTS:
            raise UnsupportedError(
                f"{shorten(part.get('type'))}: more than {_MAX_PARTS} in sequence"
            )
        yield part
        for name in ("normalizers", "pretokenizers", "decoders", "processors"):
            if isinstance(part.get(name), list):
                waiting += reversed(part[name])


def _check_padding(padding: Any, truncation: Any) -> None:
    if isinstance(padding, Mapping):
        strategy = padding.get("strategy")
        if isinstance(strategy, Mapping):
            _check_limit("padding.strategy.Fixed", strategy.get("Fixed"), 0, _MAX_PADDED_TOKENS)
        if padding.get("pad_to_multiple_of") is not None:
            multiple = padding["pad_to_multiple_of"]
            _check_limit("padding.pad_to_multiple_of", multiple, 1, _MAX_PADDED_TOKENS)
        check_integer("padding.pad_id", padding.get("pad_id"), 0, 2**31 - 1)
    elif padding is not None:
        raise ValueError(f"padding={shorten(padding)}: expected an object or null")
    if isinstance(truncation, Mapping):
        length = check_integer("truncation.max_length", truncation.get("max_length"), 1)
        check_integer("truncation.stride", truncation.get("stride", 0), 0, length - 1)
    elif truncation is not None:
        raise ValueError(f"truncation={shorten(truncation)}: expected an object or null")


def _check_limit(name: str, value: Any, minimum: int, maximum: int) -> None:
    try:
        check_integer(name, value, minimum, maximum)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None


def _check_growth(name: str, parts: list[Mapping[str, Any]]) -> None:
    """Check how long a text can become.

    The length of what a character becomes is computed from the last part to the first: what
    replaces it is as long as the characters of the replacement become.
    """
    if sum(part.get("type") == "ByteLevel" for part in parts) > 1:  # up to 4 bytes, each time
        raise UnsupportedError(f"{name}: more than one of type ByteLevel")
    inserted = 0
    length: dict[str, float] = {}
    others = 1.0  # the length of what any other character becomes
    for part in reversed(parts):
        for key in ("content", "prepend", "replacement", "prefix", "suffix"):
            if not isinstance(part.get(key, ""), str | type(None)):
                raise ValueError(f"{name}: {key}={shorten(part[key])}: expected a str")
        if part.get("type") == "Prepend":
            inserted += len(part.get("prepend") or "")
        elif part.get("type") == "Replace":
            pattern = part.get("pattern")
            pattern = pattern if isinstance(pattern, Mapping) else {}
            string, regex = pattern.get("String"), pattern.get("Regex")
            content = sum(length.get(c, others) for c in part.get("content") or "")
            if isinstance(string, str) and string:
                for c in set(string):
                    length[c] = max(length.get(c, others), content / len(string))
            elif isinstance(regex, str) and not may_match_nothing(regex):
                others = max(others, content)
                length = {c: max(value, content) for c, value in length.items()}
            else:  # it is inserted between any two characters
                others += content
                length = {c: value + content for c, value in length.items()}
        elif part.get("type") == "Lowercase":  # any letter may become another one
            others = max([others, *(value for c, value in length.items() if c.isalpha())])
            length = {c: value for c, value in length.items() if not c.isalpha()}
        elif part.get("type") not in ("Sequence", "Strip", "StripAccents"):
            others = max([others, *length.values()])  # any character may become any other
            length = {}
    if max(others, *length.values(), 1.0) > _MAX_GROWTH or inserted > _MAX_INSERTED:
        raise UnsupportedError(
            f"{name}: its replacements make texts more than {_MAX_GROWTH} × longer"
        )


def _check_special_tokens(post_processor: Any) -> None:
    """Check that a single text is in its template, each text once, and not too many tokens."""
    inserted = 0
    for part in _parts(post_processor):
        if part.get("type") != "TemplateProcessing":
            continue
        tokens = part.get("special_tokens")
        if not isinstance(tokens, Mapping):
            raise ValueError(
                f"post_processor: special_tokens={shorten(tokens)}: expected an object"
            )
        for name in ("single", "pair"):
            template = part.get(name)
            if not isinstance(template, list):
                raise ValueError(f"post_processor: {name}={shorten(template)}: expected a list")
            texts = []
            for piece in template:
                piece = piece if isinstance(piece, Mapping) else {}
                special, text = piece.get("SpecialToken"), piece.get("Sequence")
                if isinstance(special, Mapping):
                    token = tokens.get(str(special.get("id")))
                    ids = token.get("ids") if isinstance(token, Mapping) else None
                    inserted += len(ids) if isinstance(ids, list) else 1
                elif isinstance(text, Mapping):
                    texts.append(str(text.get("id")))
                else:
                    raise ValueError(
                        f"post_processor: {name}: {shorten(piece)}: expected a SpecialToken or a "
                        "Sequence"
                    )
            if name == "single" and not texts:
                raise ValueError(f"post_processor: {name}: expected the Sequence of a text in it")
            if len(set(texts)) < len(texts):
                raise UnsupportedError(f"post_processor: {name}: a text occurs twice in it")
    if inserted > _MAX_SPECIAL_TOKENS:
        raise UnsupportedError(
            f"post_processor: {inserted:,} special tokens; expected at most {_MAX_SPECIAL_TOKENS:,}"
        )


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
            raise UnsupportedError(
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
        _check_limit("max_input_chars_per_word", limit, 1, _MAX_WORD_CHARACTERS)
    return len(entries)
