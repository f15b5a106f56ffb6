"""What a tokenizer.json of the tokenizers library may do: nothing out of proportion."""

from __future__ import annotations

import copy
import json

import pytest

from hyperagg.text import read_tokenizer
from hyperagg.text.tokenizer_file import check_regex, check_tokenizer_file

FILE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": 0, "content": "[UNK]", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    ],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "oil": 1, "gold": 2},
              "unk_token": "[UNK]"},
}  # fmt: skip
DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


def changed(**parts):
    return copy.deepcopy(FILE) | parts


def model(**parts):
    return changed(model=FILE["model"] | parts)


def test_a_valid_file_is_read():
    assert check_tokenizer_file(FILE) == 3
    pytest.importorskip("tokenizers")
    assert read_tokenizer(json.dumps(FILE)).vocabulary == ["[UNK]", "oil", "gold"]
    split = {"type": "Split", "pattern": {"Regex": r"\w+|\s+(?!\S)"}, "behavior": "Isolated"}
    metaspace = [{"type": "Prepend", "prepend": "▁"},
                 {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]  # fmt: skip
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    check_tokenizer_file(changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [split]}))
    check_tokenizer_file(changed(normalizer={"type": "Sequence", "normalizers": metaspace}))
    check_tokenizer_file(changed(normalizer=spaces))
    check_tokenizer_file(changed(model={"type": "Unigram", "vocab": [["[UNK]", 0.0], ["a", -1.0]]}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (model(vocab={"[UNK]": 0, "oil": 10**9}), "'oil'.*=1000000000: expected an id from 0 to 1"),
        (model(vocab={"[UNK]": 0, "oil": 1.0}), r"=1\.0: expected an id"),
        (model(vocab={"[UNK]": 0, "oil": True}), "=True: expected an id"),
        (model(vocab={"[UNK]": 0, "oil": -1}), "=-1: expected an id"),
        (model(vocab={"[UNK]": 0, "oil": 1, "gold": 1}), "another entry has this id"),
        (model(vocab={"[UNK]": 1, "oil": 0}), "has another id in the vocabulary"),
        (changed(model={"vocab": {}}, added_tokens=[]), "at least one entry"),
        (model(vocab=5), "vocab=5: expected the entries"),
        (model(vocab=[["a", 0.0], ["a", 1.0]]), "occurs twice"),
        (model(unk_token="x"), "unk_token='x': expected an entry"),
        (model(max_input_chars_per_word=10**9), "max_input_chars_per_word"),
        (changed(model=5), "model=5: expected an object"),
        (changed(pre_tokenizer=5), "pre_tokenizer=5: expected an object"),
        (changed(added_tokens=5), "added_tokens=5: expected a list"),
        (changed(padding={"strategy": {"Fixed": 10**9}, "pad_id": 0}), "Fixed=1000000000"),
        (changed(padding={"strategy": "BatchLongest", "pad_id": -1}), "pad_id=-1"),
        (changed(truncation={"max_length": 5, "stride": 5}), "stride=5"),
        (changed(normalizer={"type": "Sequence", "normalizers": [DOUBLING] * 40}), "longer"),
        (changed(normalizer={"type": "Prepend", "prepend": "a" * 10**6}), "longer"),
        (changed(decoder={"type": "Sequence", "decoders": [DOUBLING] * 40}), "longer"),
        (changed(normalizer={"type": "Sequence", "normalizers": [{}] * 200}), "in sequence"),
        (changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}}), "is repeated"),
    ],
)
def test_what_costs_out_of_proportion_is_refused(content, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check_tokenizer_file(content)


@pytest.mark.parametrize(
    "pattern",
    [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}",
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
        r"[\p{L}\p{M}&&[^\p{Han}]]+",
        r"<unk>|\w+|[^\w\s]",
        r"[]a]+|\]|\(|\{1\}",
    ],
)
def test_regular_expressions_of_published_tokenizers(pattern):
    check_regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(a*)*b", r"(?:a|aa)+b", r"(\w+\s?){2,}", r"(a|b)*?c", r"((a))*+"),
        *("a?" * 30 + "a" * 30, r"\s*\s*\s*\s*x", "a{1,100}" * 4),
        *(r"(\w+)\1", r"(?<n>a)\k<n>", r"(?<n>a|b\g<n>c)", "(?~a)", "[a", "a" * 3000, 5, None),
    ],
)
def test_regular_expressions_that_may_take_exponential_time(pattern):
    with pytest.raises(ValueError, match="regular expression"):
        check_regex(pattern)


@pytest.mark.parametrize("vocabulary", [["[UNK]", "a", "a"], ["[UNK]", 1], "ab", [], ["a"]])
def test_a_vocabulary_of_words_has_different_strings(vocabulary):
    content = {"kind": "hyperagg.WordTokenizer", "features": "words", "vocabulary": vocabulary}
    with pytest.raises(ValueError, match="vocabulary: expected"):
        read_tokenizer(json.dumps(content))
