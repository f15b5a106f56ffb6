"""What a tokenizer.json of the tokenizers library may do: nothing out of proportion."""

from __future__ import annotations

import copy
import json

import pytest

from hyperagg._common.saved_files import UnsupportedError, raise_as_corrupt
from hyperagg.text import read_tokenizer
from hyperagg.text.regex_cost import check_regex, may_match_nothing
from hyperagg.text.tokenizer_errors import raise_as_tokenizer_error
from hyperagg.text.tokenizer_file import check_tokenizer_file

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
CLS, TEXT = ({key: {"id": name, "type_id": 0}} for key, name in
             (("SpecialToken", "[CLS]"), ("Sequence", "A")))  # fmt: skip
LOWERCASE = {"type": "Lowercase"}
DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
SECOND = {"Sequence": {"id": "B", "type_id": 0}}
OTHER = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}


def changed(**parts):
    return copy.deepcopy(FILE) | parts


def model(**parts):
    return changed(model=FILE["model"] | parts)


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*normalizers):
    return {"type": "Sequence", "normalizers": list(normalizers)}


def template(single, ids=(0,)):
    tokens = {"[CLS]": {"id": "[CLS]", "ids": list(ids), "tokens": ["[CLS]"] * len(ids)}}
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}


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
    symbols = [replace("$", " dollar "), LOWERCASE, replace("&", "and"), replace("%", " percent ")]
    check_tokenizer_file(changed(normalizer=sequence(*symbols)))
    check_tokenizer_file(changed(normalizer=sequence(*[replace(r"\s+", " ", "Regex")] * 9)))
    check_tokenizer_file(changed(post_processor=template([CLS, TEXT, CLS])))
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
        (changed(normalizer=sequence(*[replace("", " ", "Regex")] * 5)), "longer"),
        (changed(normalizer=sequence(*[replace("a*", " ", "Regex")] * 5)), "longer"),
        (
            changed(normalizer=sequence(replace("a", "B" * 9), LOWERCASE, replace("b", "aa"))),
            "longer",
        ),
        (changed(normalizer=sequence(replace("a", "&&&&&"), replace("&", "aaaa"))), "longer"),
        (changed(normalizer=sequence({"type": "ByteLevel"}, {"type": "ByteLevel"})), "ByteLevel"),
        (changed(post_processor=template([CLS] * 20 + [TEXT], range(100))), "2,000 special tokens"),
        (changed(post_processor=template([TEXT, TEXT])), "a text occurs twice"),
        (
            changed(
                post_processor={
                    "type": "Sequence",
                    "processors": [template([CLS, TEXT], range(600))] * 2,
                }
            ),
            "1,200 special tokens",
        ),
        (changed(post_processor=template([5])), "expected a SpecialToken or a Sequence"),
        (changed(post_processor=template(5)), "single=5: expected a list"),
        (changed(post_processor=template([])), "expected the Sequence A and no other"),
        (changed(post_processor=template([SECOND])), "expected the Sequence A and no other"),
        (changed(post_processor=template([TEXT, SECOND])), "expected the Sequence A and no other"),
        (changed(post_processor=template([OTHER, TEXT])), "single: unknown token '.SEP.'"),
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
        r"\w+(?:-\w+)*|[^\w\s]",
        r"\d{1,3}(?:,\d{3})*(?:\.\d+)?|\w+",
        r"\p{L}+(?:[-'][\p{L}\p{M}]+)*|(?i:a)",
        r"(\w+( \w+){2,})",
        r"<(?:/[^/>]*)*>",
    ],
)
def test_regular_expressions_of_published_tokenizers(pattern):
    check_regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(a*)*b", r"(?:a|aa)+b", r"(\w+\s?){2,}", r"(a|b)*?c", r"((a))*+"),
        *(r"(?:-\w*\w*)*x", r"(?:-?\w+)*x", r"(?:-.*)*x", r"(?:-[^a]*)*x", r"(?:--*)*x"),
        *(r"(?:_\w*)*x", r"(?:-[!-/]*)*x", r"(?:-(?:\w*))*x", r"(?:-\w*|-a)*x", r"(?:-\X*)*x"),
        *(r"(?i)(?:-\w*)*x", r"(?i:(?:-\w*)*x)", r"(?:\w-*)*x", r"(?:[a-]\w*)*x"),
        *(r"(?:\{[\\p{L}]*)*x", r"(?:-[[-]]*)*x", r"((?:-\w*)*)*x", r"(?:^\w*)*x"),
        *("a?" * 30 + "a" * 30, r"\s*\s*\s*\s*x", "a{1,100}" * 4),
        *(r"(\w+)\1", r"(?<n>a)\k<n>", r"(?<n>a|b\g<n>c)", "(?~a)", "[a", "a" * 3000, 5, None),
    ],
)
def test_regular_expressions_that_may_take_exponential_time(pattern):
    with pytest.raises(ValueError, match="regular expression"):
        check_regex(pattern)


@pytest.mark.parametrize("pattern", ["", "a*", "a|", "^", r"\b", "(a)", "(?=a)", "(?x) ", "a{0,2}"])
def test_expressions_that_may_match_nothing(pattern):
    assert may_match_nothing(pattern)


@pytest.mark.parametrize("pattern", ["a", r"\s+", " {2,}", "[ab]|c+", r"\.\w*", "a(b)?", "."])
def test_expressions_that_match_something(pattern):
    assert not may_match_nothing(pattern)


def test_what_is_not_supported_is_not_called_damaged(tmp_path):
    content = changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}})
    with (
        pytest.raises(ValueError, match=r"x\.json: not supported \(.*exponential time\)$"),
        raise_as_corrupt(tmp_path, "x.json"),
    ):
        check_tokenizer_file(content)
    with pytest.raises(UnsupportedError, match="expected an id from 0 to 1"):
        check_tokenizer_file(model(vocab={"[UNK]": 0, "oil": 10**9}))


def test_an_unknown_token_may_lack_an_entry():
    pytest.importorskip("tokenizers")
    tokenizer = read_tokenizer(json.dumps(model(unk_token="x")))
    assert tokenizer.encode(["oil gold"]).token_ids.tolist() == [1, 2]
    for encode in (lambda: tokenizer.encode(["snow"]), lambda: tokenizer.align("snow")):
        with pytest.raises(ValueError, match=r"cannot encode the texts \(.+\)$"):
            encode()


def test_the_retry_limit_of_the_engine_is_an_error_of_one_line():
    pytest.importorskip("tokenizers")
    split = {"type": "Split", "pattern": {"Regex": "(a|a)" * 300 + "[bc]"}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    tokenizer = read_tokenizer(json.dumps(changed(pre_tokenizer=split)))
    text = "a" * 400
    for encode in (lambda: tokenizer.encode([text]), lambda: tokenizer.align(text)):
        with pytest.raises(ValueError, match=r"cannot encode the texts \(.*retry-limit.*\)$") as e:
            encode()
        assert "\n" not in str(e.value)


def test_an_interruption_is_not_an_error_of_the_library():
    with pytest.raises(KeyboardInterrupt), raise_as_tokenizer_error():
        raise KeyboardInterrupt


@pytest.mark.parametrize("vocabulary", [["[UNK]", "a", "a"], ["[UNK]", 1], "ab", [], ["a"]])
def test_a_vocabulary_of_words_has_different_strings(vocabulary):
    content = {"kind": "hyperagg.WordTokenizer", "features": "words", "vocabulary": vocabulary}
    with pytest.raises(ValueError, match="vocabulary: expected"):
        read_tokenizer(json.dumps(content))
